// Endpoints: what is behind the names that clients ask; and one of them with its canary and shadows compared.

import { get, part } from './api.js';
import { follow, h, replace } from './dom.js';
import { count, number, percent, seconds, who } from './format.js';
import { repeat } from './live.js';
import { empty, tell } from './notice.js';
import { meter, note, pageHead, section, time } from './parts.js';
import { hashOf } from './router.js';
import { facts, pager, table } from './table.js';

// Servers tell what they have seen every few seconds.
const REFRESH_MS = 5_000;
const CHANGES_SHOWN = 20;

/** The page `#/endpoints`. */
export function endpointsPage() {
  const errors = h('div', {});
  const nothing = h('div', {});
  const list = table('Endpoints', ['endpoint', 'champion', 'canary', '~shadows', '>changed']);
  const pages = pager('Pages of endpoints', () => asking.again()).named('← Previous', 'Next →');
  const asking = repeat(async (signal) => {
    try {
      const answer = await get('endpoints', { cursor: pages.cursor }, signal);
      pages.loaded(answer.next);
      tell(errors, null);
      follow(list.body, answer.items, (item) => JSON.stringify(item), row);
      list.element.hidden = answer.items.length === 0;
      replace(nothing, answer.items.length === 0 ? empty('There are no endpoints. One makes a model answer under a name:', 'gristmill endpoint set NAME --champion MODEL@champion') : null);
    } catch (error) {
      tell(errors, error, 'The endpoints cannot be listed');
    }
  }, REFRESH_MS);
  return { title: 'Endpoints', element: h('div', {}, pageHead('Endpoints'), errors, list.element, nothing, pages.element), leave: () => asking.stop() };
}

function row(item) {
  return h('tr', {},
    h('th', { scope: 'row' }, h('a', { href: hashOf(['endpoints', item.name]) }, item.name)),
    h('td', {}, modelLink(item.champion)),
    h('td', {}, item.canary ? [modelLink(item.canary.model), ` ${item.canary.taken_back ? 'taken back' : percent(item.canary.share)}`] : '–'),
    h('td', { class: 'wide-only' }, (item.shadows ?? []).length > 0 ? item.shadows.map((model, at) => [at > 0 ? ', ' : '', modelLink(model)]) : '–'),
    h('td', { class: 'number' }, time(item.updated_ms)));
}

/** `name@version` or `name@alias` as a link to the model. */
function modelLink(text) {
  const [name, version] = text.split('@');
  return h('a', { href: hashOf(['models', name], /^\d+$/.test(version ?? '') ? { version } : {}) }, text);
}

/** The page `#/endpoints/{name}`. */
export function endpointPage(route) {
  const name = route.parts[1];
  const errors = h('div', {});
  const place = h('div', {});
  let told = null;
  const asking = repeat(async (signal) => {
    try {
      const answer = await get(`endpoints/${part(name)}`, {}, signal);
      tell(errors, null);
      const now = JSON.stringify(answer);
      if (now !== told) replace(place, content(answer));
      told = now;
    } catch (error) {
      tell(errors, error, 'The endpoint cannot be shown');
    }
  }, REFRESH_MS);
  return {
    title: name,
    element: h('div', {}, pageHead(name, { kind: 'endpoint', crumbs: [['Endpoints', '#/endpoints']] }), errors, place),
    leave: () => asking.stop(),
  };
}

function content({ endpoint, changes, servers, shadows }) {
  return [
    traffic(endpoint),
    facts([
      ['champion', modelLink(endpoint.champion)],
      ['servers that have told of it', count(servers.length)],
      ['shadows may use', (endpoint.shadows ?? []).length > 0 ? `${percent(endpoint.shadow_core_share)} of a core each` : null],
    ]),
    endpoint.canary ? section('Canary', canary(endpoint.canary), sides(servers)) : null,
    (shadows ?? []).length > 0 ? section('Shadows', shadowTable(shadows)) : null,
    servers.length === 0 ? note('No server has told of it yet. ', h('code', {}, 'gristmill serve'), ' starts one.') : null,
    section('Changes', table('Changes, latest first', ['why', 'by', '>when'], [...changes].reverse().slice(0, CHANGES_SHOWN).map((change) => h('tr', {},
      h('th', { scope: 'row', class: 'sentence' }, change.why || 'no reason given'), h('td', {}, who(change.by)), h('td', { class: 'number' }, time(change.at))))).element),
  ];
}

