// What a validate step measured: gates, metrics, curves. The same charts as in reports.

import { h } from './dom.js';
import { count, number, percent } from './format.js';
import { prose } from './notice.js';
import { metricOrder } from './output.js';
import { note } from './parts.js';
import { calibration, figure, scatter, unitCurve } from './plots.js';
import { facts, table } from './table.js';

// Classes whose curves are drawn; a page with more of them says less.
const CURVES_SHOWN = 3;
// Larger tables of classes are no longer read cell by cell.
const CONFUSION_MAX = 12;

/** Metrics, those first that people look at first. */
export function metricFacts(metrics) {
  return facts(metricOrder(metrics).map((name) => [name, number(metrics[name])]));
}

/** An evaluation as the artifact holds it. */
export function evidenceView(step, evidence) {
  const charts = evidence.evaluation?.charts ?? {};
  return [
    gates(evidence.gates ?? []),
    metricFacts(evidence.evaluation?.metrics ?? {}),
    charts.classification ? classification(step, charts.classification) : null,
    charts.regression ? h('div', { class: 'charts' },
      figure('Predicted and actual', scatter(charts.regression.scatter), 'On the dashed line predictions are exact. Rows are evenly picked.')) : null,
    importances(step, evidence.importances ?? []),
  ];
}

function gates(list) {
  if (list.length === 0) return null;
  return h('ul', { class: 'gates' }, list.map((gate) => h('li', {},
    h('span', { class: `badge ${gate.passed ? 'is-good' : 'is-rejected'}` }, gate.passed ? '✓ passed' : '! not passed'), ' ', prose(gate.message))));
}

function classification(step, charts) {
  return [
    h('div', { class: 'charts' }, charts.curves.slice(0, CURVES_SHOWN).map((curve) => [
      figure(charts.curves.length > 1 ? `ROC of ${curve.class}` : 'ROC', unitCurve({
        points: curve.roc, reference: [{ x: 0, y: 0 }, { x: 1, y: 1 }], xLabel: 'false positive rate', yLabel: 'true positive rate',
        alt: `ROC curve of class ${curve.class}, area under it ${number(area(curve.roc))}`,
      }), `Area ${number(area(curve.roc))}. The nearer to the top left corner, the better; the dashed line is chance.`),
      precisionRecall(curve),
      curve.calibration.length > 0 ? figure('Calibration', calibration(curve.calibration, curve.class), 'On the dashed line, what is said to happen 3 times of 10 does.') : null,
    ])),
    confusion(step, charts),
  ];
}

function precisionRecall(curve) {
  const [own, rest] = curve.scores.reduce(([a, b], bin) => [a + bin.of_class, b + bin.of_rest], [0, 0]);
  const base = own / Math.max(own + rest, 1);
  return figure('Precision and recall', unitCurve({
    points: curve.precision_recall, reference: [{ x: 0, y: base }, { x: 1, y: base }], xLabel: 'recall', yLabel: 'precision',
    alt: `precision over recall of class ${curve.class}; guessing reaches ${percent(base)}`,
  }), `The dashed line is what guessing reaches: ${percent(base)} of the rows are of the class.`);
}

function confusion(step, { classes, confusion: rows }) {
  if (!rows || classes.length > CONFUSION_MAX) return null;
  return [
    h('h3', {}, 'Predicted and true classes'),
    table(`Rows of ${step} by true and predicted class`, ['true class', ...classes.map((name) => `>predicted ${name}`)], rows.map((cells, at) => h('tr', {},
      h('th', { scope: 'row' }, classes[at]),
      cells.map((cell, other) => {
        const share = cell / Math.max(cells.reduce((a, b) => a + b, 0), 1);
        const node = h('td', { class: `number cell ${at === other ? 'right' : 'wrong'}` }, count(cell), h('small', {}, percent(share)));
        node.style.setProperty('--share', share);
        return node;
      })))).element,
  ];
}

function importances(step, list) {
  if (list.length === 0) return null;
  const most = Math.max(...list.map((each) => each.share), 1e-9);
  const shown = list.slice(0, 15);
  return [
    h('h3', {}, 'What matters to the model'),
    table(`Importance of the inputs of ${step}`, ['input', '>share', ''], shown.map((each) => {
      const bar = h('span', { class: 'share-bar' });
      bar.style.setProperty('inline-size', `${((Math.max(each.share, 0) / most) * 100).toFixed(1)}%`);
      return h('tr', {}, h('th', { scope: 'row' }, each.name), h('td', { class: 'number' }, percent(each.share)), h('td', { class: 'bar-cell', 'aria-hidden': 'true' }, bar));
    })).element,
    list.length > shown.length ? note(`${list.length - shown.length} more matter less.`) : null,
  ];
}

/** The area under a curve of points in the order of x, by trapezoids. */
function area(points) {
  return points.slice(1).reduce((sum, point, at) => sum + ((point.x - points[at].x) * (point.y + points[at].y)) / 2, 0);
}
