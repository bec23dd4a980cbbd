// Messages that couldn't be understood or delivered: what they hold, back into their queue, or away.

import { change, get, part } from './api.js';
import { confirm } from './dialog.js';
import { follow, freshId, h, replace } from './dom.js';
import { bytes, counted } from './format.js';
import { atMostEvery, repeat } from './live.js';
import { empty, say, tell } from './notice.js';
import { note, pageHead, time } from './parts.js';
import { keepQuery } from './router.js';
import { roleButton } from './session.js';
import { pager } from './table.js';

const REFRESH_MS = 10_000;
const TYPING_MS = 250;
// The API sends this much of a message's body.
const BODY_BYTES_SHOWN = 4_096;

/** The page `#/dead-letters`. */
export function deadLettersPage(route) {
  const errors = h('div', {});
  const nothing = h('div', {});
  const list = h('div', { class: 'letters' });
  const queue = h('input', { id: freshId('queue'), value: route.query.get('queue') ?? '', spellcheck: 'false', maxlength: '255', 'data-key': '/' });
  const asking = repeat(async (signal) => {
    try {
      const answer = await get('dead-letters', { queue: queue.value.trim(), cursor: pages.cursor }, signal);
      pages.loaded(answer.next);
      tell(errors, null);
      follow(list, answer.items, (item) => item.id, (item) => letter(item, () => asking.again()));
      replace(nothing, answer.items.length === 0 ? empty(queue.value ? 'Nothing is kept of that queue.' : 'No dead letters: every message was understood.') : null);
    } catch (error) {
      tell(errors, error, 'The dead letters cannot be listed');
    }
  }, REFRESH_MS);
  const pages = pager('Pages of dead letters', () => asking.again()).named('← Previous', 'Next →');
  const refilter = atMostEvery(TYPING_MS, () => {
    keepQuery({ queue: queue.value.trim() });
    pages.reset();
    asking.again();
  });
  queue.addEventListener('input', refilter);
  return {
    title: 'Dead letters',
    element: h('div', {}, pageHead('Dead letters'),
      h('form', { class: 'filters', onsubmit: (event) => event.preventDefault() }, h('div', { class: 'field' }, h('label', { for: queue.id }, 'Queue'), queue)),
      errors, list, nothing, pages.element),
    leave() {
      refilter.stop();
      asking.stop();
    },
  };
}

function letter(item, again) {
  const requeue = () => confirm({
    heading: 'Put it back into its queue?',
    text: `It is read again by whoever takes from ${item.queue}. If nothing has changed there, it comes back.`,
    verb: 'Requeue',
    act: async () => {
      await change('POST', `dead-letters/${part(item.id)}/requeue`);
      say('The message is in its queue again.');
      again();
    },
  });
  const drop = () => confirm({
    heading: 'Drop the message?',
    text: `${counted(item.bytes, 'byte')} of ${item.queue} are gone for good.`,
    verb: 'Drop',
    danger: true,
    act: async () => {
      await change('DELETE', `dead-letters/${part(item.id)}`);
      say('The message is gone.');
      again();
    },
  });
  return h('section', { 'aria-label': `Message of ${item.queue}`, 'data-letter': item.id },
    h('div', { class: 'page-head' },
      h('div', {}, h('h2', {}, item.queue), h('p', {}, item.reason)),
      h('div', { class: 'actions' },
        roleButton('Requeue…', { of: `the message of ${item.queue}`, role: 'deployer', cluster: true, onclick: requeue }),
        roleButton('Drop…', { of: `the message of ${item.queue}`, role: 'admin', cluster: true, style: 'danger', onclick: drop }))),
    h('p', { class: 'note' }, item.at_ms ? [time(item.at_ms), ', '] : null, `${item.content_type || 'no content type'}, ${bytes(item.bytes)}`),
    h('details', {}, h('summary', {}, 'What it holds'),
      h('pre', { tabindex: '0', 'aria-label': 'the message' }, h('code', {}, pretty(item))),
      item.bytes > BODY_BYTES_SHOWN ? note('Its first 4 KiB.') : null));
}

/** JSON with indents; anything else, and JSON that is cut off, as it is. */
function pretty(item) {
  try {
    return JSON.stringify(JSON.parse(item.body), null, 2);
  } catch {
    return item.body;
  }
}