/** Who answers how much of it, as a bar and in words. */
function traffic({ champion, canary: side }) {
  const share = side && !side.taken_back ? side.share : 0;
  const bar = h('div', { class: 'stack tall', 'aria-hidden': 'true' });
  for (const [style, part_] of [['c0', 1 - share], ['c1', share]]) {
    if (part_ === 0) continue;
    const span = h('span', { class: style });
    span.style.setProperty('inline-size', `${(part_ * 100).toFixed(2)}%`);
    bar.append(span);
  }
  return h('div', { class: 'traffic' }, bar, h('ul', { class: 'legend' },
    h('li', {}, h('span', { class: 'swatch c0', 'aria-hidden': 'true' }), ` ${champion} answers ${percent(1 - share)} of the keys`),
    share > 0 ? h('li', {}, h('span', { class: 'swatch c1', 'aria-hidden': 'true' }), ` canary ${side.model} answers ${percent(share)}`) : null));
}

function canary(side) {
  if (side.taken_back) {
    return h('div', { class: 'alert is-rejected' }, h('p', { class: 'alert-heading' }, h('span', { 'aria-hidden': 'true' }, '! '), `${side.model} was taken back `, time(side.taken_back.at)), h('p', {}, side.taken_back.reason));
  }
  return note(`It is taken back when it disagrees on more than ${percent(side.disagreement_max)} of the rows, when its p99 is more than ${number(side.latency_times)} times the champion's, or when it fails ${percent(side.failures_over)} more often.`);
}

function sides(servers) {
  const told = servers.filter((server) => server.canary && server.champion);
  if (told.length === 0) return note('No server has compared the two yet.');
  const rows = told.flatMap((server) => [['canary', server.canary], ['champion', server.champion]].map(([side, seen]) => h('tr', {},
    h('th', { scope: 'row' }, side, h('small', {}, `server ${server.server}, `, time(server.at_ms))),
    h('td', { class: 'number' }, count(seen.requests)),
    h('td', { class: 'number' }, seen.failed > 0 ? `${count(seen.failed)} (${percent(seen.failed / Math.max(seen.requests, 1))})` : '0'),
    h('td', { class: 'number' }, seconds(seen.p99_us / 1e6)),
    h('td', { class: 'number' }, count(seen.compared)),
    h('td', { class: 'number' }, seen.compared > 0 ? `${count(seen.disagreed)} (${percent(seen.disagreed / seen.compared)})` : '–'))));
  return table('The canary and the champion', ['side', '>requests', '>failed', '>p99', '>rows compared', '>differ'], rows).element;
}

const ADVICE = { promote: ['is-good', '✓ promote'], wait: ['is-idle', '○ wait'], keep: ['is-rejected', '! keep the champion'] };

function shadowTable(shadows) {
  const rows = shadows.map((shadow) => {
    const [style, words] = ADVICE[shadow.advice] ?? ['is-idle', shadow.advice];
    const each = (total) => (shadow.requests > 0 ? seconds(total / shadow.requests) : '–');
    return h('tr', {},
      h('th', { scope: 'row' }, modelLink(shadow.model)),
      h('td', {}, h('span', { class: `badge ${style}` }, words), h('small', {}, shadow.because)),
      h('td', { class: 'number' }, count(shadow.requests), shadow.failed + shadow.dropped > 0 ? h('small', {}, `${count(shadow.failed)} failed, ${count(shadow.dropped)} had no time`) : null),
      h('td', { class: 'number' }, shadow.agreement === null ? '–' : [percent(shadow.agreement), ' ', meter(shadow.agreement, 'inline')]),
      h('td', { class: 'number' }, shadow.mean_absolute_difference === null ? '–' : number(shadow.mean_absolute_difference)),
      h('td', { class: 'number' }, each(shadow.seconds), h('small', {}, `beside ${each(shadow.live_seconds)}`)));
  });
  return table('Shadows beside the champion', ['shadow', 'advice', '>requests', '>agrees on', '>mean difference', '>a request'], rows).element;
}
