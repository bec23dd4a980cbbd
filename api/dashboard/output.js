// What steps have made, in a few words and as links to it.

import { h } from './dom.js';
import { bytes, count, counted, number, shortDigest } from './format.js';
import { hashOf } from './router.js';

// The metrics that people look at first.
const METRICS_FIRST = ['roc_auc', 'rmse', 'accuracy', 'r2', 'pr_auc', 'mae'];

/** Names of metrics, those first that people look at first. */
export function metricOrder(metrics) {
  const rank = (name) => (METRICS_FIRST.includes(name) ? METRICS_FIRST.indexOf(name) : METRICS_FIRST.length);
  return Object.keys(metrics ?? {}).sort((a, b) => rank(a) - rank(b) || a.localeCompare(b));
}

/** An output in a few words. */
export function madeText(output) {
  switch (output?.made) {
    case 'dataset': return counted(output.dataset.rows, 'row');
    case 'checked': return output.warnings > 0 ? counted(output.warnings, 'warning') : 'holds';
    case 'parts': return Object.entries(output.parts).map(([name, part]) => `${name} ${count(part.rows)}`).join(', ');
    case 'model': return `${output.algorithm}, ${bytes(output.bytes)}`;
    case 'evaluation': {
      const [first] = metricOrder(output.metrics);
      return first === undefined ? 'measured' : `${first} ${number(output.metrics[first])}`;
    }
    case 'version': return `${output.name}@${output.version}${output.alias ? `, ${output.alias}` : ''}`;
    case 'scores': return `${counted(output.rows, 'row')} in ${output.path}`;
    default: return '';
  }
}

/** A dataset by its digest, as a link. */
export function datasetLink(dataset, name) {
  return h('a', { href: hashOf(['datasets', dataset.manifest]) }, name ?? shortDigest(dataset.manifest));
}

/** A registered model's version, as a link. */
export function versionLink(name, version) {
  return h('a', { href: hashOf(['models', name], { version }) }, `${name}@${version}`);
}
