// Who worked on what, when: a row for each slot of each worker, as SVG that can be zoomed and moved along.

import { follow, h, replace, s, setAttr } from './dom.js';
import { counted, seconds, shortWorker } from './format.js';
import { Axis, endUs, lanes, ticks } from './timeline_axis.js';

const LEFT = 84;
const RIGHT = 8;
const ROW = 20;
const TOP = 26;
const LANE_GAP = 8;
// Narrower than this the drawing scrolls instead.
const WIDTH_MIN = 280;
// Colours that steps take in turn.
const COLOURS = 6;
// Pixels that a letter of a bar's label takes.
const LETTER = 6.4;
// A microsecond can't be told from the next one.
const VIEW_US_MIN = 50;

const BAD = new Set(['rejected', 'failed', 'timed out', 'lost', 'handed back', 'cancelled']);

/** A timeline. `hashOf(attempt)` is where a bar leads. Gives `{ element, update(timeline, run), leave }`. */
export function timeline(hashOf) {
  let axis = null;
  let data = null;
  let view = null;
  let width = 900;
  let drawn = 0;

  const svg = s('svg', { class: 'timeline', role: 'group' });
  const region = h('div', { class: 'timeline-region', tabindex: '0', role: 'group', 'aria-label': 'timeline: plus and minus zoom, arrows move, 0 shows all' }, svg);
  const note = h('p', { class: 'note' });
  const detail = h('p', { class: 'note timeline-detail', 'aria-live': 'polite' });
  const tool = (sign, name, act) => h('button', { type: 'button', 'aria-label': name, title: name, onclick: act }, sign);
  const element = h('div', {},
    h('div', { class: 'toolbar' },
      tool('+', 'Nearer', () => zoom(0.5, 0.5)), tool('−', 'Farther', () => zoom(2, 0.5)),
      tool('←', 'Earlier', () => move(-0.25)), tool('→', 'Later', () => move(0.25)),
      tool('All', 'All of it', all), detail),
    region, note);

  const plan = () => {
    cancelAnimationFrame(drawn);
    drawn = requestAnimationFrame(draw);
  };
  const span = () => view ?? { from: 0, to: axis.total };
  const show = (from, to) => {
    const size = Math.min(Math.max(to - from, VIEW_US_MIN), axis.total);
    const start = Math.min(Math.max(from, 0), axis.total - size);
    view = size >= axis.total ? null : { from: start, to: start + size };
    plan();
  };
  function all() {
    view = null;
    plan();
  }
  function zoom(times, place) {
    const { from, to } = span();
    const middle = from + (to - from) * place;
    show(middle - (to - from) * times * place, middle + (to - from) * times * (1 - place));
  }
  function move(share) {
    const { from, to } = span();
    show(from + (to - from) * share, to + (to - from) * share);
  }

  region.addEventListener('keydown', (event) => {
    const act = {
      '+': () => zoom(0.5, 0.5), '=': () => zoom(0.5, 0.5), '-': () => zoom(2, 0.5), 0: all,
      ArrowLeft: () => move(-0.2), ArrowRight: () => move(0.2), Home: () => show(0, span().to - span().from),
      End: () => show(axis.total, axis.total + span().to - span().from),
    }[event.key];
    if (act === undefined || axis === null) return;
    event.preventDefault();
    event.stopPropagation();
    act();
  });
  // The wheel scrolls the page until the timeline has the focus, or Ctrl is held: whoever scrolls past isn't caught.
  region.addEventListener('wheel', (event) => {
    if (axis === null || !(event.ctrlKey || region.contains(document.activeElement))) return;
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    const place = Math.min(Math.max((event.clientX - box.left - LEFT) / Math.max(box.width - LEFT - RIGHT, 1), 0), 1);
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) move(event.deltaX / 600);
    else zoom(Math.exp(event.deltaY / 300), place);
  }, { passive: false });
  drag(region, (pixels) => move(-pixels / Math.max(width - LEFT - RIGHT, 1)), () => view !== null);
  region.addEventListener('pointerover', (event) => {
    const bar = event.target.closest?.('[data-words]');
    if (bar) detail.textContent = bar.dataset.words;
  });

  const resized = new ResizeObserver(() => {
    const wanted = Math.max(region.clientWidth, WIDTH_MIN);
    if (wanted !== width) {
      width = wanted;
      if (data) plan();
    }
  });
  resized.observe(region);

  function draw() {
    const { from, to } = span();
    const x = (us) => LEFT + ((us - from) / (to - from)) * (width - LEFT - RIGHT);
    const rows = data.lanes.reduce((sum, lane) => sum + lane.rows.length, 0);
    const height = TOP + rows * ROW + data.lanes.length * LANE_GAP;
    setAttr(svg, 'viewBox', `0 0 ${width} ${height}`);
    setAttr(svg, 'width', width);
    setAttr(svg, 'height', height);
    setAttr(svg, 'aria-label', `timeline of ${counted(data.count, 'attempt')} by ${counted(data.lanes.length, 'worker')}`);
    const grid = s('g', {}, ticks(from / 1e6, to / 1e6, width / 110).map((at) => [
      s('line', { class: 'grid', x1: x(at * 1e6), x2: x(at * 1e6), y1: TOP - 8, y2: height }),
      s('text', { class: 'tick middle', x: x(at * 1e6), y: 12 }, at === 0 ? '0' : tickText(at, (to - from) / 1e6)),
    ]));
    const bars = s('g', { 'clip-path': 'url(#timeline-view)' });
    const names = s('g', {});
    let y = TOP;
    for (const lane of data.lanes) {
      names.append(s('text', { class: 'tick', x: 0, y: y + 14 }, shortWorker(lane.worker)));
      for (const row of lane.rows) {
        for (const attempt of row) bars.append(...bar(attempt, x, y, from, to));
        y += ROW;
      }
      y += LANE_GAP;
    }
    svg.replaceChildren(defs(height), grid, bars, names);
  }

  function defs(height) {
    return s('defs', {},
      s('clipPath', { id: 'timeline-view' }, s('rect', { x: LEFT, y: 0, width: Math.max(width - LEFT - RIGHT, 0) + 2, height })),
      s('pattern', { id: 'hatching', width: 6, height: 6, patternUnits: 'userSpaceOnUse', patternTransform: 'rotate(45)' },
        s('rect', { class: 'hatch-line', width: 3, height: 6 })));
  }

  function bar(attempt, x, y, from, to) {
    const begin = axis.at(attempt.started_us);
    const end = axis.at(endUs(attempt, data.nowUs));
    if (end < from || begin > to) return [];
    const left = Math.max(x(begin), LEFT - 4);
    const wide = Math.max(Math.min(x(end), width + 4) - left, 1.5);
    const took = seconds((endUs(attempt, data.nowUs) - attempt.started_us) / 1e6);
    const words = `${attempt.name} attempt ${attempt.number}: ${took}, ${attempt.outcome}`;
    const shape = { x: left, y: y + 2, width: wide, height: ROW - 4, rx: 3 };
    const pale = attempt.outcome === 'cached' ? ' pale' : '';
    const link = s('a', { href: hashOf(attempt), tabindex: '-1', 'data-words': words }, s('title', {}, words),
      s('rect', { ...shape, class: `work c${data.colours.get(attempt.step) ?? 0}${pale}` }));
    if (BAD.has(attempt.outcome)) link.append(s('rect', { ...shape, class: 'hatch', fill: 'url(#hatching)' }));
    if (attempt.name.length * LETTER + 10 < wide) {
      link.append(s('text', { class: `bar-label${pale}`, x: left + 5, y: y + 14 }, attempt.name));
    }
    return [link];
  }

  return {
    element,
    /** Shows what `GET /v1/runs/{run}/timeline` says of a run. */
    update(answer, run, nowMs) {
      const nowUs = nowMs * 1000;
      if (answer.attempts.length === 0) {
        replace(note, 'No work has been done.');
        return;
      }
      axis = new Axis(run.lives, nowUs, answer.attempts);
      data = { ...lanes(answer.attempts, nowUs), nowUs, count: answer.attempts.length, colours: new Map(run.steps.map((step, at) => [step.name, at % COLOURS])) };
      if (view !== null && view.to > axis.total) view = null;
      replace(note, notes(answer, data, run).join(' '));
      plan();
    },
    leave() {
      cancelAnimationFrame(drawn);
      resized.disconnect();
    },
  };
}

