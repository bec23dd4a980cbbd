// The graph of a run's steps as SVG. Built once; as the run goes on its nodes change in place and fill up.

import { s, setAttr, setText } from './dom.js';
import { counted, cut, seconds } from './format.js';
import { GAP_Y, NODE_HEIGHT, NODE_WIDTH, layout } from './layout.js';
import { look, stepStatus } from './status.js';

// Steps of a graph that is drawn; larger ones are left to the table, where they can be read.
const STEPS_DRAWN_MAX = 150;
// Letters that fit beside the sign and, for the name, the time; in the widest of the system's fonts.
const NAME_LETTERS = 13;
const DETAIL_LETTERS = 23;
// Text of 11.5 pixels is then of 9.
const SHRINK_MIN = 0.78;

/**
 * A graph of steps. `hashOf(step)` is where a node leads. Gives `{ element, width, update(steps, chosen) }`, or
 * `null` when it is too large to be read.
 */
export function graph(steps, hashOf) {
  if (steps.length > STEPS_DRAWN_MAX) return null;
  const numbers = new Map(steps.map((step, at) => [step.name, at]));
  const needs = steps.map((step) => step.needs.map((need) => numbers.get(need.step)).filter((need) => need !== undefined));
  const { places, width, height } = layout(needs);
  const nodes = steps.map((step, at) => node(step, places[at], hashOf(step)));
  const svg = s('svg', {
    class: 'dag', viewBox: `0 0 ${px(width)} ${px(height)}`, width: px(width), height: px(height),
    role: 'group', 'aria-label': 'graph of the steps',
  });
  // A wide graph is drawn smaller, as long as it can be read; past that it scrolls.
  svg.style.setProperty('min-inline-size', `${px(width * SHRINK_MIN)}px`);
  for (const place of places) for (const below of place.below) svg.append(edge(place, places[below], steps));
  for (const each of nodes) svg.append(each.element);
  svg.addEventListener('keydown', (event) => walk(event, steps, needs, nodes));
  const update = (now, chosen) => now.forEach((step, at) => nodes[at]?.update(step, step.name === chosen));
  update(steps, null);
  return { element: svg, width, update };
}

function px(value) {
  return String(Math.round(value * 10) / 10);
}

function node(step, place, href) {
  const shape = { x: px(place.x), y: px(place.y), width: NODE_WIDTH, height: NODE_HEIGHT, rx: 8 };
  const inner = { ...shape, x: px(place.x + 1), y: px(place.y + 1), height: NODE_HEIGHT - 2, rx: 7 };
  const fill = s('rect', { ...inner, class: 'node-fill', width: 0 });
  const icon = s('text', { 'aria-hidden': 'true', class: 'icon middle', x: px(place.x + 17), y: px(place.y + 31) });
  const detail = s('text', { class: 'detail', x: px(place.x + 34), y: px(place.y + 39) });
  const measure = s('text', { class: 'detail end', x: px(place.x + NODE_WIDTH - 11), y: px(place.y + 21) });
  const title = s('title', {});
  const element = s('a', { href, 'data-step': step.name },
    s('rect', { ...shape, class: 'box' }, title), fill, icon,
    s('text', { class: 'name', x: px(place.x + 34), y: px(place.y + 21) }, cut(step.name, NAME_LETTERS)), measure, detail);
  const update = (now, chosen) => {
    const status = stepStatus(now);
    const { style, icon: sign } = look(status);
    setAttr(element, 'class', `node ${style} status-${status}${chosen ? ' chosen' : ''}`);
    setAttr(element, 'aria-current', chosen ? 'true' : null);
    const share = now.tasks > 0 ? Math.min(now.ended / now.tasks, 1) : 0;
    setAttr(fill, 'width', px((NODE_WIDTH - 2) * (status === 'waiting' ? 0 : Math.max(share, status === 'running' ? 0.02 : 0))));
    setText(icon, sign);
    setText(detail, cut(`${now.kind} · ${status}`, DETAIL_LETTERS));
    setText(measure, howFar(now, status));
    setText(title, `${now.name}: ${now.ended} of ${counted(now.tasks, 'task')} ended`);
  };
  return { element, update };
}

/** While a step works how far it is, then how long it took. */
function howFar(step, status) {
  if (status === 'running' || status === 'retrying') return `${shortly(step.ended)}/${shortly(step.tasks)}`;
  return step.attempts > 0 && step.seconds > 0 ? seconds(step.seconds) : '';
}

function shortly(value) {
  return value >= 10_000 ? `${Math.floor(value / 1000)}k` : String(value);
}

/** A curve from the bottom of one place to the top of another; an edge that passes goes on through its place. */
function edge(from, to) {
  const [x1, y1] = [from.x + from.width / 2, from.y + NODE_HEIGHT];
  const [x2, y2] = [to.x + to.width / 2, to.y];
  const bend = GAP_Y / 2;
  let path = `M${px(x1)} ${px(y1)} C${px(x1)} ${px(y1 + bend)} ${px(x2)} ${px(y2 - bend)} ${px(x2)} ${px(y2)}`;
  if (to.step === null) path += ` V${px(y2 + NODE_HEIGHT)}`;
  else path += ` M${px(x2 - 4)} ${px(y2 - 6)} L${px(x2)} ${px(y2)} L${px(x2 + 4)} ${px(y2 - 6)}`;
  return s('path', { class: 'edge', d: path });
}

/** Arrow keys go along the edges, and between steps that stand beside each other in the list. */
function walk(event, steps, needs, nodes) {
  const at = steps.findIndex((step) => step.name === event.target.closest('[data-step]')?.dataset.step);
  if (at < 0) return;
  const to = {
    ArrowUp: needs[at][0],
    ArrowDown: needs.findIndex((list) => list.includes(at)),
    ArrowLeft: at - 1,
    ArrowRight: at + 1,
  }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  nodes[to]?.element.focus();
}
