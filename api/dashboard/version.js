// One version of a model: all its metrics, what it was made of, the evidence behind it.

import { artifactJson } from './api.js';
import { h } from './dom.js';
import { bytes, count, shortDigest, shortRun, who } from './format.js';
import { evidenceView, metricFacts } from './evidence.js';
import { later } from './later.js';
import { badge, copyable, note, section, time } from './parts.js';
import { hashOf } from './router.js';
import { facts } from './table.js';

// Datasets that are named; a version learns from a few.
const DATASETS_SHOWN = 12;

/** The section on a version, as `GET /v1/models/{name}` tells it. */
export function versionSection(version, signal) {
  const datasets = version.datasets ?? [];
  const links = datasets.slice(0, DATASETS_SHOWN).map((digest, at) => [at > 0 ? ', ' : '', h('a', { href: hashOf(['datasets', digest]) }, h('code', {}, shortDigest(digest)))]);
  return section(`Version ${version.version}`,
    version.deleted ? note(badge('cancelled'), ' It was deleted.') : null,
    version.description ? h('p', { class: 'lead' }, version.description) : null,
    metricFacts(version.metrics),
    h('h3', {}, 'Where it comes from'),
    facts([
      ['made', [time(version.created_ms), ` by ${who(version.by)}`]],
      ['algorithm', version.algorithm],
      ['size', version.bytes === undefined ? null : bytes(version.bytes)],
      ['rows learned from', version.rows === undefined ? null : count(version.rows)],
      ['run', version.run ? [h('a', { href: hashOf(['runs', version.run]) }, shortRun(version.run)), version.step ? `, step ${version.step}` : ''] : null],
      ['model', copyable(version.digest, shortDigest(version.digest), 'the digest')],
      ['datasets', links.length > 0 ? links : null],
      ['signed by', (version.signed_by ?? []).length > 0 ? version.signed_by.join(', ') : null],
      ...Object.entries(version.tags ?? {}),
    ]),
    version.evidence ? later('Gates, all metrics and curves', () => artifactJson(version.evidence, signal), (evidence) => evidenceView(`version ${version.version}`, evidence)) : null);
}
