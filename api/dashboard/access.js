// Access: who one is, the tokens of others, and who did what.

import { change, get, part } from './api.js';
import { confirm, openDialog } from './dialog.js';
import { follow, freshId, h, replace } from './dom.js';
import { count, who } from './format.js';
import { empty, problem, say, tell } from './notice.js';
import { copyable, note, pageHead, section, time } from './parts.js';
import { identity, refused, signOut } from './session.js';
import { facts, pager, table } from './table.js';

const ROLES = {
  viewer: 'reads',
  submitter: 'and submits, cancels and resumes runs',
  deployer: 'and promotes models and sets endpoints',
  admin: 'and makes tokens and drops messages',
};
// Longer-lived tokens are forgotten somewhere.
const EXPIRES_DAYS = '90';

/** The page `#/access`. */
export function accessPage() {
  const me = identity();
  const leaving = new AbortController();
  const leave = async () => {
    try {
      await signOut();
      location.reload();
    } catch (error) {
      say(error.message, 'is-bad');
    }
  };
  const actions = me.anonymous ? [] : [h('button', { type: 'button', onclick: leave }, 'Sign out')];
  const admin = refused('admin') === null;
  return {
    title: 'Access',
    element: h('div', {}, pageHead('Access', { actions }),
      section('You', facts([
        ['name', me.anonymous ? 'anybody on this machine' : me.name],
        ['role', me.role],
        ['namespaces', me.namespaces.includes('*') ? 'all' : me.namespaces.join(', ')],
      ]), me.anonymous ? h('p', { class: 'note after' }, 'No token was ever made, and the server listens to this machine alone: everybody here is an admin. The first token ends that.') : null),
      admin ? [tokens(leaving.signal), audit(leaving.signal)] : note('Admins see tokens and who did what here.')),
    leave: () => leaving.abort(),
  };
}

function tokens(signal) {
  const errors = h('div', {});
  const nothing = h('div', {});
  const list = table('Tokens', ['name', 'role', '~namespaces', '~made', 'expires', '']);
  const pages = pager('Pages of tokens', load).named('← Previous', 'Next →');
  async function load() {
    try {
      const answer = await get('tokens', { cursor: pages.cursor }, signal);
      pages.loaded(answer.next);
      tell(errors, null);
      follow(list.body, answer.items, (item) => `${item.id}/${item.revoked_ms ?? ''}`, (item) => tokenRow(item, load));
      list.element.hidden = answer.items.length === 0;
      replace(nothing, answer.items.length === 0 ? note('There are none.') : null);
    } catch (error) {
      tell(errors, error, 'The tokens cannot be listed');
    }
  }
  load();
  return section('Tokens', errors, list.element, nothing, pages.element,
    h('p', { class: 'after' }, h('button', { type: 'button', class: 'primary', onclick: () => newToken(load) }, 'Make a token…')));
}

function tokenRow(item, load) {
  const gone = item.revoked_ms !== null && item.revoked_ms !== undefined;
  const revoke = () => confirm({
    heading: `Revoke the token of ${item.name}?`,
    text: 'Whoever uses it is refused from now on. It cannot be given back; another can be made.',
    verb: 'Revoke',
    danger: true,
    act: async () => {
      await change('DELETE', `tokens/${part(item.id)}`);
      say(`The token of ${item.name} is revoked.`);
      await load();
    },
  });
  return h('tr', {},
    h('th', { scope: 'row' }, item.name, h('small', {}, h('code', {}, item.id), item.by ? `, made by ${item.by}` : '')),
    h('td', {}, item.role),
    h('td', { class: 'wide-only' }, (item.namespaces ?? []).includes('*') ? 'all' : (item.namespaces ?? []).join(', ')),
    h('td', { class: 'wide-only' }, item.created_ms ? time(item.created_ms) : '–'),
    h('td', {}, gone ? ['revoked ', time(item.revoked_ms)] : item.expires_ms ? time(item.expires_ms) : 'never'),
    h('td', { class: 'row-actions' }, gone ? null : h('button', { type: 'button', onclick: revoke }, 'Revoke…', h('span', { class: 'unseen' }, ` the token of ${item.name}`))));
}

