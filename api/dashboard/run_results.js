// What a run has made: models with their metrics, checks, evaluations, datasets, scores. Documents behind digests are
// fetched when somebody opens them.

import { artifactJson } from './api.js';
import { checkReport } from './checks.js';
import { follow, h, replace } from './dom.js';
import { bytes, count, counted, number, percent, shortDigest } from './format.js';
import { evidenceView, metricTable } from './evidence.js';
import { empty, problem } from './notice.js';
import { datasetLink, madeText, metricOrder, versionLink } from './output.js';
import { copyable, note, section } from './parts.js';
import { facts, table } from './table.js';

// Metrics that stand large at the top.
const TILES_MAX = 5;

/** The view `#/runs/{run}/results`. */
export function resultsView(run) {
  const leaving = new AbortController();
  const tilesPlace = h('div', {});
  const list = h('div', {});
  const nothing = h('div', {});
  let told = null;
  const made = (each) => each.output && each.output.made !== 'nothing';
  return {
    element: h('div', {}, tilesPlace, list, nothing),
    update(news) {
      const steps = news.steps.filter((step) => made(step) || rejectedDigests(step).length > 0);
      follow(list, steps, (step) => `${step.name}/${step.status}`, (step) => result(step, leaving.signal));
      replace(nothing, steps.length === 0 ? empty('Nothing has been made yet.') : null);
      const models = JSON.stringify(news.models);
      if (told !== models) replace(tilesPlace, news.models.map(tiles));
      told = models;
    },
    leave: () => leaving.abort(),
  };
}

/** The numbers that people came for. */
function tiles(model) {
  const version = model.version ? `version ${model.version}${model.alias ? `, now ${model.alias}` : ''}` : 'not registered';
  return h('div', { class: 'tiles' },
    h('div', { class: 'tile wide' },
      h('span', { class: 'tile-name' }, model.name),
      h('span', { class: 'tile-value' }, model.version ? versionLink(model.name, model.version) : null, model.version ? ` ${version}` : version)),
    metricOrder(model.metrics).slice(0, TILES_MAX).map((name) => h('div', { class: 'tile' },
      h('span', { class: 'tile-name' }, name), h('span', { class: 'tile-value' }, number(model.metrics[name])))));
}

/** What a rejected step has measured isn't an output; its message names it. */
function rejectedDigests(step) {
  if (step.status !== 'rejected' || !['validate', 'expect'].includes(step.kind)) return [];
  return step.error?.message.match(/sha256:[0-9a-f]{64}/g) ?? [];
}

function result(step, signal) {
  const output = step.output;
  if (!output) {
    return section(`${step.name}: rejected`, note(step.error.message), rejectedDigests(step).map((digest) => step.kind === 'expect'
      ? later('The expectations', () => artifactJson(digest, signal), (report) => checkReport(step.name, report))
      : later('What was measured', () => artifactJson(digest, signal), (evidence) => evidenceView(step.name, evidence))));
  }
  return section(step.name, content(step, output, signal));
}

function content(step, output, signal) {
  switch (output.made) {
    case 'dataset': return [
      h('p', {}, 'A dataset of ', datasetLink(output.dataset, counted(output.dataset.rows, 'row')), '.'),
      quarantine(output.quarantine, 'line', 'read')];
    case 'checked': return [
      h('p', {}, datasetLink(output.dataset, counted(output.dataset.rows, 'row')), output.warnings > 0 ? `, with ${counted(output.warnings, 'warning')}.` : ' hold to the rules.'),
      later('The expectations', () => artifactJson(output.report, signal), (report) => checkReport(step.name, report))];
    case 'parts': return parts(step, output.parts);
    case 'model': return facts([
      ['algorithm', output.algorithm], ['size', bytes(output.bytes)], ['rows learned from', count(output.rows)],
      ['model', digest(output.model)], ['search', output.study ? digest(output.study) : null]]);
    case 'evaluation': return [
      metricTable(`Main metrics of ${step.name}`, output.metrics),
      output.warnings > 0 ? note(`${counted(output.warnings, 'warning')} to look at.`) : null,
      later('Gates and curves', () => artifactJson(output.evaluation, signal), (evidence) => evidenceView(step.name, evidence))];
    case 'version': return h('p', {}, 'Registered as ', versionLink(output.name, output.version), output.alias ? `, now ${output.alias}.` : '.');
    case 'scores': return [
      facts([['file', h('code', {}, output.path)], ['rows', count(output.rows)], ['size', bytes(output.bytes)],
        ['artifact', output.artifact ? h('a', { href: `v1/artifacts/${output.artifact}`, download: '' }, shortDigest(output.artifact)) : null]]),
      quarantine(output.quarantine, 'row', 'scored')];
    default: return h('p', {}, madeText(output));
  }
}

function digest(text) {
  return copyable(text, shortDigest(text), 'the digest');
}

function quarantine(lines, noun, verb) {
  if (!lines) return null;
  return note(`${counted(lines.lines, noun)} couldn't be ${verb}; the first of them are in artifact `, digest(lines.table), '.');
}

/** A split as one bar, cut where the parts are. */
function parts(step, all) {
  const rows = Object.values(all).reduce((sum, each) => sum + each.rows, 0);
  const share = (each) => each.rows / Math.max(rows, 1);
  return [
    h('div', { class: 'stack', 'aria-hidden': 'true' }, Object.values(all).map((each, at) => {
      const span = h('span', { class: `c${at % 6}` });
      span.style.setProperty('inline-size', `${(share(each) * 100).toFixed(2)}%`);
      return span;
    })),
    table(`Parts of ${step.name}`, ['part', '>rows', '>share'], Object.entries(all).map(([name, each], at) => h('tr', {},
      h('th', { scope: 'row' }, h('span', { class: `swatch c${at % 6}`, 'aria-hidden': 'true' }), ' ', datasetLink(each, name)),
      h('td', { class: 'number' }, count(each.rows)), h('td', { class: 'number' }, percent(share(each)))))).element,
  ];
}

/** Something behind a digest, fetched once it is opened. */
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
