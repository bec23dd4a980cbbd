// Schedules with their next ticks, and triggers: pausing, and firing by hand.

import { change, get, part } from './api.js';
import { openDialog } from './dialog.js';
import { freshId, h, replace } from './dom.js';
import { repeat } from './live.js';
import { empty, problem, prose, say, tell } from './notice.js';
import { note, pageHead, section, time } from './parts.js';
import { go, hashOf } from './router.js';
import { roleButton } from './session.js';
import { table } from './table.js';

const REFRESH_MS = 5_000;
// Nobody reads more of them at once; the command line lists all.
const SHOWN_MAX = 200;
// Coming ticks that are told.
const NEXT_SHOWN = 3;

/** The page `#/schedules`. */
export function schedulesPage() {
  const errors = h('div', {});
  const schedules = h('div', {});
  const triggers = h('div', {});
  let told = null;
  const asking = repeat(async (signal) => {
    try {
      const [listed, fired] = await Promise.all([get('schedules', { limit: SHOWN_MAX }, signal), get('triggers', { limit: SHOWN_MAX }, signal)]);
      tell(errors, null);
      const now = JSON.stringify([listed, fired]);
      if (now === told) return;
      told = now;
      const again = () => asking.again();
      replace(schedules, scheduleTable(listed.items, again), more(listed));
      replace(triggers, triggerTable(fired.items, again), more(fired));
    } catch (error) {
      tell(errors, error, 'The schedules cannot be listed');
    }
  }, REFRESH_MS);
  return {
    title: 'Schedules',
    element: h('div', {}, pageHead('Schedules and triggers'), errors, section('Schedules', schedules), section('Triggers', triggers)),
    leave: () => asking.stop(),
  };
}

function more(page) {
  return page.next === null ? null : note(`Only the first ${SHOWN_MAX} are shown.`);
}

function scheduleTable(items, again) {
  if (items.length === 0) {
    return empty('There are no schedules. One submits a kept pipeline by the clock:',
      "curl -X PUT http://127.0.0.1:5000/v1/schedules/nightly -H 'content-type: application/json' \\\n  -d '{\"cron\": \"0 3 * * *\", \"timezone\": \"Europe/Berlin\", \"submit\": {\"name\": \"flight-delays\"}}'");
  }
  return table('Schedules', ['schedule', 'state', '~submits', '~when', 'next', '~last', ''], items.map((item) => h('tr', {},
    named(item, h('code', {}, item.cron), ` ${item.timezone}`),
    h('td', {}, state(item)),
    h('td', { class: 'wide-only' }, submits(item.submit)),
    h('td', { class: 'wide-only' }, h('code', {}, item.cron), h('small', {}, item.timezone)),
    h('td', {}, item.paused ? '–' : item.next_ms.slice(0, NEXT_SHOWN).map((at, index) => h('div', { class: index > 0 ? 'note wide-only' : null }, time(at)))),
    h('td', { class: 'wide-only' }, last(item, (record) => record.tick_ms)),
    h('td', { class: 'row-actions' }, pauseButton('schedules', item, again))))).element;
}

/** The name, and on narrow screens below it what else there would be a column for. */
function named(item, ...below) {
  return h('th', { scope: 'row' }, item.name, item.namespace === 'default' ? null : h('small', {}, item.namespace), h('small', { class: 'narrow-only' }, below));
}

function state({ paused }) {
  return h('span', { class: `badge ${paused ? 'is-idle' : 'is-good'}` }, h('span', { 'aria-hidden': 'true' }, paused ? '■' : '✓'), paused ? 'paused' : 'on');
}

const OUTCOMES = { fired: ['is-good', '✓'], skipped: ['is-idle', '–'], missed: ['is-rejected', '!'], failed: ['is-bad', '✕'] };

