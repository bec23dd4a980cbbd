// What keeps a page up to date: server-sent events where the API has them, else asking again.
//
// Both rest while the page isn't seen: browsers allow six connections to a server over HTTP/1.1, and tabs in the
// background would use them up.

// A stream that was refused is asked for again after this, then after twice as long, up to the last.
const RETRY_MS_MIN = 1_000;
const RETRY_MS_MAX = 30_000;

/**
 * Follows a stream of events. `on` has a function for each event's name, called with its data. `told` hears `true`
 * while the stream is open and `false` while it isn't. An event `end` ends it. Returns what stops it.
 */
export function stream(url, on, told = () => {}) {
  let source = null;
  let timer = 0;
  let wait = RETRY_MS_MIN;
  let done = false;

  const close = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const stop = () => {
    done = true;
    close();
    document.removeEventListener('visibilitychange', seen);
  };
  const open = () => {
    close();
    source = new EventSource(url);
    source.onopen = () => {
      wait = RETRY_MS_MIN;
      told(true);
    };
    source.onerror = () => {
      if (done) return;
      told(false);
      // While it is connecting the browser tries again by itself; once it is closed nobody does.
      if (source?.readyState !== EventSource.CLOSED) return;
      close();
      timer = setTimeout(open, wait);
      wait = Math.min(wait * 2, RETRY_MS_MAX);
    };
    for (const [name, act] of Object.entries(on)) {
      source.addEventListener(name, (event) => {
        if (name === 'end') stop();
        act(JSON.parse(event.data));
      });
    }
  };
  const seen = () => {
    if (document.hidden) close();
    else if (source === null) open();
  };
  document.addEventListener('visibilitychange', seen);
  if (!document.hidden) open();
  return stop;
}

/**
 * Calls `act(signal)` at once, and again so long after it has ended, while the page is seen. Errors are `act`'s own
 * matter. Returns `{ again, stop }`: `again` asks at once.
 */
export function repeat(act, everyMs) {
  const leaving = new AbortController();
  let timer = 0;
  let busy = false;
  let due = false;

  const again = async () => {
    clearTimeout(timer);
    if (leaving.signal.aborted) return;
    if (busy) {
      due = true;
      return;
    }
    busy = true;
    try {
      await act(leaving.signal);
    } finally {
      busy = false;
      if (!leaving.signal.aborted) {
        if (due) queueMicrotask(again);
        else if (!document.hidden) timer = setTimeout(again, everyMs);
        due = false;
      }
    }
  };
  const seen = () => {
    if (document.hidden) clearTimeout(timer);
    else again();
  };
  document.addEventListener('visibilitychange', seen);
  again();
  return {
    again,
    stop() {
      leaving.abort();
      clearTimeout(timer);
      document.removeEventListener('visibilitychange', seen);
    },
  };
}

/** Makes of `act` a function that may be called often and acts at most once in so long, the last call included. */
export function atMostEvery(ms, act) {
  let timer = 0;
  let last = -Infinity;
  const call = () => {
    timer = 0;
    last = performance.now();
    act();
  };
  const ask = () => {
    if (timer === 0) timer = setTimeout(call, Math.max(0, last + ms - performance.now()));
  };
  ask.stop = () => clearTimeout(timer);
  return ask;
}
