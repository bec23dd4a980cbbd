// Pools: what waits, who works, what each worker holds, and what is left of budgets.

import { get } from './api.js';
import { follow, h, replace, setText } from './dom.js';
import { count, number, percent, seconds, shortRun, shortWorker } from './format.js';
import { repeat } from './live.js';
import { empty, tell } from './notice.js';
import { copyable, meter, pageHead, section, setMeter, setTime, time } from './parts.js';
import { hashOf } from './router.js';
import { table } from './table.js';

const REFRESH_MS = 2_000;
// Budgets are looked at every ten seconds by the scheduler.
const BUDGETS_MS = 10_000;
// The largest page the API gives; a cluster with more workers is told in pools.
const WORKERS_MAX = 500;
// What one worker holds, at the most, in a cell.
const HELD_SHOWN = 8;

/** The page `#/pools`. */
export function poolsPage() {
  const errors = h('div', {});
  const nothing = h('div', {});
  const pools = table('Pools', ['pool', '>backlog', '~>expected work', '>busy slots', '>workers']);
  const scaling = table('Scaling', ['pool', 'decided by', '>workers wanted', 'why', '~>worker time', '~>lost']);
  const workers = table('Workers', ['worker', '~pools, machine, labels', '>slots', 'holds', '>seen']);
  const poolSection = section('Pools', pools.element);
  const scalingSection = section('Scaling', scaling.element);
  const workerSection = section('Workers', workers.element);
  const asking = repeat(async (signal) => {
    try {
      const [ofPools, ofWorkers] = await Promise.all([get('pools', {}, signal), get('workers', { limit: WORKERS_MAX }, signal)]);
      tell(errors, null);
      follow(pools.body, ofPools.items, (item) => item.name, poolRow, updatePool);
      const decisions = ofPools.items.flatMap((pool) => (pool.decisions ?? []).map((decision) => ({ pool: pool.name, ...decision })));
      follow(scaling.body, decisions, (item) => `${item.pool} ${item.by}`, decisionRow, updateDecision);
      scalingSection.hidden = decisions.length === 0;
      follow(workers.body, ofWorkers.items, (item) => item.worker, workerRow, updateWorker);
      poolSection.hidden = ofPools.items.length === 0;
      workerSection.hidden = ofWorkers.items.length === 0;
      replace(nothing, ofWorkers.items.length === 0 ? empty('No worker is there. One takes work as soon as it is started:', 'gristmill worker --pools default --slots 4') : null);
    } catch (error) {
      tell(errors, error, 'The pools cannot be shown');
    }
  }, REFRESH_MS);
  const budgets = table('Budgets', ['budget', '~of', 'period', '>spent', '>amount', '~at the limit']);
  const budgetSection = section('Budgets', budgets.element);
  const askingBudgets = repeat(async (signal) => {
    try {
      const { items } = await get('budgets', {}, signal);
      follow(budgets.body, items, (item) => item.name, budgetRow, updateBudget);
      budgetSection.hidden = items.length === 0;
    } catch (error) {
      // The pools are shown without them; what is wrong with the server is said there.
      if (error.name !== 'AbortError') budgetSection.hidden = true;
    }
  }, BUDGETS_MS);
  budgetSection.hidden = true;
  poolSection.hidden = true;
  scalingSection.hidden = true;
  workerSection.hidden = true;
  const leave = () => {
    asking.stop();
    askingBudgets.stop();
  };
  return { title: 'Pools', element: h('div', {}, pageHead('Pools'), errors, nothing, poolSection, scalingSection, budgetSection, workerSection), leave };
}

function budgetRow(budget) {
  return h('tr', {},
    h('th', { scope: 'row' }, budget.name),
    h('td', { class: 'wide-only', 'data-part': 'of' }),
    h('td', {}, budget.period),
    h('td', { class: 'number' }, meter(0, 'inline'), ' ', h('span', { 'data-part': 'spent' })),
    h('td', { class: 'number', 'data-part': 'amount' }),
    h('td', { class: 'wide-only', 'data-part': 'limit' }));
}

function updateBudget(node, budget) {
  const at = (name) => node.querySelector(`[data-part=${name}]`);
  const of = budget.namespace ? `namespace ${budget.namespace}` : budget.pipeline ? `pipeline ${budget.pipeline}` : 'everything';
  setText(at('of'), budget.run ? `${of}: ${shortRun(budget.run)}` : of);
  setText(at('spent'), `${number(budget.spent)}, ${percent(budget.ratio)}`);
  setMeter(node.querySelector('.meter'), Math.min(budget.ratio, 1));
  setText(at('amount'), `${number(budget.amount)} ${budget.currency ?? ''}`);
  setText(at('limit'), budget.stops ? (budget.ratio >= 1 ? 'runs are cancelled' : 'runs will be cancelled') : 'warns');
}

