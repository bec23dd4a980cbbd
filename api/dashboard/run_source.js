// The pipeline of a run as it was submitted, with numbers of lines, and its parameters.

import { h, replace } from './dom.js';
import { valueText } from './format.js';
import { note, section } from './parts.js';
import { roleButton } from './session.js';
import { openSubmit } from './submit.js';
import { table } from './table.js';

/** The view `#/runs/{run}/source`. */
export function sourceView(run) {
  const place = h('div', {});
  let shown = null;
  return {
    element: place,
    update(news) {
      // A page that was opened by an event has the source a moment later.
      if (shown === (news.source ?? '')) return;
      shown = news.source ?? '';
      replace(place, content(news));
    },
  };
}

function content(run) {
  const params = Object.entries(run.params ?? {});
  return section('Pipeline',
    params.length === 0 ? null : table('The parameters it ran with', ['parameter', 'value'], params.map(([name, value]) => h('tr', {},
      h('th', { scope: 'row' }, name), h('td', {}, h('code', {}, valueText(value)))))).element,
    run.source ? [
      note('The file as it was submitted.'),
      h('pre', { class: 'numbered', tabindex: '0', 'aria-label': 'the pipeline file' }, lines(run.source).map((line) => h('code', {}, `${line}\n`))),
      h('p', {}, roleButton('Submit it again…', { role: 'submitter', onclick: () => openSubmit({ pipeline: run.source, params: run.params }) })),
    ] : note('Its text was not kept.'));
}

function lines(text) {
  return text.replace(/\n$/, '').split('\n');
}
