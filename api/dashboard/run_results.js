// What a run has made: models with their metrics, evaluations, checks, datasets, scores. Documents behind digests are
// fetched when somebody opens them.

import { artifactJson } from './api.js';
import { checkReport } from './checks.js';
import { h, replace } from './dom.js';
import { bytes, count, counted, number, percent, shortDigest } from './format.js';
import { evidenceView, metricFacts } from './evidence.js';
import { later } from './later.js';
import { empty, prose } from './notice.js';
import { metricOrder, versionLink } from './output.js';
import { badge, copyable, note, section } from './parts.js';
import { hashOf } from './router.js';
import { facts, table } from './table.js';

// Metrics that stand large at the top.
const TILES_MAX = 5;

/** The view `#/runs/{run}/results`. */
export function resultsView(run) {
  const leaving = new AbortController();
  // Each part is redrawn only when it tells something else, so that what was opened stays open.
  const parts = [tiles, evaluations, checks, models, datasets, scores].map((draw) => ({ draw, place: h('div', {}), told: null, key: 'null' }));
  const nothing = h('div', {});
  return {
    element: h('div', {}, parts.map((each) => each.place), nothing),
    update(news) {
      const told = JSON.stringify([news.models, news.steps.map((step) => [step.output, step.status, step.error])]);
      for (const each of parts) {
        if (each.told === told) continue;
        const drawn = each.draw(news, leaving.signal);
        const key = JSON.stringify(drawn?.key ?? null);
        if (each.key !== key) replace(each.place, drawn?.show() ?? []);
        each.key = key;
        each.told = told;
      }
      replace(nothing, parts.every((each) => each.key === 'null') ? empty('Nothing has been made yet.') : null);
    },
    leave: () => leaving.abort(),
  };
}

/** Steps that have made this, with what they have made. */
function outputs(run, made) {
  return run.steps.filter((step) => step.output?.made === made).map((step) => ({ step, output: step.output }));
}

/** The numbers that people came for. */
function tiles(run) {
  if (run.models.length === 0) return null;
  return { key: run.models, show: () => run.models.map(modelTiles) };
}

function modelTiles(model) {
  return h('div', { class: 'tiles' },
    h('div', { class: 'tile wide' },
      h('span', { class: 'tile-name' }, model.version ? versionLink(model.name, model.version) : model.name),
      h('span', { class: 'tile-value' }, model.version ? (model.alias ? `now ${model.alias}` : 'no alias') : 'not registered')),
    metricOrder(model.metrics).slice(0, TILES_MAX).map((name) => h('div', { class: 'tile' },
      h('span', { class: 'tile-name' }, name), h('span', { class: 'tile-value' }, number(model.metrics[name])))));
}

/** What a rejected step has measured isn't an output; its message names it. */
function rejected(run, kind) {
  return run.steps.filter((step) => step.status === 'rejected' && step.kind === kind && step.error)
    .map((step) => ({ step, digests: step.error.message.match(/sha256:[0-9a-f]{64}/g) ?? [] }));
}

function evaluations(run, signal) {
  const made = outputs(run, 'evaluation');
  const refused = rejected(run, 'validate');
  if (made.length + refused.length === 0) return null;
  const curves = (step, digest) => later('Gates, all metrics and curves', () => artifactJson(digest, signal), (evidence) => evidenceView(step.name, evidence));
  return {
    key: [made.map((each) => each.output), refused],
    show: () => section('Evaluation',
      made.map(({ step, output }) => [
        made.length + refused.length > 1 ? h('h3', {}, step.name) : null,
        metricFacts(output.metrics),
        output.warnings > 0 ? note(`${counted(output.warnings, 'warning')} to look at.`) : null,
        curves(step, output.evaluation)]),
      refused.map(({ step, digests }) => [rejection(step), digests.map((digest) => curves(step, digest))])),
  };
}

