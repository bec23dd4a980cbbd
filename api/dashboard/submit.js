// The dialog that submits a pipeline: its text, or a kept one by name and version; checked first.

import { change, get, part } from './api.js';
import { openDialog } from './dialog.js';
import { freshId, h, replace } from './dom.js';
import { counted } from './format.js';
import { problem, prose, say } from './notice.js';
import { paramsEditor } from './params.js';
import { go, hashOf } from './router.js';

// A pipeline is read by people; anything larger is another kind of file. The API has a limit of its own.
const FILE_BYTES_MAX = 1 << 20;
const EXAMPLE = 'name: hello\nsteps:\n  first: { noop: { tasks: 12 } }\n  then:  { noop: {}, after: [first] }\n';

/** Opens the dialog. `given` may hold the text and parameters to start with. */
export function openSubmit(given = {}) {
  openDialog('Submit a pipeline', (close) => submitForm(close, given), { wide: true });
}

function submitForm(close, given) {
  const found = h('div', { 'aria-live': 'polite' });
  const kept = keptPicker();
  const text = textEditor(given.pipeline ?? '');
  const params = paramsEditor();
  params.set(given.params ?? {});
  const options = optionFields();
  const source = sourceSwitch(text.element, kept.element);

  const body = async () => {
    const chosen = source.kept() ? kept.read() : { pipeline: text.area.value };
    return { ...chosen, params: params.read() };
  };
  /** What is wrong, shown; whether it may be submitted. */
  const check = async () => {
    replace(found);
    try {
      const pipeline = source.kept() ? await kept.text() : text.area.value;
      const answer = await change('POST', 'pipelines/check', { pipeline, params: params.read() });
      replace(found, good(answer), complaintList(answer.warnings ?? [], text, source));
      return true;
    } catch (error) {
      replace(found, error.complaints?.length > 0 ? bad(error, text, source) : problem(error));
      found.scrollIntoView({ block: 'nearest' });
      return false;
    }
  };
  const send = async () => {
    if (!(await check())) return;
    try {
      if (options.keep() && !source.kept()) await change('POST', 'pipelines', { pipeline: text.area.value, ...options.namespace() });
      const answer = await change('POST', 'runs', { ...(await body()), ...options.read() });
      say(answer.created ? 'The run is made.' : 'The same key has made this run before.');
      close();
      go(hashOf(['runs', answer.run]));
    } catch (error) {
      replace(found, error.complaints?.length > 0 ? bad(error, text, source) : problem(error));
    }
  };
  const once = (act) => async (event) => {
    event.preventDefault();
    if (form.ariaBusy === 'true') return;
    form.ariaBusy = 'true';
    await act().finally(() => { form.ariaBusy = 'false'; });
  };
  const form = h('form', { class: 'dialog-body submit' }, source.element, text.element, kept.element,
    h('fieldset', {}, h('legend', {}, 'Parameters'), params.element),
    options.element, found,
    h('div', { class: 'dialog-foot' },
      h('button', { type: 'submit', class: 'primary' }, 'Submit'),
      h('button', { type: 'button', onclick: (event) => once(check)(event) }, 'Check'),
      h('span', { class: 'note' }, 'Paths in a pipeline are those of the workers.')));
  form.addEventListener('submit', (event) => once(send)(event));
  return form;
}

function sourceSwitch(textElement, keptElement) {
  const name = freshId('source');
  const radio = (label, value, checked) => h('label', { class: 'check' }, h('input', { type: 'radio', name, value, checked, onchange: () => show() }), ` ${label}`);
  const element = h('fieldset', { class: 'switch' }, h('legend', { class: 'unseen' }, 'Where the pipeline comes from'),
    radio('Text or file', 'text', true), radio('A kept pipeline', 'kept', false));
  const kept = () => element.querySelector('input:checked').value === 'kept';
  const show = () => {
    textElement.hidden = kept();
    keptElement.hidden = !kept();
  };
  show();
  return { element, kept };
}

function textEditor(initial) {
  const area = h('textarea', { id: freshId('text'), class: 'code', rows: '12', spellcheck: 'false', autocomplete: 'off', wrap: 'off', value: initial, placeholder: EXAMPLE, autofocus: true });
  const file = h('input', { id: freshId('file'), type: 'file', accept: '.yaml,.yml,.json,text/yaml' });
  const complaint = h('span', { class: 'note', role: 'status' });
  file.addEventListener('change', async () => {
    const [chosen] = file.files;
    if (chosen === undefined) return;
    replace(complaint, chosen.size > FILE_BYTES_MAX ? 'That file is too large to be a pipeline.' : '');
    if (chosen.size <= FILE_BYTES_MAX) area.value = await chosen.text();
  });
  const element = h('div', {},
    h('div', { class: 'field' }, h('label', { for: area.id }, 'Pipeline'), area),
    h('div', { class: 'field' }, h('label', { for: file.id }, 'or from a file'), file, complaint));
  /** Puts the cursor where a complaint points. */
  const goTo = (line, column) => {
    const lines = area.value.split('\n');
    const at = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0) + Math.max(column - 1, 0);
    area.focus();
    area.setSelectionRange(at, at + 1);
  };
  return { element, area, goTo };
}

