// From time to place on a run's timeline. Time in which the run had ended, before it was resumed, isn't there. Decides
// only; `timeline.js` draws.

/** A run's lives as one stretch of time without gaps; `nowUs` ends a life that goes on. All in microseconds. */
export class Axis {
  constructor(lives, nowUs, attempts) {
    const first = Math.min(...attempts.map((attempt) => attempt.started_us), lives[0]?.from_ms * 1000 || Infinity);
    this.spans = [];
    let before = 0;
    lives.forEach((life, at) => {
      const from = at === 0 ? first : life.from_ms * 1000;
      const to = Math.max(life.ended_ms === null ? nowUs : life.ended_ms * 1000, from);
      this.spans.push({ from, to, before });
      before += to - from;
    });
    if (this.spans.length === 0) this.spans.push({ from: first, to: Math.max(nowUs, first), before: 0 });
    this.total = Math.max(this.spans.at(-1).before + this.spans.at(-1).to - this.spans.at(-1).from, 1);
  }

  /** Microseconds of the run's life before a moment. */
  at(us) {
    let place = 0;
    for (const span of this.spans) {
      if (us < span.from) break;
      place = span.before + Math.min(us, span.to) - span.from;
    }
    return place;
  }
}

// Rows a worker gets at the most; what doesn't fit shares the last one.
const ROWS_MAX = 32;
// Workers that are drawn; more don't fit on a page.
const WORKERS_MAX = 40;

/** Attempts by worker, each worker's in rows in which none overlaps another. Gives `{ lanes, hidden }`. */
export function lanes(attempts, nowUs) {
  const byWorker = new Map();
  for (const attempt of attempts) {
    const worker = attempt.worker ?? '';
    if (!byWorker.has(worker)) byWorker.set(worker, []);
    byWorker.get(worker).push(attempt);
  }
  const workers = [...byWorker.keys()].sort();
  return {
    lanes: workers.slice(0, WORKERS_MAX).map((worker) => ({ worker, rows: rows(byWorker.get(worker), nowUs) })),
    hidden: Math.max(0, workers.length - WORKERS_MAX),
  };
}

function rows(attempts, nowUs) {
  const all = [];
  const ends = [];
  const ordered = [...attempts].sort((a, b) => a.started_us - b.started_us);
  for (const attempt of ordered) {
    let row = ends.findIndex((end) => end <= attempt.started_us);
    if (row < 0) {
      row = all.length < ROWS_MAX ? all.push([]) - 1 : ROWS_MAX - 1;
    }
    all[row].push(attempt);
    ends[row] = Math.max(ends[row] ?? 0, endUs(attempt, nowUs));
  }
  return all;
}

/** When an attempt ended; one that goes on reaches to now. */
export function endUs(attempt, nowUs) {
  return attempt.took_us === null ? Math.max(nowUs, attempt.started_us) : attempt.started_us + attempt.took_us;
}

/** Round values from one to another, some `about` of them. */
export function ticks(from, to, about) {
  const rough = (to - from) / Math.max(about, 1);
  if (!(rough > 0)) return [from];
  const power = 10 ** Math.floor(Math.log10(rough));
  const times = [1, 2, 5, 10].find((each) => rough / power <= each * 1.5) ?? 10;
  const step = times * power;
  const values = [];
  for (let at = Math.ceil(from / step - 1e-9); at <= Math.floor(to / step + 1e-9) && values.length < 50; at += 1) {
    values.push(at * step);
  }
  return values;
}
