// The timeline of a run, asked for again while it goes on; and what each worker did.

import { get, part } from './api.js';
import { h, replace } from './dom.js';
import { count, now, seconds, shortWorker } from './format.js';
import { atMostEvery } from './live.js';
import { tell } from './notice.js';
import { copyable, section } from './parts.js';
import { hashOf } from './router.js';
import { isOpen } from './status.js';
import { table } from './table.js';
import { legend, timeline } from './timeline.js';

// Up to 2,000 attempts are sent each time; oftener nothing more can be seen.
const ASK_MS = 2_000;

/** The view `#/runs/{run}/timeline`. */
export function timelineView(run) {
  const leaving = new AbortController();
  const errors = h('div', {});
  const drawing = timeline((attempt) => hashOf(['runs', run.run, 'tasks', String(attempt.task)]));
  const workers = h('div', {});
  let latest = run;
  let asked = null;

  const ask = atMostEvery(ASK_MS, async () => {
    try {
      const answer = await get(`runs/${part(run.run)}/timeline`, {}, leaving.signal);
      drawing.update(answer, latest, now());
      tell(errors, null);
    } catch (error) {
      tell(errors, error, 'The timeline cannot be shown');
    }
    // Bars of attempts that go on grow with time, whether or not anything has changed.
    if (isOpen(latest.status) && !leaving.signal.aborted) ask();
  });

  return {
    element: h('div', {}, section('Timeline', errors, legend(run.steps), drawing.element), workers),
    update(news) {
      latest = news;
      if (asked !== news.position) ask();
      asked = news.position;
      replace(workers, news.workers.length > 0 ? section('Workers', workerTable(news.workers)) : null);
    },
    leave() {
      leaving.abort();
      ask.stop();
      drawing.leave();
    },
  };
}

function workerTable(workers) {
  return table('Workers of the run', ['worker', '>attempts', '>succeeded', '>failed', '>work'], workers.map((each) => h('tr', {},
    h('th', { scope: 'row' }, copyable(each.worker, shortWorker(each.worker), 'the id of the worker')),
    h('td', { class: 'number' }, count(each.attempts)),
    h('td', { class: 'number' }, count(each.succeeded)),
    h('td', { class: 'number' }, count(each.failed)),
    h('td', { class: 'number' }, seconds(each.seconds))))).element;
}
