// One task: why it waits, its attempts with error and log, its settings, what it took and made.

import { get, part } from './api.js';
import { h, replace } from './dom.js';
import { madeText, datasetLink } from './output.js';
import { seconds, shortRun, shortWorker, valueText } from './format.js';
import { repeat } from './live.js';
import { prose, tell } from './notice.js';
import { badge, copyable, note, pageHead, section, time } from './parts.js';
import { hashOf } from './router.js';
import { facts, table } from './table.js';

// A task that goes on is asked for again; it has no stream of its own.
const REFRESH_MS = 2_000;
const ENDED = new Set(['succeeded', 'failed', 'rejected', 'skipped', 'cancelled']);

/** The page `#/runs/{run}/tasks/{task}`. */
export function taskPage(route) {
  const [, run, , id] = route.parts;
  const errors = h('div', {});
  const place = h('div', {});
  const head = pageHead(`Task ${id}`, { kind: 'task', crumbs: [['Runs', '#/runs'], [shortRun(run), hashOf(['runs', run])], ['Tasks', hashOf(['runs', run, 'tasks'])]] });
  let told = null;
  const asking = repeat(async (signal) => {
    try {
      const task = await get(`runs/${part(run)}/tasks/${part(id)}`, {}, signal);
      tell(errors, null);
      const now = JSON.stringify(task);
      // Redrawn only when it tells something else, so that opened logs stay open.
      if (now !== told) replace(place, content(task, run));
      told = now;
      head.querySelector('h1').textContent = task.name;
      if (ENDED.has(task.status)) asking.stop();
    } catch (error) {
      tell(errors, error, 'The task cannot be shown');
      if (error.status === 404) asking.stop();
    }
  }, REFRESH_MS);
  return { title: `Task ${id} of ${shortRun(run)}`, element: h('div', {}, head, errors, place), leave: () => asking.stop() };
}

function content(task, run) {
  return [
    h('p', { class: 'status' }, badge(task.status), ` ${task.kind}, step `, h('a', { href: hashOf(['runs', run], { step: task.step }) }, task.step), `, pool ${task.pool}`),
    waiting(task),
    attempts(task),
    h('div', { class: 'columns' },
      section('Inputs', task.inputs.length === 0 ? note('None.') : facts(task.inputs.map((input) => [input.step, output(input.output)]))),
      section('Output', output(task.output))),
    section('Settings', settings(task.settings)),
  ];
}

function waiting(task) {
  if (task.waiting.length === 0 && !task.hint) return null;
  return section(ENDED.has(task.status) ? 'Why it is so' : 'What it waits for',
    h('ul', {}, task.waiting.map((reason) => h('li', {}, prose(reason)))),
    task.hint ? h('p', { class: 'hint' }, 'hint: ', prose(task.hint)) : null);
}

function attempts(task) {
  if (task.attempts.length === 0) return section('Attempts', note('It has not been tried yet.'));
  const rows = task.attempts.map((each) => h('tr', {},
    h('th', { scope: 'row' }, String(each.number)),
    h('td', {}, badge(each.outcome)),
    h('td', {}, each.worker ? copyable(each.worker, shortWorker(each.worker), 'the id of the worker') : 'not yet taken'),
    h('td', { class: 'number' }, each.took_us === null ? 'goes on' : seconds(each.took_us / 1e6)),
    h('td', { class: 'number' }, time(Math.round(each.started_us / 1000)))));
  const told = task.attempts.filter((each) => each.error || each.log).reverse();
  return section('Attempts', table('Attempts', ['number', 'outcome', 'worker', '>took', '>started'], rows).element,
    told.map((each, at) => h('details', { open: at === 0 },
      h('summary', {}, `Attempt ${each.number}: ${each.outcome}`),
      each.error ? h('div', { class: 'alert is-bad' },
        h('p', {}, h('code', {}, each.error.code), ' ', prose(each.error.message)),
        each.error.hint ? h('p', { class: 'hint' }, 'hint: ', prose(each.error.hint)) : null) : null,
      each.log ? h('pre', { class: 'log', tabindex: '0', 'aria-label': `log of attempt ${each.number}` }, h('code', {}, each.log)) : null)));
}

function output(made) {
  if (!made) return note('Nothing yet.');
  if (made.made === 'nothing') return note('Nothing: it has none.');
  if (made.dataset) return h('p', {}, made.made === 'checked' ? 'Checked: ' : 'A dataset of ', datasetLink(made.dataset, madeText({ made: 'dataset', dataset: made.dataset })));
  if (made.made === 'parts') return h('p', {}, Object.entries(made.parts).map(([name, each], at) => [at > 0 ? ', ' : '', datasetLink(each, `${name} ${each.rows.toLocaleString('en-US')}`)]));
  return h('p', {}, `${made.made}: ${madeText(made)}`);
}

function settings(given) {
  if (given === null || typeof given !== 'object' || Object.keys(given).length === 0) return note('The defaults.');
  return h('pre', { tabindex: '0', 'aria-label': 'settings of the step' }, h('code', {}, written(given, '').trimStart()));
}

/** Settings the way a pipeline file has them: nested names, one a line. */
function written(value, indent) {
  if (value === null || typeof value !== 'object') return valueText(value);
  if (Array.isArray(value) && value.every((each) => each === null || typeof each !== 'object')) return `[${value.map(valueText).join(', ')}]`;
  const lines = Array.isArray(value)
    ? value.map((each) => `- ${written(each, `${indent}  `).trimStart()}`)
    : Object.entries(value).map(([name, each]) => {
      const text = written(each, `${indent}  `);
      return `${name}:${text.startsWith('\n') ? '' : ' '}${text}`;
    });
  return lines.map((line) => `\n${indent}${line}`).join('');
}
