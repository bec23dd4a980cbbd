// The start of the dashboard: who is asking, which page is shown, what stands around it.

import { onSignedOut } from './api.js';
import { h, replace, setAttr } from './dom.js';
import { problem } from './notice.js';
import { keepTimes, pageHead } from './parts.js';
import { startRouter } from './router.js';
import { identity, signInPage, whoami } from './session.js';
import { choose, setting } from './settings.js';
import { showShortcuts, startShortcuts } from './shortcuts.js';

import { accessPage } from './access.js';
import { datasetPage } from './dataset.js';
import { datasetsPage } from './datasets.js';
import { deadLettersPage } from './dead_letters.js';
import { endpointPage, endpointsPage } from './endpoints.js';
import { modelPage } from './model.js';
import { modelsPage } from './models.js';
import { poolsPage } from './pools.js';
import { runPage } from './run.js';
import { runsPage } from './runs.js';
import { schedulesPage } from './schedules.js';
import { taskPage } from './task.js';

const main = document.getElementById('page');
const menu = document.getElementById('menu');
const side = document.getElementById('side');

/** The page of a route. */
function find({ parts: [name = 'runs', item, view, task] }) {
  if (signingIn) return () => signInPage(start);
  switch (name) {
    case 'runs':
      if (item === undefined) return runsPage;
      return view === 'tasks' && task !== undefined ? taskPage : runPage;
    case 'models': return item === undefined ? modelsPage : modelPage;
    case 'datasets': return item === undefined ? datasetsPage : datasetPage;
    case 'endpoints': return item === undefined ? endpointsPage : endpointPage;
    case 'pools': return poolsPage;
    case 'schedules': return schedulesPage;
    case 'dead-letters': return deadLettersPage;
    case 'access': return accessPage;
    default: return nowhere;
  }
}

function nowhere() {
  return {
    title: 'Nothing here',
    element: h('div', {}, pageHead('Nothing here'), h('p', {}, 'There is no such page. ', h('a', { href: '#/runs' }, 'All runs'))),
  };
}

/** Marks where one is, and closes the menu of narrow screens. */
function shown(route) {
  const here = route.parts[0] ?? 'runs';
  for (const link of document.querySelectorAll('#pages a')) {
    setAttr(link, 'aria-current', link.getAttribute('href') === `#/${here}` ? 'page' : null);
  }
  openMenu(false);
}

function openMenu(open) {
  menu.setAttribute('aria-expanded', String(open));
  side.classList.toggle('open', open);
}

function showWho() {
  const me = identity();
  const role = me === null ? '' : me.anonymous ? `${me.role}, this machine alone` : `${me.name}, ${me.role}`;
  replace(document.getElementById('who'), role);
}

let router = null;
let signingIn = false;

async function start() {
  try {
    await whoami();
  } catch (error) {
    if (error.status !== 401) main.replaceChildren(h('div', {}, pageHead('Gristmill'), problem(error), retry()));
    return;
  }
  signingIn = false;
  showWho();
  if (router === null) router = startRouter(main, find, shown);
  else router.rebuild();
}

function retry() {
  return h('button', { type: 'button', onclick: start }, 'Try again');
}

// Any request may find that the session has ended; the page that was asked for is shown again after signing in.
onSignedOut(() => {
  if (signingIn) return;
  signingIn = true;
  router?.leave();
  const page = signInPage(start);
  document.title = `${page.title} · Gristmill`;
  main.replaceChildren(page.element);
  page.element.querySelector('input').focus();
});

const theme = document.getElementById('theme');
theme.value = setting('theme', 'auto');
theme.addEventListener('change', () => {
  choose('theme', theme.value);
  if (theme.value === 'auto') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme.value;
});
menu.addEventListener('click', () => openMenu(menu.getAttribute('aria-expanded') !== 'true'));
document.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || menu.getAttribute('aria-expanded') !== 'true') return;
  openMenu(false);
  menu.focus();
});
document.getElementById('skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
document.getElementById('help').addEventListener('click', showShortcuts);
startShortcuts();
keepTimes();
start();
