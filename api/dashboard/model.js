// One model: versions with their metrics, how these went, where its aliases have been; promoting and rolling back.

import { change, get, part } from './api.js';
import { confirm } from './dialog.js';
import { freshId, h, replace } from './dom.js';
import { count, number, shortRun, who } from './format.js';
import { repeat } from './live.js';
import { aliasList } from './models.js';
import { say, tell } from './notice.js';
import { metricOrder } from './output.js';
import { note, pageHead, section, time } from './parts.js';
import { figure, overVersions } from './plots.js';
import { hashOf } from './router.js';
import { roleButton } from './session.js';
import { facts, table } from './table.js';
import { versionSection } from './version.js';

const REFRESH_MS = 10_000;
// Metrics that are drawn and stand in the table; one version's page has all of them.
const METRICS_SHOWN = 4;
// Versions of a chart and of the table; beyond that the dots run into each other.
const VERSIONS_SHOWN = 200;
const HISTORY_SHOWN = 50;

/** The page `#/models/{name}`; `?version=` opens one. */
export function modelPage(route) {
  const name = route.parts[1];
  const errors = h('div', {});
  const top = h('div', {});
  const opened = h('div', {});
  const rest = h('div', {});
  const head = pageHead(name, { kind: 'model', crumbs: [['Models', '#/models']], actions: [] });
  const leaving = new AbortController();
  let model = null;
  let told = null;
  let chosen = route.query.get('version');

  const open = () => {
    const version = model?.versions.find((each) => String(each.version) === chosen);
    replace(opened, version ? versionSection(version, leaving.signal) : null);
    for (const row of rest.querySelectorAll('[data-version]')) row.classList.toggle('marked', row.dataset.version === chosen);
  };
  const asking = repeat(async (signal) => {
    try {
      model = await get(`models/${part(name)}`, {}, signal);
      tell(errors, null);
      const now = JSON.stringify(model);
      if (now === told) return;
      told = now;
      replace(head.querySelector('.actions'), rollbackButtons(model, () => asking.again()));
      const versions = [...model.versions].sort((a, b) => b.version - a.version).slice(0, VERSIONS_SHOWN);
      const metrics = metricOrder(Object.assign({}, ...versions.map((version) => version.metrics)));
      replace(top, about(model), charts(versions, metrics));
      replace(rest, section('Versions', versionTable(model, versions, metrics, () => asking.again()),
        model.versions.length > versions.length ? note(`${count(model.versions.length - versions.length)} earlier ones are left out.`) : null),
      section('Where the aliases have been', historyTable(model.history)));
      open();
    } catch (error) {
      tell(errors, error, 'The model cannot be shown');
    }
  }, REFRESH_MS);
  return {
    title: name,
    element: h('div', {}, head, errors, top, opened, rest),
    turn(next) {
      if (next.parts[0] !== 'models' || next.parts[1] !== name) return false;
      chosen = next.query.get('version');
      open();
      opened.scrollIntoView({ block: 'nearest' });
      return true;
    },
    leave() {
      leaving.abort();
      asking.stop();
    },
  };
}

function about(model) {
  return [
    model.description ? h('p', { class: 'lead' }, model.description) : null,
    facts([
      ['aliases', aliasList(model.aliases)],
      ['versions', count(model.versions.length)],
      ...Object.entries(model.tags ?? {}),
    ]),
  ];
}

function charts(versions, metrics) {
  const drawn = metrics.slice(0, METRICS_SHOWN).map((metric) => [metric, versions
    .filter((version) => !version.deleted && Number.isFinite(version.metrics[metric])).reverse()
    .map((version) => ({ x: version.version, y: version.metrics[metric], alias: version.aliases.join(', ') }))])
    .filter(([, points]) => points.length > 1);
  if (drawn.length === 0) return null;
  return section('Metrics over versions', h('div', { class: 'charts two' }, drawn.map(([metric, points]) => figure(metric, overVersions(metric, points)))));
}

function versionTable(model, versions, metrics, again) {
  const shown = metrics.slice(0, METRICS_SHOWN);
  const headings = ['version', ...shown.map((metric, at) => (at < 1 ? `>${metric}` : `~>${metric}`)), '~algorithm', '~run', '~>made', ''];
  return table('Versions', headings, versions.map((version) => h('tr', { 'data-version': version.version },
    h('th', { scope: 'row' }, h('a', { href: hashOf(['models', model.name], { version: version.version }), 'aria-label': `version ${version.version}` }, String(version.version)), ' ',
      version.aliases.map((alias) => [h('span', { class: 'tag' }, alias), ' ']), version.deleted ? h('small', {}, 'deleted') : null),
    shown.map((metric, at) => h('td', { class: `number${at < 1 ? '' : ' wide-only'}` }, number(version.metrics[metric]))),
    h('td', { class: 'wide-only' }, version.algorithm),
    h('td', { class: 'wide-only' }, version.run ? h('a', { href: hashOf(['runs', version.run]) }, shortRun(version.run)) : '–'),
    h('td', { class: 'number wide-only' }, time(version.created_ms),
      // Who isn't said where the run beside it says it.
      version.by.startsWith('step ') ? null : h('small', {}, who(version.by))),
    h('td', { class: 'row-actions' }, version.deleted ? null
      : roleButton('Promote…', { of: `version ${version.version}`, role: 'deployer', cluster: true, onclick: () => promote(model, version, again) }))))).element;
}

function historyTable(history) {
  if (history.length === 0) return note('No alias has been given yet. ', h('code', {}, 'gristmill promote NAME VERSION'), ' gives one.');
  const known = (version) => version !== null && version !== undefined;
  const rows = [...history].sort((a, b) => b.at_ms - a.at_ms).slice(0, HISTORY_SHOWN).map((each) => h('tr', {},
    h('th', { scope: 'row' }, each.alias),
    h('td', {}, !known(each.to) ? `taken from ${each.from}` : known(each.from) ? `${each.from} → ${each.to}` : `given to ${each.to}`),
    h('td', { class: 'sentence' }, each.why ?? ''),
    h('td', { class: 'wide-only' }, who(each.by)),
    h('td', { class: 'number' }, time(each.at_ms))));
  return [
    table('Where the aliases have been', ['alias', 'versions', 'why', '~by', '>when'], rows).element,
    history.length > HISTORY_SHOWN ? note(`${count(history.length - HISTORY_SHOWN)} earlier ones are left out.`) : null,
  ];
}

function promote(model, version, again) {
  const alias = h('input', { id: freshId('alias'), value: 'champion', required: true, maxlength: '63', spellcheck: 'false' });
  const champion = model.aliases?.champion;
  const dialog = confirm({
    heading: `Promote ${model.name} version ${version.version}?`,
    text: `Who asks for the alias is answered by this version within a second. ${champion === undefined ? 'There is no champion yet.' : `The champion is version ${champion}.`}`,
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
