// Dialogs: the browser's own, which keep the focus inside, close with Escape and give the focus back.

import { freshId, h, replace } from './dom.js';
import { problem } from './notice.js';

/** Opens a dialog with a heading. `inside(close)` gives its content. It leaves the page when it closes. */
export function openDialog(heading, inside, { wide = false, closed = () => {} } = {}) {
  const id = freshId('dialog');
  const dialog = h('dialog', { class: wide ? 'wide' : null, 'aria-labelledby': id });
  const close = () => dialog.close();
  dialog.append(
    h('div', { class: 'dialog-head' },
      h('h2', { id }, heading),
      h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close', onclick: close }, '✕')),
    inside(close));
  dialog.addEventListener('close', () => {
    // Notices that were shown inside go on outside.
    const region = dialog.querySelector('#notices');
    if (region) document.body.append(region);
    dialog.remove();
    closed();
  });
  // The page goes on under an open dialog; another page has no use for it.
  window.addEventListener('hashchange', close, { once: true });
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector('[autofocus], .dialog-body input, .dialog-body textarea, .dialog-body select')?.focus();
  return dialog;
}

/**
 * Asks before something is changed. `act(why)` does it; its error is shown in the dialog, which stays open. With
 * `why` a reason is asked for, and kept where the change is.
 */
export function confirm({ heading, text, verb, why = false, danger = false, act }) {
  return openDialog(heading, (close) => {
    const errors = h('div', {});
    const reason = h('textarea', { id: freshId('why'), rows: '2', maxlength: '500', required: why });
    const yes = h('button', { type: 'submit', class: danger ? 'danger' : 'primary' }, verb);
    const submit = async (event) => {
      event.preventDefault();
      if (yes.disabled) return;
      yes.disabled = true;
      try {
        await act(reason.value.trim());
        close();
      } catch (error) {
        replace(errors, problem(error));
      } finally {
        yes.disabled = false;
      }
    };
    return h('form', { class: 'dialog-body', onsubmit: submit },
      h('p', {}, text),
      why ? h('div', { class: 'field' }, h('label', { for: reason.id }, 'Why?'), reason,
        h('p', { class: 'hint' }, 'It is kept with the change, for whoever asks later.')) : null,
      errors,
      h('div', { class: 'dialog-foot' },
        yes,
        h('button', { type: 'button', onclick: close, autofocus: !why }, 'Keep as it is')));
  });
}
