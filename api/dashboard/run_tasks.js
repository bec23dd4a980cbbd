// The tasks of a run, a page at a time: a run may have a hundred thousand, and no more than a page is ever here.

import { get, part } from './api.js';
import { follow, freshId, h, replace } from './dom.js';
import { count } from './format.js';
import { atMostEvery } from './live.js';
import { empty, tell } from './notice.js';
import { badge, section, setBadge } from './parts.js';
import { hashOf, keepQuery } from './router.js';
import { STEP_STATUSES } from './status.js';
import { pager, table } from './table.js';

const PAGE_ROWS = 50;
// A page that changes faster than this can't be read.
const REFRESH_MS = 1_000;

/** The view `#/runs/{run}/tasks`; `?step=` and `?status=` filter it. */
export function tasksView(run) {
  let leaving = new AbortController();
  let position = null;
  let started = false;
  const errors = h('div', {});
  const nothing = h('div', {});
  const list = table('Tasks', ['>task', 'name', '~step', 'status']);
  const pages = pager('Pages of tasks', () => load()).named('← Previous', 'Next →');
  const step = h('select', { id: freshId('step') }, h('option', { value: '' }, 'any'), run.steps.map((each) => h('option', { value: each.name }, each.name)));
  const status = h('select', { id: freshId('status') }, h('option', { value: '' }, 'any'), STEP_STATUSES.map((each) => h('option', { value: each }, each)));

  async function load() {
    leaving.abort();
    leaving = new AbortController();
    try {
      const query = { step: step.value, status: status.value, limit: PAGE_ROWS, cursor: pages.cursor };
      const answer = await get(`runs/${part(run.run)}/tasks`, query, leaving.signal);
      pages.loaded(answer.next);
      tell(errors, null);
      follow(list.body, answer.items, (item) => item.task, (item) => row(run, item), (node, item) => setBadge(node.querySelector('.badge'), item.status));
      list.element.hidden = answer.items.length === 0;
      replace(nothing, answer.items.length === 0 ? empty(answer.next ? 'None on this page; the next may hold some.' : 'No task fits.') : null);
    } catch (error) {
      tell(errors, error, 'The tasks cannot be listed');
    }
  }
  const refresh = atMostEvery(REFRESH_MS, load);
  const refilter = () => {
    keepQuery({ step: step.value, status: status.value });
    pages.reset();
    load();
  };
  step.addEventListener('change', refilter);
  status.addEventListener('change', refilter);

  return {
    element: section('Tasks',
      h('form', { class: 'filters', onsubmit: (event) => event.preventDefault() },
        h('div', { class: 'field' }, h('label', { for: step.id }, 'Step'), step),
        h('div', { class: 'field' }, h('label', { for: status.id }, 'Status'), status)),
      errors, list.element, nothing, pages.element),
    update(news, route) {
      if (!started) {
        started = true;
        step.value = route.query.get('step') ?? '';
        status.value = route.query.get('status') ?? '';
      }
      if (position !== news.position) refresh();
      position = news.position;
    },
    leave() {
      refresh.stop();
      leaving.abort();
    },
  };
}

function row(run, item) {
  return h('tr', {},
    h('td', { class: 'number' }, count(item.task)),
    h('th', { scope: 'row' }, h('a', { href: hashOf(['runs', run.run, 'tasks', String(item.task)]) }, item.name)),
    h('td', { class: 'wide-only' }, item.step),
    h('td', {}, badge(item.status)));
}