function poolRow(pool) {
  return h('tr', {},
    h('th', { scope: 'row' }, pool.name),
    h('td', { class: 'number', 'data-part': 'backlog' }),
    h('td', { class: 'number wide-only', 'data-part': 'work' }),
    h('td', { class: 'number' }, meter(0, 'inline'), ' ', h('span', { 'data-part': 'busy' })),
    h('td', { class: 'number', 'data-part': 'workers' }));
}

function updatePool(node, pool) {
  const at = (name) => node.querySelector(`[data-part=${name}]`);
  // What waits for a named limit is in the demand, and can't begin whoever comes.
  const held = Math.max(0, pool.demand - pool.ready - pool.out);
  setText(at('backlog'), `${count(pool.ready)} ready, ${count(pool.out)} out${held > 0 ? `, ${count(held)} held by limits` : ''}`);
  const unknown = pool.unknown > 0 ? `${pool.work_ms > 0 ? ' and ' : ''}${count(pool.unknown)} of unknown length` : '';
  setText(at('work'), pool.work_ms > 0 || !unknown ? `${seconds(pool.work_ms / 1000)}${unknown}` : unknown);
  node.classList.toggle('is-unserved', pool.workers === 0 && pool.ready > 0);
  setText(at('busy'), `${count(pool.busy)} of ${count(pool.slots)}`);
  setMeter(node.querySelector('.meter'), pool.slots > 0 ? pool.busy / pool.slots : 0);
  setText(at('workers'), pool.workers === 0 && pool.ready > 0 ? 'none: nobody takes it' : count(pool.workers));
}

function decisionRow(decision) {
  return h('tr', {},
    h('th', { scope: 'row' }, decision.pool),
    h('td', {}, decision.by, ' ', time(decision.at_ms)),
    h('td', { class: 'number', 'data-part': 'wanted' }),
    h('td', { 'data-part': 'why' }),
    h('td', { class: 'number wide-only', 'data-part': 'paid' }),
    h('td', { class: 'number wide-only', 'data-part': 'lost' }));
}

function updateDecision(node, decision) {
  const at = (name) => node.querySelector(`[data-part=${name}]`);
  setTime(node.querySelector('time'), decision.at_ms);
  setText(at('wanted'), `${count(decision.wanted)} (of ${count(decision.min)} to ${count(decision.max)})`);
  setText(at('why'), decision.why);
  setText(at('paid'), decision.paid_ms === null ? '–' : seconds(decision.paid_ms / 1000));
  setText(at('lost'), decision.lost === null ? '–' : count(decision.lost));
}

function workerRow(worker) {
  return h('tr', {},
    h('th', { scope: 'row' }, copyable(worker.worker, shortWorker(worker.worker), 'the id of the worker'), h('small', { 'data-part': 'draining' })),
    h('td', { class: 'wide-only', 'data-part': 'pools' }),
    h('td', { class: 'number', 'data-part': 'slots' }),
    h('td', {}, h('ul', { class: 'plain held', 'data-part': 'held' })),
    h('td', { class: 'number' }, time(worker.seen_ms)));
}

function updateWorker(node, worker) {
  const at = (name) => node.querySelector(`[data-part=${name}]`);
  setText(at('draining'), worker.draining ? 'draining: takes nothing more' : '');
  const labels = Object.entries(worker.labels).map(([key, value]) => `${key}=${value}`).join(' ');
  setText(at('pools'), [worker.pools.join(', '), worker.host, labels].filter((part) => part).join(' · '));
  setText(at('slots'), `${count(worker.held.length)} of ${count(worker.slots)}`);
  setTime(node.querySelector('time'), worker.seen_ms);
  const shown = worker.held.slice(0, HELD_SHOWN);
  if (worker.held.length > shown.length) shown.push({ more: worker.held.length - shown.length });
  follow(at('held'), shown, (held) => (held.more ? 'more' : `${held.run}/${held.task}`), heldItem, updateHeld);
}

function heldItem(held) {
  if (held.more) return h('li', {}, h('span', { 'data-part': 'more' }));
  return h('li', {}, h('a', { href: hashOf(['runs', held.run, 'tasks', String(held.task)]) }, `${shortRun(held.run)} task ${held.task}`), ' ', h('span', { class: 'note', 'data-part': 'progress' }));
}

function updateHeld(node, held) {
  if (held.more) {
    setText(node.firstChild, `and ${count(held.more)} more`);
    return;
  }
  const { progress } = held;
  const told = progress ? `${count(progress.done)}${progress.total ? ` of ${count(progress.total)}` : ''} ${progress.unit ?? ''}${progress.total ? `, ${number(Math.round((progress.done / progress.total) * 100))}%` : ''}` : '';
  setText(node.querySelector('[data-part=progress]'), held.attempt > 1 ? `attempt ${held.attempt} ${told}` : told);
}
