// Keys: which there are, what they do, and the dialog that lists them. They can be switched off, for those whose
// speech or other input types single letters.

import { openDialog } from './dialog.js';
import { h } from './dom.js';
import { switchTimes } from './parts.js';
import { go } from './router.js';
import { choose, setting } from './settings.js';

// The second key of `g r` and the like must follow within this.
const SEQUENCE_MS = 1_500;

const PLACES = {
  r: ['Runs', '#/runs'],
  m: ['Models', '#/models'],
  d: ['Datasets', '#/datasets'],
  e: ['Endpoints', '#/endpoints'],
  p: ['Pools', '#/pools'],
  s: ['Schedules', '#/schedules'],
  l: ['Dead letters', '#/dead-letters'],
  a: ['Access', '#/access'],
};

const on = () => setting('shortcuts', 'on') === 'on';

/** Listens for keys wherever nothing is being typed. */
export function startShortcuts() {
  let goingSince = 0;
  document.addEventListener('keydown', (event) => {
    const typing = event.target.closest?.('input, textarea, select, [contenteditable]');
    if (typing || event.ctrlKey || event.metaKey || event.altKey || document.querySelector('dialog[open]')) return;
    if (event.key === '?') {
      event.preventDefault();
      showShortcuts();
      return;
    }
    if (!on()) return;
    const going = performance.now() - goingSince < SEQUENCE_MS;
    goingSince = 0;
    if (going && PLACES[event.key]) go(PLACES[event.key][1]);
    else if (event.key === 'g') goingSince = performance.now();
    else if (event.key === 't') switchTimes();
    else if (/^[1-9]$/.test(event.key)) document.querySelectorAll('.views a')[Number(event.key) - 1]?.click();
    else if (event.key === 'n') press('[data-key=n]', event);
    else if (event.key === '/') focus('[data-key="/"]', event);
    else if (event.key === 'j' || event.key === 'k') step(event.key === 'j' ? 1 : -1, event);
  });
}

function press(selector, event) {
  const button = document.querySelector(selector);
  if (button === null) return;
  event.preventDefault();
  button.click();
}

function focus(selector, event) {
  const field = document.querySelector(selector);
  if (field === null) return;
  event.preventDefault();
  field.focus();
  field.select?.();
}

/** Moves the focus along the links that begin a table's rows. */
function step(by, event) {
  const links = [...document.querySelectorAll('main tbody th a')];
  if (links.length === 0) return;
  event.preventDefault();
  const at = links.indexOf(document.activeElement);
  links[at < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(Math.max(at + by, 0), links.length - 1)].focus();
}

/** The list of keys. */
export function showShortcuts() {
  if (document.querySelector('dialog[open]')) return;
  const row = (keys, text) => h('tr', {},
    h('td', { class: 'keys' }, keys.map((key, at) => [at > 0 ? ' ' : '', h('kbd', {}, key)])), h('td', {}, text));
  openDialog('Shortcuts', () => {
    const box = h('input', { type: 'checkbox', checked: on(), onchange: (event) => choose('shortcuts', event.target.checked ? 'on' : 'off') });
    return h('div', { class: 'dialog-body' },
      h('table', { class: 'shortcuts' },
        h('caption', {}, 'Keys and what they do'),
        h('tbody', {},
          Object.entries(PLACES).map(([key, [name]]) => row(['g', key], name)),
          row(['1', '…', '5'], 'views of a run'),
          row(['j', 'k'], 'next and previous row'),
          row(['/'], 'search'),
          row(['n'], 'submit a pipeline'),
          row(['t'], 'dates in place of ages, and back'),
          row(['+', '−', '←', '→', '0'], 'in the timeline: nearer, farther, along, all of it'),
          row(['?'], 'this list'),
          row(['Esc'], 'close a dialog or the menu'))),
      h('label', { class: 'check' }, box, ' Single letters are shortcuts'));
  });
}