function keptPicker() {
  const name = h('select', { id: freshId('kept') });
  const version = h('select', { id: freshId('version') });
  const errors = h('div', {});
  const element = h('div', { class: 'row' },
    h('div', { class: 'field' }, h('label', { for: name.id }, 'Name'), name),
    h('div', { class: 'field' }, h('label', { for: version.id }, 'Version'), version), errors);
  let items = [];
  const showVersions = () => {
    const item = items.find((each) => key(each) === name.value);
    const newest = item?.version ?? 0;
    // Versions count from 1; the newest comes first.
    replace(version, Array.from({ length: newest }, (_, at) => h('option', { value: newest - at }, `${newest - at}${at === 0 ? ' (newest)' : ''}`)));
  };
  name.addEventListener('change', showVersions);
  get('pipelines', { limit: 500 }).then((answer) => {
    items = answer.items;
    replace(name, items.map((item) => h('option', { value: key(item) }, item.namespace === 'default' ? item.name : `${item.name} (${item.namespace})`)));
    if (items.length === 0) replace(errors, h('p', { class: 'note' }, 'No pipeline is kept yet.'));
    showVersions();
  }, (error) => replace(errors, problem(error)));
  const chosen = () => {
    const item = items.find((each) => key(each) === name.value);
    if (item === undefined) throw new Error('no pipeline is chosen');
    return item;
  };
  return {
    element,
    read: () => ({ name: chosen().name, namespace: chosen().namespace, version: Number(version.value) }),
    text: async () => {
      const { name: kept, namespace } = chosen();
      return (await get(`pipelines/${part(kept)}/versions/${version.value}`, { namespace })).pipeline;
    },
  };
}

function key(item) {
  return `${item.namespace}/${item.name}`;
}

function optionFields() {
  const namespace = h('input', { id: freshId('namespace'), placeholder: 'default', spellcheck: 'false', maxlength: '63' });
  const once = h('input', { id: freshId('key'), spellcheck: 'false', maxlength: '200' });
  const priority = h('input', { id: freshId('priority'), type: 'number', step: '1', placeholder: '0' });
  const fresh = h('input', { type: 'checkbox' });
  const keep = h('input', { type: 'checkbox' });
  const element = h('details', {}, h('summary', {}, 'Options'),
    h('div', { class: 'row' },
      h('div', { class: 'field' }, h('label', { for: namespace.id }, 'Namespace'), namespace),
      h('div', { class: 'field' }, h('label', { for: once.id }, 'Key'), once, h('p', { class: 'hint' }, 'The same key makes the same run.')),
      h('div', { class: 'field' }, h('label', { for: priority.id }, 'Priority'), priority)),
    h('label', { class: 'check' }, fresh, ' Do everything again, whatever was done before'),
    h('label', { class: 'check' }, keep, ' Keep the pipeline under its name'));
  const namespaceGiven = () => (namespace.value.trim() === '' ? {} : { namespace: namespace.value.trim() });
  return {
    element,
    keep: () => keep.checked,
    namespace: namespaceGiven,
    read: () => ({
      ...namespaceGiven(),
      ...(once.value.trim() === '' ? {} : { key: once.value.trim() }),
      ...(priority.value === '' ? {} : { priority: Number(priority.value) }),
      ...(fresh.checked ? { no_cache: true } : {}),
    }),
  };
}

function good(answer) {
  const names = answer.steps.map((step) => step.name).join(', ');
  return h('div', { class: 'alert is-good' },
    h('p', { class: 'alert-heading' }, h('span', { 'aria-hidden': 'true' }, '✓ '), `${answer.name}: ${counted(answer.steps.length, 'step')}, nothing wrong`),
    h('p', {}, names));
}

function bad(error, text, source) {
  return h('div', { class: 'alert is-bad', role: 'alert' },
    h('p', { class: 'alert-heading' }, h('span', { 'aria-hidden': 'true' }, '✕ '), error.message),
    complaintList(error.complaints, text, source));
}

function complaintList(complaints, text, source) {
  if (complaints.length === 0) return null;
  return h('ol', { class: 'complaints' }, complaints.map((each) => {
    const place = each.line > 0 ? `line ${each.line}, column ${each.column}` : 'parameters';
    const where = each.line > 0 && !source.kept()
      ? h('button', { type: 'button', class: 'link', onclick: () => text.goTo(each.line, each.column) }, place)
      : h('span', {}, place);
    return h('li', {}, where, ': ', prose(each.message), each.hint ? h('p', { class: 'hint' }, 'hint: ', prose(each.hint)) : null);
  }));
}
