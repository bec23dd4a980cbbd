// The dashboard of a running server, as a person uses it. See README.md for the options.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { axe, open, openPage, overflow, settled, until } from './browser.mjs';

const { values: options } = parseArgs({
  options: {
    url: { type: 'string' }, shots: { type: 'string' }, token: { type: 'string' }, model: { type: 'string' }, big: { type: 'string' },
    'dead-letters': { type: 'boolean', default: false }, without: { type: 'string', default: '' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
  },
});
if (!options.url || !options.shots) throw new Error('--url and --shots are needed; README.md lists all options');
mkdirSync(options.shots, { recursive: true });
const base = options.url.replace(/\/?$/, '/');
const without = new Set(options.without.split(',').filter((name) => name !== ''));

// Long enough to be seen while it runs, on a slow machine too; the last step waits for the others.
const PIPELINE = `name: browser-test
params: { tasks: 24 }
steps:
  spread: { noop: { tasks: "\${tasks}", ms: 600 } }
  beside: { noop: { tasks: 3, ms: 300 } }
  joined: { noop: {}, after: [spread, beside] }
`;
const ENDLESS = 'name: browser-endless\nsteps:\n  long: { noop: { tasks: 8, ms: 3600000 } }\n';
const WRONG = 'name: browser-wrong\nsteps:\n  a: { trian: {} }\n';

const seat = await open(options.chromium);
let failed = null;
try {
  await all();
} catch (error) {
  failed = error;
} finally {
  await seat.browser.close();
}
for (const complaint of seat.complaints) console.error(complaint);
if (failed) console.error(failed);
if (failed || seat.complaints.length > 0) {
  console.error(`${seat.complaints.length} complaints${failed ? ', and it could not go on' : ''}`);
  process.exit(1);
}
console.log('the dashboard does what it should');

async function all() {
  const state = options.token ? await signIn() : undefined;
  const refusals = { expect: (text) => /status of (409|422)/.test(text) };
  const page = await openPage(seat, { width: 1280, scheme: 'light', state, ...refusals });
  await go(page, '#/runs');
  await keyboard(page);
  await complaintsByLine(page);
  const run = await submitAndWatch(page);
  await openTask(page, run);
  const cancelled = await cancel(page);
  if (options.big) await bigRun(page, options.big);
  if (options.model) await promoteAndRollBack(page, options.model);
  if (options['dead-letters']) await requeue(page);
  await page.context().close();
  await lookAround(state, run, cancelled);
}

async function signIn() {
  const page = await openPage(seat, { width: 1280, scheme: 'light', expect: (text) => text.includes('401') });
  await page.goto(base);
  await page.waitForSelector('#token');
  await look(page, 'sign-in');
  await page.fill('#token', 'gmt_wrong_secret');
  await page.click('text=Sign in >> nth=-1');
  await page.waitForSelector('[role=alert]');
  await page.fill('#token', options.token);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#who:not(:empty)');
  await settled(page);
  const state = await page.context().storageState();
  await page.context().close();
  done('signs in with a token, and tells of a wrong one');
  return state;
}

async function keyboard(page) {
  await page.keyboard.press('Tab');
  equal(await page.evaluate(() => document.activeElement.className), 'skip', 'the first stop of Tab is the skip link');
  await page.keyboard.press('Enter');
  equal(await page.evaluate(() => document.activeElement.id), 'page', 'the skip link leads to the page');
  await page.keyboard.press('?');
  await page.waitForSelector('dialog[open] .shortcuts');
  await look(page, 'shortcuts');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  await page.keyboard.press('g');
  await page.keyboard.press('m');
  await page.waitForFunction(() => location.hash === '#/models');
  equal(await page.evaluate(() => document.activeElement.tagName), 'H1', 'the heading of the new page has the focus');
  await page.keyboard.press('g');
  await page.keyboard.press('r');
  await page.waitForFunction(() => location.hash === '#/runs');
  await settled(page);
  done('goes round by keyboard');
}

async function complaintsByLine(page) {
  await page.keyboard.press('n');
  await page.waitForSelector('dialog[open] textarea');
  await page.fill('dialog textarea.code', WRONG);
  await page.click('dialog button:text-is("Check")');
  await page.click('dialog .complaints button:has-text("line 3")');
  equal(await page.evaluate(() => document.activeElement.tagName), 'TEXTAREA', 'a complaint leads to its line');
  await look(page, 'complaints');
  await page.keyboard.press('Escape');
  await page.waitForSelector('dialog', { state: 'detached' });
  done('shows what is wrong with a pipeline by line');
}

async function submit(page, text, params = {}) {
  await page.keyboard.press('n');
  await page.waitForSelector('dialog[open] textarea');
  await page.fill('dialog textarea.code', text);
  for (const [name, value] of Object.entries(params)) {
    await page.click('dialog button:text-is("Add a parameter")');
    await page.locator('dialog .param-name').last().fill(name);
    await page.locator('dialog .param-value').last().fill(value);
  }
  await page.click('dialog button:text-is("Submit")');
  await page.waitForFunction(() => location.hash.startsWith('#/runs/run-'));
  await page.waitForSelector('.run .badge:has-text("running"), .run .badge:has-text("succeeded")');
  return page.evaluate(() => location.hash.split('/')[2]);
}

/** The graph fills without a reload, and nodes stay the same nodes. */
async function submitAndWatch(page) {
  const run = await submit(page, PIPELINE, { tasks: '30' });
  await page.waitForSelector('[data-step=spread]');
  await page.evaluate(() => { document.querySelector('[data-step=spread]').dataset.seen = 'yes'; });
  const width = () => page.evaluate(() => Number(document.querySelector('[data-step=spread] .node-fill').getAttribute('width')));
  const widths = new Set();
  let shown = false;
  await until(async () => {
    widths.add(await width());
    if (!shown && [...widths].some((each) => each > 20)) {
      shown = true;
      await shot(page, 'run-filling');
    }
    return page.evaluate(() => document.querySelector('[data-step=spread]').classList.contains('status-succeeded'));
  }, 'the step to succeed');
  if (widths.size < 3) throw new Error(`the graph did not fill: ${[...widths].join(', ')}`);
  await page.waitForSelector('.run-head .badge:has-text("succeeded")');
  equal(await page.evaluate(() => document.querySelector('[data-step=spread]').dataset.seen), 'yes', 'the graph is changed in place');
  await page.focus('[data-step=joined]');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.step-panel h2:has-text("joined")');
  done(`submits a pipeline and sees its graph fill, in ${widths.size} widths`);
  return run;
}

async function openTask(page, run) {
  await go(page, `#/runs/${run}`);
  await page.click('.views a:has-text("Tasks")');
  await page.selectOption('.filters select >> nth=0', 'spread');
  await page.waitForFunction(() => [...document.querySelectorAll('main tbody td.wide-only')].every((cell) => cell.textContent === 'spread'));
  await page.click('main tbody th a >> nth=1');
  await page.waitForSelector('h2:has-text("Attempts")');
  await page.waitForSelector('main tbody .badge:has-text("succeeded")');
  await look(page, 'task');
  await page.goBack();
  await page.waitForSelector('.views a[aria-current]:has-text("Tasks")');
  done('opens a task');
}

async function cancel(page) {
  await go(page, '#/runs');
  const run = await submit(page, ENDLESS);
  await page.click('.actions button:text-is("Cancel")');
  await page.waitForSelector('dialog[open]');
  await look(page, 'cancel');
  await page.click('dialog button:text-is("Cancel the run")');
  await page.waitForSelector('.run-head .badge:has-text("cancelled")');
  await page.waitForSelector('.actions button:text-is("Resume")');
  await page.waitForSelector('h2:has-text("Why it ended")');
  await page.click('.actions button:text-is("Resume")');
  await page.waitForSelector('.run-head .badge:has-text("running")');
  await page.click('.actions button:text-is("Cancel")');
  await page.click('dialog button:text-is("Cancel the run")');
  await page.waitForSelector('.run-head .badge:has-text("cancelled")');
  done('cancels a run, resumes it and cancels it again');
  return run;
}

async function bigRun(page, run) {
  await go(page, `#/runs/${run}/tasks`);
  await page.waitForSelector('main tbody tr');
  const before = Date.now();
  await page.click('button:text-is("Next →")');
  await page.waitForSelector('.pager :text-is("page 2")');
  await settled(page);
  const rows = await page.evaluate(() => document.querySelectorAll('main tbody tr').length);
  if (rows > 50) throw new Error(`${rows} rows of tasks are in the page`);
  done(`turns a page of a large run's tasks in ${Date.now() - before} ms, with ${rows} rows`);
}

async function promoteAndRollBack(page, model) {
  await go(page, `#/models/${model}`);
  await page.waitForSelector('main [data-version]');
  const champion = () => page.evaluate(() => [...document.querySelectorAll('[data-version]')].find((row) => [...row.querySelectorAll('.tag')].some((tag) => tag.textContent === 'champion'))?.dataset.version);
  const before = await champion();
  const other = await page.evaluate((champ) => [...document.querySelectorAll('[data-version]')].map((row) => row.dataset.version).find((version) => version !== champ), before);
  await page.click(`[data-version="${other}"] button:has-text("Promote")`);
  await page.fill('dialog textarea', 'the browser test wants it');
  await look(page, 'promote');
  await page.click('dialog button:text-is("Promote")');
  await until(async () => (await champion()) === other, 'the promoted version to be champion');
  await page.waitForSelector('td:has-text("the browser test wants it")');
  await page.click('.actions button:has-text("Roll back")');
  await page.selectOption('dialog select', 'champion');
  await page.fill('dialog textarea', 'and takes it back');
  await page.click('dialog button:text-is("Roll back")');
  await until(async () => (await champion()) === before, 'the alias to be where it was');
  done(`promotes version ${other} of ${model} and rolls back to ${before}`);
}

async function requeue(page) {
  await go(page, '#/dead-letters');
  await page.waitForSelector('[data-letter]');
  const id = await page.getAttribute('[data-letter]', 'data-letter');
  await page.click('[data-letter] summary');
  await look(page, 'dead-letter');
  await page.click('[data-letter] button:has-text("Requeue")');
  await page.click('dialog button:text-is("Requeue")');
  await page.waitForSelector('dialog', { state: 'detached' });
  await page.waitForSelector('.notice:has-text("in its queue again")');
  await until(async () => (await page.getAttribute('[data-letter] >> nth=0', 'data-letter').catch(() => null)) !== id || (await page.locator('[data-letter]').count()) === 0, 'the dead letter to be gone');
  done('requeues a dead letter');
}

/** Every page, light and dark, wide and narrow. */
async function lookAround(state, run, cancelled) {
  const first = await openPage(seat, { width: 1280, scheme: 'light', state });
  const linked = async (hash) => {
    await go(first, hash);
    return first.evaluate(() => document.querySelector('main tbody th a')?.getAttribute('href') ?? null);
  };
  const pages = [
    ['runs', '#/runs'], ['runs-none', '#/runs?search=nothing-like-it'], ['run', `#/runs/${run}`], ['run-cancelled', `#/runs/${cancelled}`],
    ['run-timeline', `#/runs/${run}/timeline`], ['run-tasks', `#/runs/${run}/tasks`], ['run-results', `#/runs/${run}/results`], ['run-source', `#/runs/${run}/source`],
    ['run-task', `#/runs/${run}/tasks/1`],
    ...['models', 'datasets', 'endpoints', 'pools', 'schedules', 'dead-letters', 'access'].filter((name) => !without.has(name)).map((name) => [name, `#/${name}`]),
    ['nowhere', '#/nowhere'],
  ];
  for (const list of ['models', 'datasets', 'endpoints']) {
    const hash = without.has(list) ? null : await linked(`#/${list}`);
    if (hash) pages.push([list.slice(0, -1), hash]);
    if (hash && list === 'models') pages.push(['version', await linked(hash)]);
    // The run that made the newest dataset has results to show.
    const run = hash && list === 'datasets' ? await first.evaluate(() => document.querySelector('main tbody td a').getAttribute('href')) : null;
    if (run) for (const view of ['', '/timeline', '/results']) pages.push([`data-run${view.replace('/', '-')}`, run + view]);
  }
  await first.context().close();
  for (const scheme of ['light', 'dark']) {
    for (const width of [1280, 360]) {
      const page = await openPage(seat, { width, scheme, state });
      for (const [name, hash] of pages) {
        await go(page, hash);
        // What opens is looked at open.
        await page.evaluate(() => document.querySelectorAll('main details:not([open]) > summary').forEach((summary) => summary.click()));
        await settled(page);
        for (const told of await page.locator('main [role=alert]').allTextContents()) seat.complaints.push(`${name}: it says: ${told}`);
        await look(page, `${name}-${width}-${scheme}`);
        if (width === 360 && scheme === 'light') await narrowest(page, name);
      }
      if (width === 360) {
        await page.click('#menu');
        await look(page, `menu-${width}-${scheme}`);
      }
      await page.context().close();
    }
  }
  done(`looks at ${pages.length} pages in two schemes and two widths`);
}

async function go(page, hash) {
  if (page.url().startsWith(base)) await page.evaluate((to) => { location.hash = to; }, hash);
  else await page.goto(base + hash);
  await page.waitForFunction((to) => document.querySelector('main').dataset.route === to, hash);
  await settled(page);
}

/** The narrowest screen that a page has to fit. */
async function narrowest(page, name) {
  await page.setViewportSize({ width: 320, height: 760 });
  const wide = await overflow(page);
  if (wide > 0) seat.complaints.push(`${name} at 320: the page is ${wide} pixels wider than the screen`);
  await page.setViewportSize({ width: 360, height: 760 });
}

/** Holds what is shown to axe's rules and to the screen's width, and keeps a picture of it. */
async function look(page, name) {
  const wide = await overflow(page);
  if (wide > 0) seat.complaints.push(`${name}: the page is ${wide} pixels wider than the screen`);
  for (const line of await axe(page)) seat.complaints.push(`${name}: ${line}`);
  await shot(page, name);
}

async function shot(page, name) {
  // A dialog covers the screen, not the whole page.
  const fullPage = (await page.locator('dialog[open]').count()) === 0;
  await page.screenshot({ path: join(options.shots, `${name}.png`), fullPage });
}

function equal(found, wanted, what) {
  if (found !== wanted) throw new Error(`${what}: found ${found}, wanted ${wanted}`);
}

function done(what) {
  console.log(`✓ ${what}`);
}
