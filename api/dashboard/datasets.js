// Datasets that recent runs have made.

import { get } from './api.js';
import { follow, h, replace } from './dom.js';
import { count, shortDigest, shortRun } from './format.js';
import { empty, tell } from './notice.js';
import { pageHead, time } from './parts.js';
import { hashOf } from './router.js';
import { pager, table } from './table.js';

/** The page `#/datasets`. */
export function datasetsPage() {
  const leaving = new AbortController();
  const errors = h('div', {});
  const nothing = h('div', {});
  const list = table('Datasets', ['dataset', '>rows', 'run', '~digest', '>made']);
  const pages = pager('Pages of datasets', load);
  async function load(cursor) {
    try {
      const answer = await get('datasets', { cursor }, leaving.signal);
      pages.loaded(answer.next);
      tell(errors, null);
      follow(list.body, answer.items, (item) => `${item.run}/${item.step}/${item.part ?? ''}`, row);
      list.element.hidden = answer.items.length === 0;
      replace(nothing, answer.items.length === 0 ? empty('There are no datasets yet. A run with an `ingest` step makes one:', 'gristmill run pipeline.yaml') : null);
    } catch (error) {
      tell(errors, error, 'The datasets cannot be listed');
    }
  }
  load(null);
  return { title: 'Datasets', element: h('div', {}, pageHead('Datasets'), errors, list.element, nothing, pages.element), leave: () => leaving.abort() };
}

function row(item) {
  return h('tr', {},
    h('th', { scope: 'row' }, h('a', { href: hashOf(['datasets', item.digest], { step: item.step, part: item.part, run: item.run }) }, item.part ? `${item.step}.${item.part}` : item.step), h('small', {}, item.pipeline)),
    h('td', { class: 'number' }, count(item.rows)),
    h('td', {}, h('a', { href: hashOf(['runs', item.run]) }, h('code', {}, shortRun(item.run)))),
    h('td', { class: 'wide-only' }, h('code', {}, shortDigest(item.digest))),
    h('td', { class: 'number' }, time(item.made_ms)));
}
