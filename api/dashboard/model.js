// One model: versions with their metrics, how these went, where its aliases have been; promoting and rolling back.

import { change, get, part } from './api.js';
import { confirm } from './dialog.js';
import { freshId, h, replace, setAttr } from './dom.js';
import { bytes, count, number, shortDigest, shortRun } from './format.js';
import { repeat } from './live.js';
import { say, tell } from './notice.js';
import { metricOrder } from './output.js';
import { copyable, note, pageHead, section, time } from './parts.js';
import { figure, overVersions } from './plots.js';
import { hashOf } from './router.js';
import { roleButton } from './session.js';
import { facts, table } from './table.js';
import { aliasList } from './models.js';

const REFRESH_MS = 10_000;
// Metrics that are drawn and stand in the table; the others are in the table of one version.
const METRICS_SHOWN = 4;
// Versions of a chart; beyond that the dots run into each other.
const VERSIONS_DRAWN = 200;
const HISTORY_SHOWN = 50;

/** The page `#/models/{name}`; `?version=` marks one. */
export function modelPage(route) {
  const name = route.parts[1];
  const errors = h('div', {});
  const place = h('div', {});
  const head = pageHead(name, { kind: 'model', crumbs: [['Models', '#/models']], actions: [] });
  const actions = head.querySelector('.actions');
  let told = null;
  let marked = route.query.get('version');
  const asking = repeat(async (signal) => {
    try {
      const model = await get(`models/${part(name)}`, {}, signal);
      tell(errors, null);
      const now = JSON.stringify(model);
      if (now !== told) {
        replace(actions, rollbackButtons(model, () => asking.again()));
        replace(place, content(model, marked, () => asking.again()));
      }
      told = now;
    } catch (error) {
      tell(errors, error, 'The model cannot be shown');
    }
  }, REFRESH_MS);
  return {
    title: name,
    element: h('div', {}, head, errors, place),
    turn(next) {
      if (next.parts[0] !== 'models' || next.parts[1] !== name) return false;
      marked = next.query.get('version');
      for (const row of place.querySelectorAll('[data-version]')) setAttr(row, 'class', row.dataset.version === marked ? 'marked' : null);
      return true;
    },
    leave: () => asking.stop(),
  };
}

function content(model, marked, again) {
  const versions = [...model.versions].sort((a, b) => b.version - a.version);
  const metrics = metricOrder(Object.assign({}, ...versions.map((version) => version.metrics)));
  return [
    model.description ? h('p', { class: 'lead' }, model.description) : null,
    facts([
      ['aliases', aliasList(model.aliases)],
      ['versions', count(versions.length)],
      ...Object.entries(model.tags ?? {}).map(([key, value]) => [key, value]),
    ]),
    charts(versions, metrics),
    section('Versions', versionTable(model, versions, metrics, marked, again)),
    section('Where the aliases have been', historyTable(model.history)),
  ];
}

function charts(versions, metrics) {
  const drawn = metrics.slice(0, METRICS_SHOWN).map((metric) => [metric, versions
    .filter((version) => !version.deleted && Number.isFinite(version.metrics[metric]))
    .slice(0, VERSIONS_DRAWN).reverse()
    .map((version) => ({ x: version.version, y: version.metrics[metric], alias: version.aliases.join(', ') }))])
    .filter(([, points]) => points.length > 1);
  if (drawn.length === 0) return null;
  return section('Metrics over versions', h('div', { class: 'charts two' }, drawn.map(([metric, points]) => figure(metric, overVersions(metric, points)))));
}

