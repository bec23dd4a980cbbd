// All registered models.

import { get } from './api.js';
import { follow, h, replace } from './dom.js';
import { count } from './format.js';
import { repeat } from './live.js';
import { empty, tell } from './notice.js';
import { pageHead, time } from './parts.js';
import { hashOf } from './router.js';
import { pager, table } from './table.js';

const REFRESH_MS = 10_000;

/** The page `#/models`. */
export function modelsPage() {
  const errors = h('div', {});
  const nothing = h('div', {});
  const list = table('Models', ['model', 'aliases', '>versions', '>latest', '>changed']);
  const pages = pager('Pages of models', () => asking.again()).named('← Previous', 'Next →');
  const asking = repeat(async (signal) => {
    try {
      const answer = await get('models', { cursor: pages.cursor }, signal);
      pages.loaded(answer.next);
      tell(errors, null);
      follow(list.body, answer.items, (item) => `${item.name}/${item.updated_ms}`, row);
      list.element.hidden = answer.items.length === 0;
      replace(nothing, answer.items.length === 0 ? empty('No model is registered yet. A pipeline with a `register` step makes one:', 'gristmill run pipeline.yaml') : null);
    } catch (error) {
      tell(errors, error, 'The models cannot be listed');
    }
  }, REFRESH_MS);
  return { title: 'Models', element: h('div', {}, pageHead('Models'), errors, list.element, nothing, pages.element), leave: () => asking.stop() };
}

function row(item) {
  return h('tr', {},
    h('th', { scope: 'row' }, h('a', { href: hashOf(['models', item.name]) }, item.name)),
    h('td', {}, aliasList(item.aliases)),
    h('td', { class: 'number' }, count(item.versions)),
    h('td', { class: 'number' }, count(item.latest)),
    h('td', { class: 'number' }, time(item.updated_ms)));
}

/** Aliases with the versions they name. */
export function aliasList(aliases) {
  const all = Object.entries(aliases ?? {});
  return all.length === 0 ? h('span', { class: 'note' }, 'none') : all.map(([alias, version], at) => [at > 0 ? ' ' : '', h('span', { class: 'tag' }, `${alias} → ${version}`)]);
}
