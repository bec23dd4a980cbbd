// Charts as SVG: a plane with axes and round ticks, lines, dots and bars. Drawn at the size of a phone, so that their
// text can be read there; colours come from classes, which know of light and dark.

import { h, s } from './dom.js';
import { number, percent, shortCount } from './format.js';
import { ticks } from './timeline_axis.js';

const WIDTH = 340;
const HEIGHT = 230;
const LEFT = 50;
const RIGHT = 12;
const TOP = 12;
const BOTTOM = 40;
// The part of a metric that its axis spans at the least.
const SPAN_MIN = 0.01;

/** From values to pixels, in a straight line; a range that has no width is given some. */
function scale(from, to, first, last) {
  let [low, high] = Number.isFinite(from) && Number.isFinite(to) ? [from, to] : [0, 1];
  if (!(low < high)) {
    const pad = low === 0 ? 0.5 : Math.abs(low) * 0.05;
    [low, high] = [low - pad, high + pad];
  }
  const at = (value) => first + Math.min(Math.max((value - low) / (high - low), 0), 1) * (last - first);
  return { at, low, high };
}

function px(value) {
  return Number.isFinite(value) ? String(Math.round(value * 10) / 10) : '0';
}

/** A chart with a title and a sentence on how to read it. */
export function figure(title, chart, caption) {
  return h('figure', {}, h('h3', {}, title), chart, caption ? h('figcaption', {}, caption) : null);
}

/** An empty plane over these values. `draw(plane)` gives what is on it. */
export function plane({ x, y, xLabel, yLabel, alt, xTicks, xText = null, yText = null }, draw) {
  const across = scale(x[0], x[1], LEFT, WIDTH - RIGHT);
  const up = scale(y[0], y[1], HEIGHT - BOTTOM, TOP);
  const svg = s('svg', { class: 'chart', viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: 'img', 'aria-label': alt });
  const ups = ticks(up.low, up.high, 4);
  for (const value of ups) {
    svg.append(s('line', { class: 'grid', x1: LEFT, x2: WIDTH - RIGHT, y1: px(up.at(value)), y2: px(up.at(value)) }),
      s('text', { class: 'tick end', x: LEFT - 6, y: px(up.at(value) + 4) }, (yText ?? digits(ups))(value)));
  }
  const acrosses = xTicks ?? ticks(across.low, across.high, 5);
  for (const value of acrosses) {
    svg.append(s('line', { class: 'grid', x1: px(across.at(value)), x2: px(across.at(value)), y1: TOP, y2: HEIGHT - BOTTOM }),
      s('text', { class: 'tick middle', x: px(across.at(value)), y: HEIGHT - BOTTOM + 15 }, (xText ?? digits(acrosses))(value)));
  }
  svg.append(s('line', { class: 'axis', x1: LEFT, x2: WIDTH - RIGHT, y1: HEIGHT - BOTTOM, y2: HEIGHT - BOTTOM }),
    s('text', { class: 'middle', x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6 }, xLabel));
  if (yLabel) svg.append(s('text', { class: 'middle', x: 0, y: 0, transform: `translate(11 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)` }, yLabel));
  svg.append(...draw({ x: across, y: up }).flat(Infinity));
  return svg;
}

/** How values of an axis are written: with as many digits as tell neighbours apart. */
function digits(values) {
  const step = values.length > 1 ? values[1] - values[0] : 1;
  const count = Math.min(Math.max(-Math.floor(Math.log10(step) + 1e-9), 0), 8);
  return (value) => (Math.abs(value) >= 1e4 ? shortCount(value) : value.toFixed(count));
}

/** Points joined by a line. */
export function line(on, points, style = 'series') {
  const path = points.map((point, at) => `${at === 0 ? 'M' : 'L'}${px(on.x.at(point.x))} ${px(on.y.at(point.y))}`).join(' ');
  return s('path', { class: style, d: path });
}

/** A dot that says what it is when one points at it. */
export function dot(on, point, words, { radius = 3.2, style = 'point' } = {}) {
  return s('circle', { class: style, cx: px(on.x.at(point.x)), cy: px(on.y.at(point.y)), r: px(radius) }, words ? s('title', {}, words) : null);
}

/** How a metric went over a model's versions. */
export function overVersions(name, points) {
  const values = points.map((point) => point.y);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  // Differences that nobody would call one don't look like a fall.
  const span = Math.max(high - low, SPAN_MIN * Math.abs(high)) || 1;
  const [middle, reach] = [(low + high) / 2, span * 0.62];
  const first = points[0].x;
  const last = points.at(-1).x;
  const alt = `${name} over versions ${first} to ${last}, from ${number(low)} to ${number(high)}; the table of versions has all values`;
  const whole = ticks(first, last, 6).filter((value) => Number.isInteger(value));
  return plane({ x: [first, last], y: [middle - reach, middle + reach], xLabel: 'version', alt, xTicks: whole.length > 0 ? whole : [first] }, (on) => [
    line(on, points),
    points.map((point) => dot(on, point, `version ${point.x}: ${number(point.y)}${point.alias ? `, ${point.alias}` : ''}`, { radius: point.alias ? 5 : 3.2, style: point.alias ? 'point marked' : 'point' })),
    aliasLabels(on, points),
  ]);
}

