// Requests to the HTTP API. Every answer that isn't a success becomes an `ApiError` with the message and hint to show.

import { clockSeen } from './format.js';

// A page that hasn't answered after this is told of as an error: proxies give up after 60 s as a rule.
const ANSWER_MS_MAX = 30_000;
// More than the largest manifest, report or evidence that is worth drawing; models are larger and aren't read here.
const DOCUMENT_BYTES_MAX = 16 << 20;

/** What the API says when something can't be done. */
export class ApiError extends Error {
  constructor({ status, code, message, hint, complaints, request }) {
    super(message);
    this.name = 'ApiError';
    Object.assign(this, { status, code, hint, complaints: complaints ?? [], request });
  }
}

let signedOut = () => {};

/** Says what to do when the API doesn't know who asks. */
export function onSignedOut(act) {
  signedOut = act;
}

/** The address of a path below `/v1/`, wherever the page is served from. Empty query values are left out. */
export function address(path, query) {
  const url = new URL(`v1/${path}`, document.baseURI);
  for (const [name, value] of Object.entries(query ?? {})) {
    if (value !== '' && value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url;
}

/** A path's part: names may hold any character. */
export function part(name) {
  return encodeURIComponent(name);
}

/** Asks for JSON. `signal` ends the wait, as when the page is left. */
export function get(path, query, signal) {
  return send('GET', path, { query, signal });
}

/** Sends JSON with a method that changes something. */
export function change(method, path, body, query) {
  return send(method, path, { body, query });
}

async function send(method, path, { query, body, signal }) {
  const limit = AbortSignal.timeout(ANSWER_MS_MAX);
  const init = { method, headers: { accept: 'application/json' }, signal: signal ? AbortSignal.any([signal, limit]) : limit };
  if (body !== undefined) {
    init.headers['content-type'] = 'application/json';
    init.body = JSON.stringify(body);
  }
  const response = await fetchOrExplain(address(path, query), init, signal);
  const date = Date.parse(response.headers.get('date') ?? '');
  if (Number.isFinite(date)) clockSeen(date);
  if (response.ok) return response.status === 204 ? null : readJson(response);
  throw await refusal(response, path);
}

async function fetchOrExplain(url, init, signal) {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    const late = error.name === 'TimeoutError';
    throw new ApiError({
      status: 0,
      code: late ? 'timed_out' : 'unavailable',
      message: late ? 'the server has not answered in time' : 'the server cannot be reached',
      hint: 'is `gristmill api` or `gristmill up` still running?',
    });
  }
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    throw new ApiError({ status: response.status, code: 'internal', message: 'the answer is not JSON' });
  }
}

async function refusal(response, path) {
  const text = await response.text().catch(() => '');
  let told = {};
  try {
    told = JSON.parse(text).error ?? {};
  } catch {
    // A proxy's page, perhaps; its status says enough.
  }
  if (response.status === 401 && path !== 'session') signedOut();
  return new ApiError({
    status: response.status,
    code: told.code ?? 'internal',
    message: told.message ?? `the server answered ${response.status} ${response.statusText}`,
    hint: told.hint,
    complaints: told.complaints,
    request: response.headers.get('x-request-id'),
  });
}

/** A JSON document by its digest: a report, an evaluation. One that is too large to be drawn is an error. */
export async function artifactJson(digest, signal) {
  const response = await fetchOrExplain(address(`artifacts/${digest}`), { signal }, signal);
  if (!response.ok) throw await refusal(response, 'artifacts');
  const size = Number(response.headers.get('content-length') ?? 0);
  if (size > DOCUMENT_BYTES_MAX) {
    await response.body?.cancel();
    throw new ApiError({ status: 413, code: 'too_large', message: `artifact ${digest} is too large to be shown` });
  }
  return readJson(response);
}
