// The overview of a run: the graph with the step that is looked at beside it, why it waits or failed, all steps.

import { get, part } from './api.js';
import { follow, h, replace, setAttr, setText } from './dom.js';
import { count, counted, seconds } from './format.js';
import { graph } from './graph.js';
import { atMostEvery } from './live.js';
import { problem, prose } from './notice.js';
import { badge, meter, note, section, setBadge, setMeter } from './parts.js';
import { hashOf } from './router.js';
import { madeText } from './output.js';
import { runCost } from './run_cost.js';
import { isOpen, stepStatus } from './status.js';
import { facts, table } from './table.js';

// Explaining replays the run's journal, so an open run isn't asked about more often.
const EXPLAIN_MS = 3_000;
// A wider graph has no room for the step beside it, on usual screens.
const BESIDE_MAX = 700;
// Groups of a step that are listed; a step that is cut into more is told by its tasks.
const GROUPS_SHOWN = 12;

/** The view `#/runs/{run}`; `?step=` says which step is looked at. */
export function overviewView(run) {
  const drawing = graph(run.steps, (step) => hashOf(['runs', run.run], { step: step.name }));
  const region = h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'graph of the steps' }, drawing?.element ?? []);
  const panel = h('div', { class: 'step-panel' });
  // Why a run ended stands first. What an open one waits for comes and goes, so it stands where it pushes nothing.
  const whyEnded = h('div', {});
  const whyWaits = h('div', {});
  let open = isOpen(run.status);
  const steps = table('Steps', ['step', 'status', '~needs', '>tasks', '~>attempts', '~>rows', '>took', '~made']);
  const cost = runCost(run.run);
  let leaving = new AbortController();
  let asked = null;
  let revealed = false;

  const explain = atMostEvery(EXPLAIN_MS, async () => {
    leaving.abort();
    leaving = new AbortController();
    try {
      show(explanation(await get(`runs/${part(run.run)}/explain`, {}, leaving.signal)));
    } catch (error) {
      if (error.name !== 'AbortError') show(problem(error, 'It cannot be explained'));
    }
  });
  const show = (content) => {
    replace(whyEnded, open ? null : content);
    replace(whyWaits, open ? content : null);
  };

  const element = h('div', {},
    whyEnded,
    h('div', { class: `graph-and-step${drawing !== null && drawing.width > BESIDE_MAX ? ' is-wide' : ''}` },
      h('section', { 'aria-label': 'Graph' },
        drawing === null
          ? note(`${counted(run.steps.length, 'step')} are too many for a drawing; the table lists them.`)
          : region),
      panel),
    whyWaits,
    section('Steps', steps.element),
    cost.element);

  return {
    element,
    update(now, route) {
      const chosen = now.steps.find((step) => step.name === route.query.get('step')) ?? interesting(now);
      drawing?.update(now.steps, chosen?.name);
      if (!revealed) requestAnimationFrame(() => reveal(region));
      revealed = true;
      if (chosen) showStep(panel, now, chosen);
      cost.update(now);
      follow(steps.body, now.steps, (step) => step.name, (step) => stepRow(now, step), updateStep);
      open = isOpen(now.status);
      if (now.status === 'succeeded' && asked !== null) show(null);
      if (now.status !== 'succeeded' && asked !== now.position) explain();
      asked = now.position;
    },
    leave() {
      explain.stop();
      cost.leave();
      leaving.abort();
    },
  };
}

/** Moves a graph that is wider than its place to the step that is looked at. */
function reveal(region) {
  const node = region.querySelector('.chosen')?.getBoundingClientRect();
  const box = region.getBoundingClientRect();
  if (node) region.scrollLeft += node.left + node.width / 2 - box.left - box.width / 2;
}

/** The step that one wants to see first: what failed, else what works, else the last. */
function interesting(run) {
  const first = (...statuses) => run.steps.find((step) => statuses.includes(step.status));
  return first('failed', 'rejected') ?? first('retrying', 'running') ?? first('waiting') ?? run.steps.at(-1);
}

function explanation(told) {
  if (told.status === 'succeeded') return null;
  const heading = isOpen(told.status) ? 'What it waits for' : 'Why it ended';
  return section(heading,
    h('p', {}, prose(told.summary)),
    told.steps.length === 0 ? null : h('ul', { class: 'reasons' }, told.steps.map((step) => h('li', {},
      h('span', { class: 'reason-step' }, badge(step.status), ' ', h('strong', {}, step.step)),
      h('div', {}, step.reasons.map((reason) => h('p', {}, prose(reason))),
        step.hint ? h('p', { class: 'hint' }, 'hint: ', prose(step.hint)) : null)))),
    told.hint ? h('p', { class: 'hint' }, 'hint: ', prose(told.hint)) : null);
}