// Pixels that a letter of a label takes, and a label's height.
const LETTER = 6.6;
const LABEL = 12;

/** Aliases beside their dots, each at the first place where it covers neither a dot nor another alias. */
function aliasLabels(on, points) {
  const dots = points.map((point) => ({ x: on.x.at(point.x), y: on.y.at(point.y) }));
  const taken = dots.map(({ x, y }) => ({ left: x - 5, right: x + 5, top: y - 5, bottom: y + 5 }));
  return points.map((point, at) => {
    if (!point.alias) return [];
    const { x, y } = dots[at];
    const wide = point.alias.length * LETTER;
    const boxes = [y - 8, y + 18, y - 22, y + 32].flatMap((bottom) => [x - wide / 2, x - wide, x]
      .filter((left) => left >= LEFT && left + wide <= WIDTH && bottom - LABEL >= 0 && bottom <= HEIGHT - BOTTOM)
      .map((left) => ({ left, right: left + wide, top: bottom - LABEL + 2, bottom })));
    const free = boxes.find((box) => !taken.some((other) => box.left < other.right && box.right > other.left && box.top < other.bottom && box.bottom > other.top));
    const box = free ?? boxes[0];
    if (box === undefined) return [];
    taken.push(box);
    return s('text', { class: 'strong', x: px(box.left), y: px(box.bottom - 2) }, point.alias);
  });
}

/** A curve in the unit square with the line that it is held against. */
export function unitCurve({ points, reference, xLabel, yLabel, alt }) {
  return plane({ x: [0, 1], y: [0, 1], xLabel, yLabel, alt }, (on) => [line(on, reference, 'reference'), line(on, points)]);
}

/** What share came true of what was predicted; larger dots stand for more rows. */
export function calibration(bins, of) {
  const most = Math.max(...bins.map((bin) => bin.rows), 1);
  const gap = Math.max(...bins.map((bin) => Math.abs(bin.observed - bin.predicted)), 0);
  const alt = `observed share over mean predicted probability of class ${of} in ${bins.length} bins; the largest gap is ${number(gap)}`;
  return plane({ x: [0, 1], y: [0, 1], xLabel: 'predicted probability', yLabel: 'observed share', alt }, (on) => [
    line(on, [{ x: 0, y: 0 }, { x: 1, y: 1 }], 'reference'),
    line(on, bins.map((bin) => ({ x: bin.predicted, y: bin.observed })), 'series thin'),
    bins.map((bin) => dot(on, { x: bin.predicted, y: bin.observed },
      `predicted ${number(bin.predicted)}, observed ${number(bin.observed)}, ${bin.rows} rows`, { radius: 2.5 + 4.5 * Math.sqrt(bin.rows / most) })),
  ]);
}

/** Predicted over actual values. */
export function scatter(points) {
  const values = points.flatMap((point) => [point.x, point.y]).filter(Number.isFinite);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return plane({ x: [low, high], y: [low, high], xLabel: 'actual', yLabel: 'predicted', alt: `predicted over actual values of ${points.length} rows`, xText: shortCount, yText: shortCount }, (on) => [
    line(on, [{ x: low, y: low }, { x: high, y: high }], 'reference'),
    points.map((point) => dot(on, point, null, { radius: 2, style: 'point faint' })),
  ]);
}

/** The histogram of a column, in the space of a table's cell. Bars are equally wide; `show` prints edges. */
export function smallHistogram({ edges, counts }, show) {
  const bins = Math.min(counts.length, Math.max(edges.length - 1, 0));
  const usual = edges[Math.floor(bins / 2) + 1] - edges[Math.floor(bins / 2)];
  const bars = counts.slice(0, bins).map((count, at) => ({
    count,
    // The outer bins may hold a long tail; they look different for not being as wide as the others.
    style: usual > 0 && edges[at + 1] - edges[at] > 1.5 * usual ? 'fill tail' : 'fill',
    words: `${show(edges[at])} to ${show(edges[at + 1])}: ${number(count)}`,
  }));
  return smallBars(bars, `histogram from ${show(edges[0])} to ${show(edges[bins])} in ${bins} bins`);
}

/** The most frequent values as bars, for columns that have no histogram. */
export function smallFrequencies(top, rows) {
  const bars = top.slice(0, 12).map((each) => ({ count: each.count, style: 'fill other', words: `${each.value}: ${number(each.count)}, ${percent(each.count / Math.max(rows, 1))}` }));
  return smallBars(bars, `the ${bars.length} most frequent values`);
}

function smallBars(bars, alt) {
  const [width, height] = [132, 34];
  const each = Math.min(width / Math.max(bars.length, 1), 28);
  const most = Math.max(...bars.map((bar) => bar.count), 1);
  return s('svg', { class: 'small', viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': alt },
    bars.map((bar, at) => {
      const tall = bar.count === 0 ? 0 : Math.max((bar.count / most) * (height - 2), 1);
      return s('rect', { class: bar.style, x: px(at * each), y: px(height - tall), width: px(Math.max(each - 1, 1)), height: px(tall) }, s('title', {}, bar.words));
    }),
    s('line', { class: 'axis', x1: 0, x2: width, y1: height, y2: height }));
}
