// A browser whose every complaint is kept: console errors, page errors, failed requests, rules of axe-core.

import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

// A busy machine may take its time; past this something is broken.
export const WAIT_MS = 30_000;
// Places of one mistake that are told; the others are like them as a rule.
const PLACES_TOLD = 3;

/** Opens the browser. `complaints` collects what went wrong, with where it did. */
export async function open(executablePath) {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox'] });
  return { browser, complaints: [] };
}

/** A page of such a width and scheme. */
export async function openPage({ browser, complaints }, { width, scheme, state, expect = () => false }) {
  const context = await browser.newContext({
    viewport: { width, height: width < 500 ? 760 : 900 }, colorScheme: scheme, storageState: state, reducedMotion: 'reduce',
    isMobile: width < 500, hasTouch: width < 500,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(WAIT_MS);
  const where = () => `${page.url().replace(/^[^#]*/, '')} at ${width} ${scheme}`;
  await page.addInitScript(countRequests);
  page.on('console', (message) => {
    if (message.type() === 'error' && !expect(message.text())) complaints.push(`${where()}: console: ${message.text()} (${message.location().url})`);
  });
  page.on('pageerror', (error) => complaints.push(`${where()}: page error: ${error.stack ?? error.message}`));
  page.on('requestfailed', (request) => {
    // What a page no longer wants when it is left is aborted on purpose.
    if (request.failure()?.errorText !== 'net::ERR_ABORTED') complaints.push(`${where()}: ${request.method()} ${request.url()}: ${request.failure()?.errorText}`);
  });
  return page;
}

/** Counts, inside the page, the questions to the API that aren't answered yet. Streams of events aren't among them. */
function countRequests() {
  globalThis.pendingRequests = 0;
  const ask = globalThis.fetch;
  globalThis.fetch = async (...args) => {
    globalThis.pendingRequests += 1;
    try {
      const response = await ask(...args);
      await response.clone().arrayBuffer();
      return response;
    } finally {
      globalThis.pendingRequests -= 1;
    }
  };
}

/** Waits until everything that the page asked for has been answered. */
export async function settled(page) {
  await page.waitForSelector('main h1');
  // Three looks in a row, each after what was answered has been drawn: an answer may be followed by the next question.
  let quiet = 0;
  await until(async () => {
    const pending = await page.evaluate(() => new Promise((resolve) => {
      requestAnimationFrame(() => requestAnimationFrame(() => resolve(globalThis.pendingRequests)));
    }));
    quiet = pending === 0 ? quiet + 1 : 0;
    return quiet >= 3;
  }, 'the page to be quiet');
}

/** Polls a condition with a limit. */
export async function until(condition, what) {
  const deadline = Date.now() + WAIT_MS;
  for (;;) {
    if (await condition()) return;
    if (Date.now() > deadline) throw new Error(`waited ${WAIT_MS / 1000} s for ${what}`);
    await new Promise((resolve) => { setTimeout(resolve, 20); });
  }
}

/** What axe-core finds, as lines that say where and why. */
export async function axe(page) {
  await page.evaluate(axeSource);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, {
    runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
  }));
  return violations.map(({ id, impact, nodes }) => {
    const places = nodes.slice(0, PLACES_TOLD).map((node) => node.target.join(' ')).join(' | ');
    return `axe ${id} (${impact}) in ${nodes.length} places: ${places}: ${nodes[0].failureSummary?.replace(/\s+/g, ' ')}`;
  });
}

/** Pixels by which the page is wider than the screen. */
export function overflow(page) {
  return page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
}
