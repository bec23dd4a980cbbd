// One run, live: its head, and the views of it (overview, timeline, tasks, results, source).

import { address, change, get, part } from './api.js';
import { confirm } from './dialog.js';
import { h, replace, setAttr, setText } from './dom.js';
import { counted, count, moment, seconds, shortRun, valueText } from './format.js';
import { stream } from './live.js';
import { say, tell } from './notice.js';
import { badge, copyable, pageHead, setBadge, setMeter, meter, time } from './parts.js';
import { hashOf } from './router.js';
import { overviewView } from './run_overview.js';
import { resultsView } from './run_results.js';
import { sourceView } from './run_source.js';
import { tasksView } from './run_tasks.js';
import { timelineView } from './run_timeline.js';
import { showLive } from './runs.js';
import { roleButton } from './session.js';
import { isOpen, look } from './status.js';
import { facts } from './table.js';

const VIEWS = {
  overview: ['Overview', overviewView],
  timeline: ['Timeline', timelineView],
  tasks: ['Tasks', tasksView],
  results: ['Results', resultsView],
  source: ['Source', sourceView],
};
// The duration of an open run is told to the second.
const TICK_MS = 1_000;
// How often, and how many times, a run is looked at that was resumed: half a minute, after which no scheduler is there.
const LOOK_MS = 500;
const LOOKS_MAX = 60;

/** The page `#/runs/{run}` with its views `…/timeline`, `…/tasks`, `…/results`, `…/source`. */
export function runPage(route) {
  const id = route.parts[1];
  const errors = h('div', {});
  const place = h('div', {});
  const head = runHead(id);
  const links = h('ul', {}, Object.entries(VIEWS).map(([name, [label]]) =>
    h('li', {}, h('a', { href: hashOf(name === 'overview' ? ['runs', id] : ['runs', id, name]), 'data-view': name }, label))));
  const element = h('div', { class: 'run' }, head.element, errors, h('nav', { class: 'views', 'aria-label': 'Views of the run' }, links), place);
  const leaving = new AbortController();

  let run = null;
  let received = 0;
  let view = null;
  let viewName = null;
  let current = route;

  const showView = () => {
    const wanted = VIEWS[current.parts[2]] ? current.parts[2] : 'overview';
    for (const link of links.querySelectorAll('a')) setAttr(link, 'aria-current', link.dataset.view === wanted ? 'page' : null);
    if (run === null) return;
    if (wanted !== viewName) {
      view?.leave?.();
      view = VIEWS[wanted][1](run);
      viewName = wanted;
      replace(place, view.element);
    }
    view.update?.(run, current);
  };
  const took = () => run.seconds + (isOpen(run.status) ? (performance.now() - received) / 1000 : 0);
  const take = (news) => {
    // Events leave the source out; it never changes.
    const before = run?.status;
    run = { ...run, ...news };
    received = performance.now();
    head.update(run, took());
    page.title = `${run.pipeline} ${shortRun(id)}`;
    document.title = `${run.pipeline}: ${run.status} · Gristmill`;
    if (before && before !== run.status && !isOpen(run.status)) say(`${run.pipeline}: ${run.status}`, look(run.status).style);
    showView();
  };

  let stop = () => {};
  const load = async () => {
    try {
      take(await get(`runs/${part(id)}`, {}, leaving.signal));
      tell(errors, null);
      follow();
    } catch (error) {
      tell(errors, error, 'The run cannot be shown');
    }
  };
  const follow = () => {
    stop();
    if (!isOpen(run.status)) {
      head.live(null);
      return;
    }
    stop = stream(address(`runs/${part(id)}/events`), {
      run: take,
      end: (news) => {
        take(news);
        head.live(null);
      },
    }, head.live);
  };
  head.act = async (verb) => {
    await change('POST', `runs/${part(id)}/${verb}`);
    say(verb === 'cancel' ? 'The run is being cancelled.' : 'The run goes on.');
    await load();
    // A scheduler takes a resumed run up a moment later; until then it looks as it did.
    for (let looks = 0; verb === 'resume' && !isOpen(run.status) && looks < LOOKS_MAX && !leaving.signal.aborted; looks += 1) {
      await new Promise((resolve) => { setTimeout(resolve, LOOK_MS); });
      await load();
    }
  };
  const ticking = setInterval(() => {
    if (run && isOpen(run.status)) head.tick(took());
  }, TICK_MS);
  load();
  showView();

  const page = {
    title: shortRun(id),
    element,
    turn(next) {
      if (next.parts[0] !== 'runs' || next.parts[1] !== id || (next.parts[2] === 'tasks' && next.parts[3] !== undefined)) return false;
      current = next;
      showView();
      return true;
    },
    leave() {
      leaving.abort();
      clearInterval(ticking);
      stop();
      view?.leave?.();
    },
  };
  return page;
}