/** The panel of a step, rebuilt when another is chosen, else changed in place. */
function showStep(panel, run, step) {
  const kept = `${run.run}/${step.name}`;
  if (panel.dataset.step !== kept) {
    panel.dataset.step = kept;
    replace(panel, section(step.name,
      h('p', { class: 'status' }, badge(stepStatus(step)), ' ', h('span', { 'data-part': 'kind' })),
      h('p', { class: 'progress-row' }, meter(0), h('span', { class: 'note', 'data-part': 'tasks' })),
      h('div', { 'data-part': 'error' }), h('div', { 'data-part': 'facts' }), h('div', { 'data-part': 'groups' }),
      h('p', {}, h('a', { href: hashOf(['runs', run.run, 'tasks'], { step: step.name }) }, 'Its tasks'))));
  }
  const at = (name) => panel.querySelector(`[data-part=${name}]`);
  setBadge(panel.querySelector('.badge'), stepStatus(step));
  setText(at('kind'), `${step.kind} in pool ${step.pool}`);
  setMeter(panel.querySelector('.meter'), step.tasks > 0 ? step.ended / step.tasks : 0);
  setAttr(panel.querySelector('.meter'), 'class', `meter status-${step.status}`);
  setText(at('tasks'), `${count(step.ended)} of ${counted(step.tasks, 'task')} ended`);
  // What follows is redrawn only when it tells something else.
  const told = JSON.stringify([step.error, step.attempts, step.failed_attempts, step.seconds, step.rows, step.output, step.groups, step.out]);
  if (panel.dataset.told === told) return;
  panel.dataset.told = told;
  replace(at('error'), step.error ? h('div', { class: `alert ${step.status === 'rejected' ? 'is-rejected' : 'is-bad'}` },
    h('p', {}, h('code', {}, step.error.code), ' ', prose(step.error.message)),
    step.error.hint ? h('p', { class: 'hint' }, 'hint: ', prose(step.error.hint)) : null) : null);
  replace(at('facts'), facts([
    ['needs', step.needs.map((need) => need.step).join(', ')],
    ['runs when', step.when === 'success' ? null : `the steps before: ${step.when}`],
    ['attempts', count(step.attempts)],
    ['of them failed', step.failed_attempts > 0 ? count(step.failed_attempts) : null],
    ['out at workers', step.out > 0 ? count(step.out) : null],
    ['work in slots', step.seconds > 0 ? seconds(step.seconds) : null],
    ['rows', count(step.rows)],
    ['made', madeText(step.output)],
  ]));
  replace(at('groups'), groups(step));
}

function groups(step) {
  if (!step.groups || step.groups.length < 2) return null;
  return h('details', {}, h('summary', {}, counted(step.groups.length, 'group')),
    h('ul', { class: 'plain' }, step.groups.slice(0, GROUPS_SHOWN).map((group) => h('li', {},
      h('strong', {}, group.name), ` ${counted(group.count, 'task')}: `,
      Object.entries(group.states).map(([state, number]) => `${count(number)} ${state}`).join(', ')))));
}

function stepRow(run, step) {
  return h('tr', {},
    h('th', { scope: 'row' }, h('a', { href: hashOf(['runs', run.run], { step: step.name }) }, step.name), h('small', { class: 'beside' }, step.kind)),
    h('td', {}, badge(stepStatus(step))),
    h('td', { class: 'wide-only' }, step.needs.map((need) => need.step).join(', ')),
    h('td', { class: 'number', 'data-part': 'tasks' }),
    h('td', { class: 'number wide-only', 'data-part': 'attempts' }),
    h('td', { class: 'number wide-only', 'data-part': 'rows' }),
    h('td', { class: 'number', 'data-part': 'took' }),
    h('td', { class: 'wide-only', 'data-part': 'made' }));
}

function updateStep(node, step) {
  const at = (name) => node.querySelector(`[data-part=${name}]`);
  setBadge(node.querySelector('.badge'), stepStatus(step));
  setText(at('tasks'), step.ended === step.tasks ? count(step.tasks) : `${count(step.ended)} of ${count(step.tasks)}`);
  setText(at('attempts'), step.failed_attempts > 0 ? `${count(step.attempts)}, ${count(step.failed_attempts)} failed` : count(step.attempts));
  setText(at('rows'), count(step.rows));
  setText(at('took'), step.attempts > 0 ? seconds(step.seconds) : '');
  setText(at('made'), madeText(step.output));
}
