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
  const pools = table('Pools', ['pool', '>backlog', '>busy slots', '>workers', '~>longest wait']);
  const workers = table('Workers', ['worker', '~pools', '>slots', 'holds', '>seen']);
  const poolSection = section('Pools', pools.element);
  const workerSection = section('Workers', workers.element);
  const asking = repeat(async (signal) => {
    try {
      const [ofPools, ofWorkers] = await Promise.all([get('pools', {}, signal), get('workers', { limit: WORKERS_MAX }, signal)]);
      tell(errors, null);
      follow(pools.body, ofPools.items, (item) => item.name, poolRow, updatePool);
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
  workerSection.hidden = true;
  const leave = () => {
    asking.stop();
    askingBudgets.stop();
  };
  return { title: 'Pools', element: h('div', {}, pageHead('Pools'), errors, nothing, poolSection, budgetSection, workerSection), leave };
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
    h('td', { class: 'number' }, meter(0, 'inline'), ' ', h('span', { 'data-part': 'busy' })),
    h('td', { class: 'number', 'data-part': 'workers' }), h('td', { class: 'number wide-only', 'data-part': 'wait' }));
}

function updatePool(node, pool) {
  const at = (name) => node.querySelector(`[data-part=${name}]`);
  // What wants a slot: what is ready and what is out, where the two are told apart.
  const backlog = pool.demand ?? pool.ready + pool.out;
  setText(at('backlog'), pool.ready === undefined ? count(backlog) : `${count(pool.ready)} ready, ${count(pool.out)} out`);
  node.classList.toggle('is-unserved', pool.workers === 0 && backlog > 0);
  setText(at('busy'), `${count(pool.busy)} of ${count(pool.slots)}`);
  setMeter(node.querySelector('.meter'), pool.slots > 0 ? pool.busy / pool.slots : 0);
  setText(at('workers'), pool.workers === 0 && backlog > 0 ? 'none: nobody takes it' : count(pool.workers));
  setText(at('wait'), typeof pool.oldest_wait_seconds === 'number' ? seconds(pool.oldest_wait_seconds) : '–');
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
  setText(at('pools'), worker.pools.join(', '));
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
