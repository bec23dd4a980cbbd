// Who is asking, what they may do, and signing in.

import { change, get } from './api.js';
import { freshId, h, replace } from './dom.js';
import { problem, say } from './notice.js';

const ROLES = ['viewer', 'submitter', 'deployer', 'admin'];

let me = null;

/** Asks the API who one is. 401 is an error of the caller's. */
export async function whoami() {
  me = await get('whoami');
  return me;
}

/** Who is asking, as last told. */
export function identity() {
  return me;
}

/**
 * Why something can't be done, or `null` when it can. What belongs to the cluster as a whole needs a token for all
 * namespaces.
 */
export function refused(role, cluster = false) {
  if (me === null) return 'you are not signed in';
  if (ROLES.indexOf(me.role) < ROLES.indexOf(role)) return `this needs the role ${role}; you are ${me.role}`;
  if (cluster && !me.namespaces?.includes('*')) return 'this needs a token for all namespaces';
  return null;
}

/**
 * A button that only some roles can use. For others it stays, and says why it doesn't do anything. `of` says to those
 * who don't see the row what the button is of.
 */
export function roleButton(label, { role, of = null, cluster = false, style = null, onclick }) {
  const why = refused(role, cluster);
  const name = [label, of === null ? null : h('span', { class: 'unseen' }, ` ${of}`)];
  if (why === null) return h('button', { type: 'button', class: style, onclick }, name);
  const id = freshId('why');
  return h('span', { class: 'refused' },
    h('button', {
      type: 'button', class: style, 'aria-disabled': 'true', 'aria-describedby': id, title: why,
      onclick: () => say(`${label}: ${why}.`, 'is-rejected'),
    }, name),
    h('span', { id, class: 'unseen' }, why));
}

/** The page for those whom the API doesn't know. `done` is called once it does. */
export function signInPage(done) {
  const errors = h('div', {});
  const token = h('input', { id: 'token', type: 'password', autocomplete: 'current-password', required: true, spellcheck: 'false', placeholder: 'gmt_…' });
  const button = h('button', { type: 'submit', class: 'primary' }, 'Sign in');
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    try {
      await change('POST', 'session', { token: token.value.trim() });
      token.value = '';
      await done();
    } catch (error) {
      replace(errors, problem(error));
    } finally {
      button.disabled = false;
    }
  };
  const element = h('div', { class: 'sign-in' },
    h('h1', {}, 'Sign in'),
    h('form', { onsubmit: submit },
      h('div', { class: 'field' },
        h('label', { for: 'token' }, 'Token'), token,
        h('p', { class: 'hint' }, 'Admins make tokens on the page Access. The browser keeps it in a cookie that no page can read.')),
      errors, button));
  return { title: 'Sign in', element };
}

/** Ends the session of this browser. */
export async function signOut() {
  await change('DELETE', 'session');
  me = null;
}
