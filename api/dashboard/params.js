// Parameters as rows of names and values.

import { freshId, h } from './dom.js';

// As many as anybody types by hand; files hold more.
const ROWS_MAX = 100;

/** An editor of parameters. `read()` gives them as an object; numbers, booleans and JSON are taken as such. */
export function paramsEditor() {
  const rows = h('div', { class: 'params' });
  const add = (name = '', value = '') => {
    if (rows.childElementCount >= ROWS_MAX) return null;
    const key = h('input', { id: freshId('param'), class: 'param-name', value: name, 'aria-label': 'Parameter', placeholder: 'trees', spellcheck: 'false', autocomplete: 'off', maxlength: '100' });
    const text = h('input', { class: 'param-value', value, 'aria-label': 'Value', placeholder: '200', spellcheck: 'false', autocomplete: 'off' });
    const row = h('div', { class: 'param' }, key, h('span', { 'aria-hidden': 'true' }, '='), text,
      h('button', { type: 'button', class: 'quiet', 'aria-label': 'Remove the parameter', onclick: () => row.remove() }, '✕'));
    rows.append(row);
    return key;
  };
  const more = h('button', { type: 'button', onclick: () => add()?.focus() }, 'Add a parameter');
  const read = () => {
    const params = {};
    for (const row of rows.children) {
      const name = row.querySelector('.param-name').value.trim();
      if (name !== '') params[name] = parsed(row.querySelector('.param-value').value);
    }
    return params;
  };
  const set = (params) => {
    rows.replaceChildren();
    for (const [name, value] of Object.entries(params)) add(name, typeof value === 'string' ? value : JSON.stringify(value));
  };
  return { element: h('div', {}, rows, more), read, set };
}

/** `200` is a number, `true` a boolean, `[1, 2]` a list; all else is text. */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
