// All runs, newest first: live, filtered, in pages.

import { address, get } from './api.js';
import { follow, freshId, h, replace, setText } from './dom.js';
import { isOpen, RUN_STATUSES } from './status.js';
import { now, seconds, shortRun } from './format.js';
import { atMostEvery, stream } from './live.js';
import { empty, tell } from './notice.js';
import { badge, pageHead, setBadge, time } from './parts.js';
import { hashOf, keepQuery } from './router.js';
import { roleButton } from './session.js';
import { openSubmit } from './submit.js';
import { pager, table } from './table.js';

const PAGE_ROWS = 50;
// Time that somebody who types leaves between letters.
const TYPING_MS = 250;
// How long open runs have gone on is told to the second.
const TICK_MS = 1_000;

/** The page `#/runs`. */
export function runsPage(route) {
  const filter = { status: '', pipeline: '', search: '', ...Object.fromEntries(route.query) };
  let items = [];
  let leaving = new AbortController();

  const errors = h('div', {});
  const { element: region, body } = table('Runs', ['run', 'status', '~namespace', '~>took', '>started']);
  const nothing = h('div', {});
  const live = h('p', { class: 'live', role: 'status' });
  const pages = pager('Pages of runs', load);
  const names = h('datalist', { id: freshId('pipelines') });
  const known = new Set();

  async function load(cursor) {
    leaving.abort();
    leaving = new AbortController();
    try {
      const answer = await get('runs', { ...filter, limit: PAGE_ROWS, cursor }, leaving.signal);
      items = answer.items;
      pages.loaded(answer.next);
      tell(errors, null);
      draw();
    } catch (error) {
      tell(errors, error, 'The runs cannot be listed');
    }
  }

  function draw() {
    follow(body, items, (item) => item.run, row, update);
    for (const { pipeline } of items) {
      if (known.has(pipeline)) continue;
      known.add(pipeline);
      names.append(h('option', { value: pipeline }));
    }
    region.hidden = items.length === 0;
    const filtered = filter.status || filter.pipeline || filter.search;
    if (items.length > 0) replace(nothing);
    else if (filtered || pages.cursor !== null) replace(nothing, empty('No run fits. Take a filter away to see more.'));
    else replace(nothing, empty('There are no runs yet. Start one here, or in a terminal:', 'gristmill run pipeline.yaml'));
  }

  /** Runs that are new or have changed. On the first page new ones come in at the top; elsewhere rows only change. */
  function changed(news) {
    for (const item of news) {
      const at = items.findIndex((each) => each.run === item.run);
      if (at >= 0) {
        if (fits(item, filter)) items[at] = item;
        else items.splice(at, 1);
      } else if (pages.cursor === null && fits(item, filter)) {
        items.push(item);
      }
    }
    items.sort((a, b) => b.created_ms - a.created_ms || (a.run < b.run ? 1 : -1));
    items.length = Math.min(items.length, PAGE_ROWS);
    draw();
  }

  const search = h('input', { id: freshId('search'), type: 'search', value: filter.search, maxlength: '100', spellcheck: 'false', 'data-key': '/', placeholder: 'end of an id, or a name' });
  const pipeline = h('input', { id: freshId('pipeline'), value: filter.pipeline, list: names.id, maxlength: '100', spellcheck: 'false' });
  const status = h('select', { id: freshId('status') }, h('option', { value: '' }, 'any'), RUN_STATUSES.map((each) => h('option', { value: each }, each)));
  status.value = filter.status;
  const refilter = atMostEvery(TYPING_MS, () => {
    Object.assign(filter, { status: status.value, pipeline: pipeline.value.trim(), search: search.value.trim() });
    keepQuery(filter);
    pages.reset();
    load(null);
  });
  search.addEventListener('input', refilter);
  pipeline.addEventListener('input', refilter);
  status.addEventListener('change', refilter);

  const submit = roleButton('Submit a pipeline', { role: 'submitter', style: 'primary', onclick: () => openSubmit() });
  submit.setAttribute('data-key', 'n');
  const element = h('div', {},
    pageHead('Runs', { actions: [submit] }),
    h('form', { class: 'filters', role: 'search', onsubmit: (event) => event.preventDefault() },
      h('div', { class: 'field' }, h('label', { for: search.id }, 'Search'), search),
      h('div', { class: 'field' }, h('label', { for: pipeline.id }, 'Pipeline'), pipeline, names),
      h('div', { class: 'field' }, h('label', { for: status.id }, 'Status'), status),
      live),
    errors, region, nothing, pages.element);

  load(null);
  const stop = stream(address('events'), { runs: ({ items: news }) => changed(news) }, (open) => showLive(live, open));
  const ticking = setInterval(() => {
    for (const item of items) if (isOpen(item.status)) tick(body, item);
  }, TICK_MS);
  return {
    title: 'Runs',
    element,
    leave() {
      leaving.abort();
      refilter.stop();
      clearInterval(ticking);
      stop();
    },
  };
}

function fits(item, { status, pipeline, search }) {
  if (status !== '' && item.status !== status) return false;
  if (pipeline !== '' && item.pipeline !== pipeline) return false;
  return search === '' || item.run.endsWith(search) || item.pipeline.includes(search);
}

function took(item) {
  return seconds(((item.ended_ms ?? now()) - item.created_ms) / 1000);
}

function row(item) {
  return h('tr', { 'data-run': item.run },
    h('th', { scope: 'row' }, h('a', { href: hashOf(['runs', item.run]) }, item.pipeline), h('small', { class: 'beside' }, h('code', {}, shortRun(item.run)))),
    h('td', {}, badge(item.status)),
    h('td', { class: 'wide-only' }, item.namespace),
    h('td', { class: 'number wide-only', 'data-took': true }, took(item)),
    h('td', { class: 'number' }, time(item.created_ms), h('small', { class: 'narrow-only', 'data-took': true }, took(item))));
}

function update(node, item) {
  setBadge(node.querySelector('.badge'), item.status);
  for (const place of node.querySelectorAll('[data-took]')) setText(place, took(item));
}

function tick(body, item) {
  const node = body.querySelector(`[data-run="${CSS.escape(item.run)}"]`);
  if (node) update(node, item);
}

/** Whether what one sees is live, in a sign and a word. */
export function showLive(node, open) {
  node.classList.toggle('is-on', open);
  setText(node, open ? '● live' : '○ connecting again…');
}
