// What is said to a person: short notices in a live region, and errors where they belong, with what to try.

import { ApiError } from './api.js';
import { h, replace } from './dom.js';

// Long enough to read a sentence; it stays while it is pointed at or focused.
const NOTICE_MS = 6_000;
const NOTICES_MAX = 4;

/** Says something that has happened. Screen readers hear it without losing their place. */
export function say(text, style = 'is-good') {
  const region = document.getElementById('notices');
  // A modal dialog makes everything beside it inert, so the notice goes inside.
  const dialog = [...document.querySelectorAll('dialog[open]')].pop();
  (dialog ?? document.body).append(region);
  const note = h('div', { class: `notice ${style}` }, text);
  const drop = () => {
    if (note.matches(':hover, :focus-within')) setTimeout(drop, NOTICE_MS);
    else note.remove();
  };
  note.append(h('button', { type: 'button', class: 'quiet', 'aria-label': 'Dismiss', onclick: () => note.remove() }, '✕'));
  region.append(note);
  while (region.childElementCount > NOTICES_MAX) region.firstElementChild.remove();
  setTimeout(drop, NOTICE_MS);
}

/** An error in the page, with its hint and the request that an operator can look up. */
export function problem(error, heading) {
  return h('div', { class: 'alert is-bad', role: 'alert' },
    h('p', { class: 'alert-heading' }, h('span', { 'aria-hidden': 'true' }, '✕ '), heading ? `${heading}: ` : '', error.message),
    error.hint ? h('p', { class: 'hint' }, 'hint: ', prose(error.hint)) : null,
    error.request ? h('p', { class: 'hint' }, 'request ', h('code', {}, error.request)) : null);
}

/** Shows an error in a place made for it, or takes it away. A wait that was ended on purpose is none. */
export function tell(place, error, heading) {
  if (error?.name === 'AbortError') return;
  // What isn't the API's word is a mistake of ours; the console tells where.
  if (error && !(error instanceof ApiError)) reportError(error);
  replace(place, error ? problem(error, heading) : null);
}

/** Text in which `code` between backticks is set as code. */
export function prose(text) {
  return String(text).split('`').map((piece, at) => (at % 2 === 1 ? h('code', {}, piece) : piece));
}

/** What stands where there is nothing yet, with what to type. */
export function empty(text, ...commands) {
  return h('div', { class: 'empty' },
    h('p', {}, prose(text)),
    commands.length > 0 ? h('pre', { tabindex: '0', 'aria-label': 'what to type' }, h('code', {}, commands.join('\n'))) : null);
}