function versionTable(model, versions, metrics, marked, again) {
  const shown = metrics.slice(0, METRICS_SHOWN);
  const headings = ['version', 'aliases', ...shown.map((metric, at) => (at < 2 ? `>${metric}` : `~>${metric}`)), '~algorithm', '~>size', '~run', '>made', ''];
  return table('Versions', headings, versions.map((version) => h('tr', { 'data-version': version.version, class: String(version.version) === marked ? 'marked' : null },
    h('th', { scope: 'row' }, String(version.version), version.deleted ? h('small', {}, 'deleted') : h('small', {}, copyable(version.digest, shortDigest(version.digest).slice(0, 8), 'the digest'))),
    h('td', {}, version.aliases.map((alias, at) => [at > 0 ? ' ' : '', h('span', { class: 'tag' }, alias)])),
    shown.map((metric, at) => h('td', { class: `number${at < 2 ? '' : ' wide-only'}` }, number(version.metrics[metric]))),
    h('td', { class: 'wide-only' }, version.algorithm),
    h('td', { class: 'number wide-only' }, bytes(version.bytes)),
    h('td', { class: 'wide-only' }, version.run ? h('a', { href: hashOf(['runs', version.run]) }, shortRun(version.run)) : '–'),
    h('td', { class: 'number' }, time(version.created_ms), h('small', {}, version.by)),
    h('td', { class: 'row-actions' }, version.deleted ? null : roleButton('Promote', { role: 'deployer', cluster: true, onclick: () => promote(model, version, again) }))))).element;
}

function historyTable(history) {
  if (history.length === 0) return note('No alias has been given yet. ', h('code', {}, 'gristmill promote NAME VERSION'), ' gives one.');
  const rows = [...history].sort((a, b) => b.at_ms - a.at_ms).slice(0, HISTORY_SHOWN).map((each) => h('tr', {},
    h('th', { scope: 'row' }, each.alias),
    h('td', {}, each.from === null ? `given to ${each.to}` : each.to === null ? `taken from ${each.from}` : `${each.from} → ${each.to}`),
    h('td', { class: 'sentence' }, each.why ?? ''),
    h('td', { class: 'wide-only' }, each.by),
    h('td', { class: 'number' }, time(each.at_ms))));
  return [
    table('Where the aliases have been', ['alias', 'versions', 'why', '~by', '>when'], rows).element,
    history.length > HISTORY_SHOWN ? note(`${history.length - HISTORY_SHOWN} earlier ones are left out.`) : null,
  ];
}

function promote(model, version, again) {
  const alias = h('input', { id: freshId('alias'), value: 'champion', required: true, maxlength: '63', spellcheck: 'false', pattern: '[a-z][a-z0-9_\\-]*' });
  const dialog = confirm({
    heading: `Promote ${model.name} version ${version.version}?`,
    text: h('span', {}, 'Who asks for the alias is answered by this version within a second. ', standing(model)),
    verb: 'Promote',
    why: true,
    act: async (why) => {
      const moved = await change('POST', `models/${part(model.name)}/promote`, { version: version.version, alias: alias.value.trim(), why });
      say(`${moved.alias} is ${moved.name} version ${moved.to} now.`);
      again();
    },
  });
  dialog.querySelector('.field').before(h('div', { class: 'field' }, h('label', { for: alias.id }, 'Alias'), alias));
}

function standing(model) {
  const champion = model.aliases?.champion;
  return champion === undefined ? 'There is no champion yet.' : `The champion is version ${champion}.`;
}

function rollbackButtons(model, again) {
  if (Object.keys(model.aliases ?? {}).length === 0) return [];
  return [roleButton('Roll back…', { role: 'deployer', cluster: true, onclick: () => rollback(model, again) })];
}

function rollback(model, again) {
  const alias = h('select', { id: freshId('alias') }, Object.keys(model.aliases).map((name) => h('option', { value: name }, name)));
  const dialog = confirm({
    heading: `Roll ${model.name} back?`,
    text: 'The alias goes back to the version it named before.',
    verb: 'Roll back',
    why: true,
    danger: true,
    act: async (why) => {
      const moved = await change('POST', `models/${part(model.name)}/rollback`, { alias: alias.value, why });
      say(`${moved.alias} is ${moved.name} version ${moved.to} again.`);
      again();
    },
  });
  dialog.querySelector('.field').before(h('div', { class: 'field' }, h('label', { for: alias.id }, 'Alias'), alias));
}
