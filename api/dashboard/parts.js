// The small things that many pages show: badges, times, ids to copy, headings of pages and sections.

import { freshId, h, s, setAttr, setText } from './dom.js';
import { ago, moment } from './format.js';
import { say } from './notice.js';
import { choose, setting } from './settings.js';
import { look } from './status.js';

// Ages are told in seconds at the least; more often changes nothing that one sees.
const AGES_MS = 5_000;

/** A state as a badge: sign, word and colour. */
export function badge(status) {
  return setBadge(h('span', {}, h('span', { 'aria-hidden': 'true' }), h('span', {})), status);
}

/** Shows another state in a badge. */
export function setBadge(node, status) {
  const { style, icon } = look(status);
  setAttr(node, 'class', `badge ${style}`);
  setText(node.firstChild, icon);
  setText(node.lastChild, status);
  return node;
}

/** A point in time: how long ago it was, the date when one points at it, or the other way round (key `t`). */
export function time(ms) {
  if (ms === null || ms === undefined) return '–';
  return setTime(h('time', {}), ms);
}

/** Shows another point in time in a `time` element. */
export function setTime(node, ms) {
  setAttr(node, 'datetime', new Date(ms).toISOString());
  const absolute = setting('times', 'relative') === 'absolute';
  setText(node, absolute ? moment(ms) : ago(ms));
  setAttr(node, 'data-other', absolute ? ago(ms) : moment(ms));
  return node;
}

function refreshTimes() {
  for (const node of document.querySelectorAll('time[datetime]')) setTime(node, Date.parse(node.dateTime));
}

/** Keeps all ages on the page true. */
export function keepTimes() {
  setInterval(refreshTimes, AGES_MS);
}

/** Shows dates in place of ages, or ages in place of dates. */
export function switchTimes() {
  choose('times', setting('times', 'relative') === 'absolute' ? 'relative' : 'absolute');
  refreshTimes();
  say(`Times are ${setting('times', 'relative')}.`, 'is-idle');
}

/** An id, shown short, that can be copied whole. */
export function copyable(text, shown, what) {
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      say(`Copied ${what}.`);
    } catch {
      say(`The browser doesn't allow copying: ${text}`, 'is-rejected');
    }
  };
  return h('button', { type: 'button', class: 'copy', title: text, onclick: copy },
    h('span', { class: 'unseen' }, `Copy ${what} `), h('code', {}, shown), copySign());
}

function copySign() {
  return s('svg', { class: 'copy-sign', viewBox: '0 0 12 12', width: 12, height: 12, 'aria-hidden': 'true' },
    s('rect', { x: 4, y: 0.75, width: 7.25, height: 7.25, rx: 1.5 }), s('path', { d: 'M2.5 4H2.2A1.45 1.45 0 0 0 .75 5.45v4.35a1.45 1.45 0 0 0 1.45 1.45h4.35A1.45 1.45 0 0 0 8 9.8v-.3' }));
}

/** The head of a page: where it is, its name, and what can be done with it. */
export function pageHead(heading, { kind, actions = [], crumbs = [] } = {}) {
  return h('div', { class: 'page-head' },
    h('div', { class: 'page-name' },
      crumbs.length > 0 ? h('nav', { 'aria-label': 'Where this is', class: 'crumbs' },
        crumbs.map(([name, hash]) => [h('a', { href: hash }, name), h('span', { 'aria-hidden': 'true' }, ' / ')]), kind) : null,
      h('h1', {}, heading)),
    h('div', { class: 'actions' }, actions));
}

/** A section with its heading. */
export function section(heading, ...children) {
  const id = freshId('section');
  return h('section', { 'aria-labelledby': id }, h('h2', { id }, heading), children);
}

/** A sentence on what is or isn't there. */
export function note(...text) {
  return h('p', { class: 'note' }, text);
}

/** A bar that is so full, from 0 to 1; for eyes alone, the number stands beside it. */
export function meter(share, style = '') {
  const bar = h('span', { class: `meter ${style}`, 'aria-hidden': 'true' }, h('span', {}));
  setMeter(bar, share);
  return bar;
}

/** Fills a bar otherwise. */
export function setMeter(bar, share) {
  const width = Number.isFinite(share) ? Math.min(Math.max(share, 0), 1) : 0;
  bar.firstChild.style.setProperty('inline-size', `${(width * 100).toFixed(2)}%`);
}