function rejection(step) {
  return h('div', {}, h('h3', {}, badge('rejected'), ' ', step.name), h('p', {}, prose(step.error.message)));
}

function checks(run, signal) {
  const made = outputs(run, 'checked');
  const refused = rejected(run, 'expect');
  if (made.length + refused.length === 0) return null;
  const rules = (step, digest) => later(`Expectations of ${step.name}`, () => artifactJson(digest, signal), (report) => checkReport(step.name, report));
  return {
    key: [made.map((each) => each.output), refused],
    show: () => section('Checks',
      made.map(({ step, output }) => [
        h('p', {}, h('strong', {}, step.name), ': ', counted(output.dataset.rows, 'row'), output.warnings > 0 ? `, accepted with ${counted(output.warnings, 'warning')}.` : ' hold to the rules.'),
        rules(step, output.report)]),
      refused.map(({ step, digests }) => [rejection(step), digests.map((digest) => rules(step, digest))])),
  };
}

function models(run) {
  const made = outputs(run, 'model');
  if (made.length === 0) return null;
  return {
    key: made.map((each) => each.output),
    show: () => section(made.length === 1 ? 'Model' : 'Models', table('Models', ['step', 'algorithm', '>size', '>learned from', '~digest'], made.map(({ step, output }) => h('tr', {},
      h('th', { scope: 'row' }, step.name),
      h('td', {}, output.algorithm, output.study ? h('small', {}, 'search in ', digest(output.study)) : null),
      h('td', { class: 'number' }, bytes(output.bytes)),
      h('td', { class: 'number' }, counted(output.rows, 'row')),
      h('td', { class: 'wide-only' }, digest(output.model))))).element),
  };
}

/** All datasets in one table; a split's parts with their share. */
function datasets(run) {
  const rows = run.steps.flatMap(({ name, output }) => {
    if (output?.made === 'dataset' || output?.made === 'checked') return [{ step: name, part: null, dataset: output.dataset, quarantine: output.quarantine }];
    if (output?.made !== 'parts') return [];
    const all = Object.values(output.parts).reduce((sum, each) => sum + each.rows, 0);
    return Object.entries(output.parts).map(([part, dataset]) => ({ step: name, part, dataset, share: dataset.rows / Math.max(all, 1) }));
  });
  if (rows.length === 0) return null;
  const link = ({ step, part, dataset }) => h('a', { href: hashOf(['datasets', dataset.manifest], { step, part, run: run.run }) }, part ? `${step}.${part}` : step);
  return {
    key: rows,
    show: () => section('Datasets', table('Datasets', ['dataset', '>rows', '>share', '~digest'], rows.map((row) => h('tr', {},
      h('th', { scope: 'row' }, link(row)),
      h('td', { class: 'number' }, count(row.dataset.rows), row.quarantine ? h('small', {}, `${counted(row.quarantine.lines, 'line')} not read`) : null),
      h('td', { class: 'number' }, row.share === undefined ? '' : percent(row.share)),
      h('td', { class: 'wide-only' }, digest(row.dataset.manifest), row.quarantine ? h('small', {}, 'lines not read: ', digest(row.quarantine.table)) : null)))).element),
  };
}

function scores(run) {
  const made = outputs(run, 'scores');
  if (made.length === 0) return null;
  return {
    key: made.map((each) => each.output),
    show: () => section('Scores', made.map(({ step, output }) => facts([
      ['step', step.name], ['file', h('code', {}, output.path)], ['rows', count(output.rows)], ['size', bytes(output.bytes)],
      ['artifact', output.artifact ? h('a', { href: `v1/artifacts/${output.artifact}`, download: '' }, shortDigest(output.artifact)) : null],
      ['rows not scored', output.quarantine ? [count(output.quarantine.lines), ' ', digest(output.quarantine.table)] : null]]))),
  };
}

function digest(text) {
  return copyable(text, shortDigest(text), 'the digest');
}