function tickText(at, wide) {
  // Near each other, ticks need digits that `seconds` leaves out.
  return wide < 1 && at >= 1 ? `${at.toFixed(wide < 0.01 ? 4 : 2)} s` : seconds(at);
}

function notes(answer, data, run) {
  const lines = [];
  if (answer.left_out > 0) lines.push(`${counted(answer.left_out, 'shorter attempt')} of parallel tasks are not drawn.`);
  if (data.hidden > 0) lines.push(`${counted(data.hidden, 'more worker')} are not drawn.`);
  if (run.lives.length > 1) lines.push('The time in which the run had ended is left out.');
  lines.push('Hatched bars did not succeed; pale ones found an earlier result. The wheel zooms once the timeline has the focus.');
  return lines;
}

/** Calls `moved(pixels)` while the pointer is dragged; a click that doesn't move stays a click. */
function drag(region, moved, wanted) {
  let last = null;
  region.addEventListener('pointerdown', (event) => {
    if (event.button === 0 && wanted()) last = event.clientX;
  });
  region.addEventListener('pointermove', (event) => {
    if (last === null || Math.abs(event.clientX - last) < 3) return;
    if (!region.hasPointerCapture(event.pointerId)) region.setPointerCapture(event.pointerId);
    moved(event.clientX - last);
    last = event.clientX;
  });
  const end = () => { last = null; };
  region.addEventListener('pointerup', end);
  region.addEventListener('pointercancel', end);
}

/** Which colour is which step's, as a list. Steps beyond the colours share them. */
export function legend(steps) {
  const list = h('ul', { class: 'legend' });
  follow(list, steps, (step) => step.name, (step) => h('li', {},
    h('span', { class: `swatch c${steps.indexOf(step) % COLOURS}`, 'aria-hidden': 'true' }), ' ', step.name));
  return list;
}
