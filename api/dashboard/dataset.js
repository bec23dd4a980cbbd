// One dataset: its columns with their profile, its partitions, and the checks that a run held it to.

import { artifactJson, get, part } from './api.js';
import { checkReport } from './checks.js';
import { h, replace } from './dom.js';
import { bytes, count, counted, shortDigest, shortRun } from './format.js';
import { later } from './later.js';
import { tell } from './notice.js';
import { copyable, note, pageHead, section } from './parts.js';
import { profileTable } from './profile.js';
import { hashOf } from './router.js';
import { facts, table } from './table.js';

// Partitions that are listed; they differ in size alone.
const PARTITIONS_SHOWN = 100;

/** The page `#/datasets/{digest}`; `?run=`, `?step=` and `?part=` say where it comes from, when one came from there. */
export function datasetPage(route) {
  const digest = route.parts[1];
  const step = route.query.get('step');
  const partName = route.query.get('part');
  const run = route.query.get('run');
  const name = step ? (partName ? `${step}.${partName}` : step) : shortDigest(digest);
  const leaving = new AbortController();
  const errors = h('div', {});
  const place = h('div', {}, note('Loading…'));
  const checks = h('div', {});
  const load = async () => {
    try {
      replace(place, content(await get(`datasets/${part(digest)}`, {}, leaving.signal), digest, run));
    } catch (error) {
      replace(place);
      tell(errors, error, 'The dataset cannot be shown');
      return;
    }
    if (run) await loadChecks(run, digest, checks, leaving.signal);
  };
  load();
  return {
    title: name,
    element: h('div', {}, pageHead(name, { kind: 'dataset', crumbs: [['Datasets', '#/datasets']] }), errors, place, checks),
    leave: () => leaving.abort(),
  };
}

function content(dataset, digest, run) {
  const shown = dataset.partitions.slice(0, PARTITIONS_SHOWN);
  return [
    facts([
      ['rows', count(dataset.rows)],
      ['columns', count(dataset.columns.length)],
      ['size', `${bytes(dataset.bytes)} in ${counted(dataset.partitions.length, 'partition')}`],
      ['digest', copyable(digest, shortDigest(digest), 'the digest')],
      ['run', run ? h('a', { href: hashOf(['runs', run]) }, shortRun(run)) : null],
    ]),
    section('Columns', dataset.profile ? profileTable(dataset.profile) : [
      note('No profile was made.'),
      table('Columns', ['column', 'type', 'values may be missing'], dataset.columns.map((column) => h('tr', {},
        h('th', { scope: 'row' }, column.name), h('td', {}, column.type ?? column.kind), h('td', {}, column.nullable === undefined ? '' : column.nullable ? 'yes' : 'no')))).element,
    ]),
    section('Partitions', h('details', {}, h('summary', {}, counted(dataset.partitions.length, 'partition')),
      table('Partitions', ['digest', '>rows', '>size'], shown.map((each) => h('tr', {},
        h('th', { scope: 'row' }, copyable(each.digest, shortDigest(each.digest), 'the digest')),
        h('td', { class: 'number' }, count(each.rows)), h('td', { class: 'number' }, bytes(each.bytes))))).element,
      dataset.partitions.length > shown.length ? note(`${count(dataset.partitions.length - shown.length)} more are left out.`) : null)),
  ];
}

/** The reports of the run's expect steps on this dataset. */
async function loadChecks(run, digest, place, signal) {
  let steps = [];
  try {
    ({ steps } = await get(`runs/${part(run)}`, {}, signal));
  } catch (error) {
    tell(place, error, 'The checks of the run cannot be shown');
    return;
  }
  const checked = steps.filter((step) => step.output?.made === 'checked' && step.output.dataset.manifest === digest);
  if (checked.length === 0) return;
  replace(place, section('Checks', checked.map((step) =>
    later(`Expectations of ${step.name}`, () => artifactJson(step.output.report, signal), (report) => checkReport(step.name, report)))));
}