/** The head: name, state, how far it is, what can be done. Its parts stay while their content changes. */
function runHead(id) {
  const state = badge('waiting');
  const when = h('span', {});
  const live = h('span', { class: 'live', hidden: true });
  const bar = meter(0);
  const progress = h('div', { class: 'run-progress', role: 'progressbar', 'aria-label': 'tasks ended', 'aria-valuemin': '0' }, bar);
  const told = h('span', { class: 'note' });
  const actions = h('div', { class: 'actions' });
  const list = h('div', {});
  const name = pageHead('…', { kind: 'pipeline run', crumbs: [['Runs', '#/runs']] });
  name.lastChild.replaceWith(actions);
  const heading = name.querySelector('h1');
  const element = h('div', { class: 'run-head' }, name,
    h('p', { class: 'status' }, state, ' ', when, ' ', live),
    h('div', { class: 'progress-row' }, progress, told), list);

  let shown = null;
  const self = {
    element,
    act: null,
    live(open) {
      live.hidden = open === null;
      if (open !== null) showLive(live, open);
    },
    tick(took) {
      const { status, created_ms, ended_ms } = shown;
      const text = isOpen(status) ? `for ${seconds(took)}` : `after ${seconds(took)}`;
      if (when.dataset.text !== text) {
        when.dataset.text = text;
        replace(when, `${text}, started `, time(created_ms), ended_ms ? [', ended ', time(ended_ms)] : null);
      }
    },
    update(run, took) {
      const before = shown;
      shown = run;
      setText(heading, run.pipeline);
      setBadge(state, run.status);
      self.tick(took);
      setMeter(bar, run.tasks > 0 ? run.ended / run.tasks : 0);
      setAttr(progress, 'aria-valuemax', Math.max(run.tasks, 1));
      setAttr(progress, 'aria-valuenow', run.ended);
      setAttr(progress, 'class', `run-progress status-${run.status}`);
      setText(told, `${count(run.ended)} of ${counted(run.tasks, 'task')} ended`);
      if (before?.status !== run.status) replace(actions, buttons(run, (verb) => self.act(verb)));
      if (before?.status !== run.status || before?.workers.length !== run.workers.length || before?.lives.length !== run.lives.length) {
        replace(list, facts(entries(run, id)));
      }
    },
  };
  return self;
}

function buttons(run, act) {
  if (run.status === 'cancelling') return [];
  if (isOpen(run.status)) {
    const text = 'What runs is stopped; what has succeeded stays. The run can be resumed.';
    return [roleButton('Cancel', { role: 'submitter', onclick: () => confirm({ heading: 'Cancel the run?', text, verb: 'Cancel the run', danger: true, act: () => act('cancel') }) })];
  }
  if (run.status === 'succeeded') return [];
  const resume = () => act('resume').catch((error) => say(`${error.message}${error.hint ? `: ${error.hint}` : ''}`, 'is-bad'));
  return [roleButton('Resume', { role: 'submitter', style: 'primary', onclick: resume })];
}

function entries(run, id) {
  const params = Object.entries(run.params ?? {});
  const resumed = run.lives.filter((life) => life.resumed_by).map((life) => `${moment(life.from_ms)} by ${life.resumed_by}`);
  return [
    ['run', copyable(id, shortRun(id), 'the id of the run')],
    ['namespace', run.namespace === 'default' ? null : run.namespace],
    ...params.map(([name, value]) => [`parameter ${name}`, h('code', {}, valueText(value))]),
    ['workers', run.workers.length > 0 ? count(run.workers.length) : null],
    ['cancelled by', run.cancelled_by],
    ['resumed', resumed.length > 0 ? resumed.join('; ') : null],
    ['trace', trace(run.trace)],
  ];
}

function trace(told) {
  if (!told?.id) return null;
  if (told.url && /^https?:/.test(told.url)) return h('a', { href: told.url, rel: 'noreferrer', target: '_blank' }, told.id.slice(0, 12), '…', h('span', { class: 'unseen' }, ' in another tab'));
  return copyable(told.id, `${told.id.slice(0, 12)}…`, 'the id of the trace');
}
