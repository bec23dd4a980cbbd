// What stands behind a digest, fetched once somebody opens it: reports and evidence can be large.

import { h, replace } from './dom.js';
import { problem } from './notice.js';
import { note } from './parts.js';

/** A part that opens: `load()` fetches what it holds, `show(loaded)` draws it. */
export function later(title, load, show) {
  const place = h('div', {}, note('Loading…'));
  let asked = false;
  const open = async (event) => {
    if (!event.target.open || asked) return;
    asked = true;
    try {
      replace(place, show(await load()));
    } catch (error) {
      if (error.name !== 'AbortError') replace(place, problem(error));
    }
  };
  return h('details', { ontoggle: open }, h('summary', {}, title), place);
}
