// Tables and what belongs to them: a region that scrolls on its own, headings, pages by cursor.

import { h, replace } from './dom.js';

/**
 * A table in a region that scrolls sideways, so that the page never does. Headings: `>` before one says that numbers
 * stand under it, `~` that it is left out on narrow screens.
 */
export function table(caption, headings, rows) {
  const body = h('tbody', {}, rows ?? []);
  const head = headings.map((heading) => {
    const { name, style } = columnStyle(heading);
    return name === '' ? h('td', { class: style }) : h('th', { scope: 'col', class: style }, name);
  });
  const element = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': `table: ${caption}` },
    h('table', {}, h('caption', {}, caption), h('thead', {}, h('tr', {}, head)), body));
  return { element, body };
}

function columnStyle(heading) {
  const marks = /^[>~]*/.exec(heading)[0];
  const style = [marks.includes('>') ? 'number' : '', marks.includes('~') ? 'wide-only' : ''].join(' ').trim();
  return { name: heading.slice(marks.length), style: style || null };
}

/** Pages of a list by cursor: `load(cursor)` is asked for each. The cursors of pages that were seen are kept. */
export function pager(label, load) {
  let cursors = [null];
  let next = null;
  const back = h('button', { type: 'button', onclick: () => turn(-1) }, '← Newer');
  const forth = h('button', { type: 'button', onclick: () => turn(1) }, 'Older →');
  const where = h('span', { class: 'note' });
  const element = h('nav', { class: 'pager', 'aria-label': label }, back, where, forth);

  const turn = (by) => {
    if (by < 0 && cursors.length > 1) cursors.pop();
    else if (by > 0 && next !== null) cursors.push(next);
    else return;
    load(cursors.at(-1));
  };
  const show = () => {
    back.disabled = cursors.length === 1;
    forth.disabled = next === null;
    replace(where, `page ${cursors.length}`);
    element.hidden = cursors.length === 1 && next === null;
  };
  show();
  return {
    element,
    /** The cursor of the page that is shown; `null` for the first. */
    get cursor() {
      return cursors.at(-1);
    },
    /** Names the two directions, where the list isn't ordered by time. */
    named(before, after) {
      back.textContent = before;
      forth.textContent = after;
      return this;
    },
    /** Takes note of where the next page begins. */
    loaded(nextCursor) {
      next = nextCursor;
      show();
    },
    /** Back to the first page, as when the filter changes. */
    reset() {
      cursors = [null];
      next = null;
      show();
    },
  };
}

/** Names and values beside or above each other. Values that are `null` are left out. */
export function facts(entries) {
  return h('dl', { class: 'facts' }, entries.filter(([, value]) => value !== null && value !== undefined && value !== '')
    .map(([name, value]) => h('div', {}, h('dt', {}, name), h('dd', {}, value))));
}