function newToken(load) {
  openDialog('Make a token', (close) => {
    const name = h('input', { id: freshId('name'), required: true, maxlength: '63', spellcheck: 'false' });
    const role = h('select', { id: freshId('role') }, Object.entries(ROLES).map(([each, can]) => h('option', { value: each }, `${each}: ${can}`)));
    const namespaces = h('input', { id: freshId('namespaces'), value: '*', required: true, spellcheck: 'false' });
    const days = h('input', { id: freshId('days'), type: 'number', min: '1', max: '3650', value: EXPIRES_DAYS });
    const errors = h('div', {});
    const body = h('form', { class: 'dialog-body', onsubmit: submit },
      h('div', { class: 'field' }, h('label', { for: name.id }, 'Name'), name, h('p', { class: 'hint' }, 'Who or what uses it.')),
      h('div', { class: 'field' }, h('label', { for: role.id }, 'Role'), role),
      h('div', { class: 'field' }, h('label', { for: namespaces.id }, 'Namespaces'), namespaces, h('p', { class: 'hint' }, 'Names with commas between them, or * for all.')),
      h('div', { class: 'field' }, h('label', { for: days.id }, 'Days until it expires'), days, h('p', { class: 'hint' }, 'Empty: never.')),
      errors,
      h('div', { class: 'dialog-foot' }, h('button', { type: 'submit', class: 'primary' }, 'Make it'), h('button', { type: 'button', onclick: close }, 'Leave it')));
    async function submit(event) {
      event.preventDefault();
      try {
        const made = await change('POST', 'tokens', {
          name: name.value.trim(), role: role.value,
          namespaces: namespaces.value.split(',').map((each) => each.trim()).filter((each) => each !== ''),
          ...(days.value === '' ? {} : { expires_days: Number(days.value) }),
        });
        showOnce(body, made, close);
        await load();
      } catch (error) {
        replace(errors, problem(error));
      }
    }
    return body;
  });
}

/** The token itself, which nobody can read again. */
function showOnce(body, made, close) {
  replace(body,
    h('p', { role: 'status' }, 'The token is made. It is shown this once; keep it where secrets are kept.'),
    h('p', { class: 'secret' }, copyable(made.token, made.token, 'the token')),
    h('div', { class: 'dialog-foot' }, h('button', { type: 'button', class: 'primary', autofocus: true, onclick: close }, 'I have it')));
  body.querySelector('.copy').focus();
}

function audit(signal) {
  const errors = h('div', {});
  const nothing = h('div', {});
  const list = table('Who did what, latest first', ['what', 'outcome', 'who', '>when']);
  const pages = pager('Pages of who did what', load);
  async function load() {
    try {
      const answer = await get('audit', { cursor: pages.cursor }, signal);
      pages.loaded(answer.next);
      tell(errors, null);
      follow(list.body, answer.items, (item) => JSON.stringify(item), auditRow);
      list.element.hidden = answer.items.length === 0;
      replace(nothing, answer.items.length === 0 ? empty('Nothing has been changed over the API yet.') : null);
    } catch (error) {
      tell(errors, error, 'Who did what cannot be shown');
    }
  }
  load();
  return section('Who did what', errors, list.element, nothing, pages.element);
}

function auditRow(item) {
  const refused = item.status >= 400;
  return h('tr', {},
    h('th', { scope: 'row', class: 'sentence' }, who(item.what)),
    h('td', {}, h('span', { class: `badge ${refused ? 'is-rejected' : 'is-good'}` }, refused ? `! refused, ${item.status}` : '✓ done'),
      item.count > 1 ? h('small', {}, `${count(item.count)} times within a minute`) : null),
    h('td', {}, item.by === '-' ? 'nobody known' : who(item.by)),
    h('td', { class: 'number' }, time(item.at_ms)));
}
