// A dataset column by column: how its values are distributed, what is missing, what is frequent.

import { h } from './dom.js';
import { count, counted, cut, number, percent } from './format.js';
import { note } from './parts.js';
import { smallFrequencies, smallHistogram } from './plots.js';
import { table } from './table.js';

// Columns and frequent values that are shown, and letters of a value. The same as in reports.
const COLUMNS_SHOWN = 200;
const VALUES_SHOWN = 5;
const VALUE_LETTERS = 28;
const DAY_MS = 86_400_000;

const HEADINGS = ['column', 'distribution', '>missing', '>distinct', '>min', '>25%', '>median', '>75%', '>max', '>mean', 'most frequent'];

/** The columns of a profile as a table. */
export function profileTable(profile) {
  const shown = profile.columns.slice(0, COLUMNS_SHOWN);
  return [
    table('Columns', HEADINGS, shown.map((column) => row(column, profile.rows))).element,
    profile.columns.length > shown.length ? note(`${counted(profile.columns.length - shown.length, 'more column')} are left out.`) : null,
    profile.columns.some((column) => column.approximate) ? note('≈ marks estimates: there were too many different values to count them all.') : null,
  ];
}

function row(column, rows) {
  const show = (value) => valueText(column.kind, value);
  const quantile = (share) => column.quantiles.find((each) => Math.abs(each.share - share) < 1e-9);
  const cell = (text) => h('td', { class: 'number' }, text);
  return h('tr', {},
    h('th', { scope: 'row', class: 'column' }, column.name, h('small', {}, column.kind)),
    h('td', {}, column.histogram ? smallHistogram(column.histogram, show) : column.top.length > 0 ? smallFrequencies(column.top, rows) : null),
    h('td', { class: 'number', title: counted(column.nulls, 'row') }, column.nulls === 0 ? '0' : percent(column.nulls / Math.max(rows, 1))),
    cell(`${column.approximate ? '≈ ' : ''}${count(column.distinct)}`),
    cell(scalar(column.min)),
    [0.25, 0.5, 0.75].map((share) => cell(quantile(share) ? show(quantile(share).value) : '')),
    cell(scalar(column.max)),
    cell(mean(column)),
    h('td', { class: 'values' }, column.top.slice(0, VALUES_SHOWN).map((each) => `${scalar(each.value)} ${percent(each.count / Math.max(rows, 1))}`).join(' · ')));
}

function mean(column) {
  if (column.mean === null || column.mean === undefined) return '';
  if (column.kind === 'boolean') return `${percent(column.mean)} true`;
  return column.std === null || column.std === undefined ? number(column.mean) : `${number(column.mean)} ± ${number(column.std)}`;
}

function scalar(value) {
  if (value === null || value === undefined) return '';
  if (typeof value === 'number') return Number.isInteger(value) ? value.toLocaleString('en-US') : number(value);
  // Instants stand in ISO 8601; seconds say little of a column.
  if (/^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(value)) return value.slice(0, 16).replace('T', ' ');
  return cut(String(value), VALUE_LETTERS);
}

/** A value that is kept as a number: days since 1970 are days, microseconds are instants. */
function valueText(kind, value) {
  if (kind === 'date') return new Date(value * DAY_MS).toISOString().slice(0, 10);
  if (kind === 'timestamp') return new Date(value / 1000).toISOString().slice(0, 16).replace('T', ' ');
  return number(value);
}