/** What became of the last tick or firing, and of those before it in a word. */
function last(item, at) {
  const record = item.last;
  if (!record) return '–';
  const [style, sign] = OUTCOMES[record.outcome] ?? ['is-idle', '·'];
  return [
    h('span', { class: `badge ${style}` }, h('span', { 'aria-hidden': 'true' }, sign), record.outcome), ' ',
    record.run ? h('a', { href: hashOf(['runs', record.run]) }, time(at(record))) : time(at(record)),
    record.reason ? h('small', {}, prose(record.reason)) : null,
    item.recent.length > 1 ? h('small', {}, `of the last ${item.recent.length}: ${tally(item.recent)}`) : null,
  ];
}

function tally(records) {
  const counts = new Map();
  for (const { outcome } of records) counts.set(outcome, (counts.get(outcome) ?? 0) + 1);
  return [...counts].map(([outcome, number]) => `${number} ${outcome}`).join(', ');
}

function submits(submit) {
  if (submit?.name) return `${submit.name}${submit.version ? `@${submit.version}` : ''}`;
  return /^name:\s*(\S+)/m.exec(submit?.pipeline ?? '')?.[1] ?? 'a pipeline';
}

function pauseButton(kind, item, again) {
  const verb = item.paused ? 'unpause' : 'pause';
  const act = async () => {
    try {
      await change('POST', `${kind}/${part(item.name)}/${verb}`, undefined, { namespace: item.namespace });
      say(item.paused ? `${item.name} goes on.` : `${item.name} is paused.`);
    } catch (error) {
      say(`${error.message}${error.hint ? `: ${error.hint}` : ''}`, 'is-bad');
    }
    again();
  };
  return roleButton(item.paused ? 'Unpause' : 'Pause', { of: item.name, role: 'submitter', onclick: act });
}

function triggerTable(items, again) {
  if (items.length === 0) return empty('There are no triggers. One submits a pipeline when a file appears, a webhook is called or a run ends; `PUT /v1/triggers/{name}` makes it.');
  return table('Triggers', ['trigger', 'state', '~on', '~submits', '~last', ''], items.map((item) => h('tr', {},
    named(item, when(item.on)),
    h('td', {}, state(item)),
    h('td', { class: 'wide-only' }, when(item.on)),
    h('td', { class: 'wide-only' }, submits(item.submit)),
    h('td', { class: 'wide-only' }, last(item, (record) => record.at_ms)),
    h('td', { class: 'row-actions' }, pauseButton('triggers', item, again), item.paused ? null : [' ', roleButton('Fire…', { of: item.name, role: 'submitter', onclick: () => fire(item, again) })])))).element;
}

function when(on) {
  if (on?.file) return ['a file ', h('code', {}, on.file.glob)];
  if (on?.run_ended) return `a run of ${on.run_ended.pipeline} ended${on.run_ended.status ? ` (${on.run_ended.status.join(', ')})` : ''}`;
  if (on?.webhook) return 'a webhook is called';
  return h('code', {}, JSON.stringify(on));
}

function fire(item, again) {
  openDialog(`Fire ${item.name}?`, (close) => {
    const body = h('textarea', { id: freshId('body'), class: 'code', rows: '5', spellcheck: 'false', value: '{}' });
    const errors = h('div', {});
    const yes = h('button', { type: 'submit', class: 'primary' }, 'Fire');
    const submit = async (event) => {
      event.preventDefault();
      let parsed;
      try {
        parsed = JSON.parse(body.value);
      } catch (error) {
        replace(errors, problem({ message: `that is not JSON: ${error.message}` }));
        return;
      }
      yes.disabled = true;
      try {
        const { run } = await change('POST', `triggers/${part(item.name)}/fire`, parsed, { namespace: item.namespace });
        say(`${item.name} has fired.`);
        again();
        close();
        if (run) go(hashOf(['runs', run]));
      } catch (error) {
        replace(errors, problem(error));
      } finally {
        yes.disabled = false;
      }
    };
    return h('form', { class: 'dialog-body', onsubmit: submit },
      h('p', {}, 'It submits its pipeline as if it had been called with this.'),
      h('div', { class: 'field' }, h('label', { for: body.id }, 'A JSON object'), body),
      errors,
      h('div', { class: 'dialog-foot' }, yes, h('button', { type: 'button', onclick: close }, 'Leave it')));
  });
}
