// What the rules of an expect step say of a dataset.

import { h } from './dom.js';
import { count, counted, percent } from './format.js';
import { prose } from './notice.js';
import { note } from './parts.js';
import { table } from './table.js';

/** A report as the artifact holds it: each rule, whether it holds, and what was found. */
export function checkReport(step, report) {
  const broken = report.outcomes.filter((outcome) => !outcome.passed).length;
  const verdict = report.accepted
    ? broken === 0 ? 'all of them hold' : `accepted, with ${counted(broken, 'warning')}`
    : `rejected: ${broken} of ${report.outcomes.length} don't hold`;
  return [
    note(`${counted(report.rows, 'row')}: ${verdict}.`),
    table(`Expectations of ${step}`, ['column', 'outcome', 'check', 'what was found', '>failing', '~severity'], report.outcomes.map(rule)).element,
  ];
}

function rule(outcome) {
  const [style, sign] = outcome.passed ? ['is-good', '✓ holds'] : outcome.severity === 'error' ? ['is-bad', '✕ broken'] : ['is-rejected', '! warning'];
  return h('tr', {},
    h('th', { scope: 'row' }, outcome.column ?? '–'),
    h('td', {}, h('span', { class: `badge ${style}` }, sign)),
    h('td', {}, outcome.check),
    h('td', { class: 'sentence' }, prose(outcome.message)),
    h('td', { class: 'number' }, outcome.failing === 0 ? '0' : `${count(outcome.failing)} (${percent(outcome.share)})`),
    h('td', { class: 'wide-only' }, outcome.severity));
}
