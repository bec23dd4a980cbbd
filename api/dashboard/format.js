// Numbers, times and names as people read them: the words of the command line and of the report.

/** A time span: `12 ms`, `1.2 s`, `3 min 4 s`, `2 h 5 min`, `1 d 3 h`. */
export function seconds(value) {
  if (!Number.isFinite(value) || value <= 0) return '0 s';
  // Each unit ends where its last printed digit would round up to the next one.
  if (value < 0.0009995) return `${(value * 1e6).toFixed(0)} µs`;
  if (value < 0.9995) return `${(value * 1e3).toFixed(0)} ms`;
  if (value < 59.95) return `${value.toFixed(1)} s`;
  const whole = Math.round(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** A count with separators between thousands: `336,776`. */
export function count(value) {
  if (value === null || value === undefined) return '';
  return Math.trunc(value).toLocaleString('en-US');
}

/** A count and what is counted: `1 row`, `12 rows`, `2 entries`. */
export function counted(number, noun) {
  const plural = noun.endsWith('y') ? `${noun.slice(0, -1)}ies` : `${noun}s`;
  return `${count(number)} ${number === 1 ? noun : plural}`;
}

/** A size: `812 B`, `1.2 KiB`, `64.0 MiB`. */
export function bytes(size) {
  if (size === null || size === undefined) return '';
  if (size < 1024) return `${size} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = size / 1024;
  let unit = 0;
  while (value >= 1023.95 && unit + 1 < units.length) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toFixed(1)} ${units[unit]}`;
}

/** A number with the digits that matter: `0.9114`, `12.35`, `1,234.5`, `3.2e-7`; a dash for none. */
export function number(value) {
  if (typeof value !== 'number' || !Number.isFinite(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e15) return value.toExponential(2).replace('e+', 'e');
  if (Number.isInteger(value)) return value.toLocaleString('en-US');
  const digits = size < 10 ? 4 : size < 1000 ? 2 : 1;
  return value.toLocaleString('en-US', { maximumFractionDigits: digits });
}

/** A count that fits beside an axis: `12k`, `3M`. */
export function shortCount(value) {
  const size = Math.abs(value);
  if (size >= 1e6) return `${number(Math.round(value / 1e5) / 10)}M`;
  if (size >= 1e4) return `${number(Math.round(value / 1e2) / 10)}k`;
  return number(value);
}

/** A share as a percentage: `0.30%`, `12.3%`; all but all isn't all. */
export function percent(share) {
  const value = share * 100;
  if (!Number.isFinite(value)) return '–';
  if (value === 0) return '0%';
  if (Math.abs(value) < 0.01) return '<0.01%';
  if (Math.abs(value) < 1) return `${value.toFixed(2)}%`;
  if (value > 99.9 && value < 100) return '>99.9%';
  return `${value.toFixed(1)}%`;
}

const MOMENT = new Intl.DateTimeFormat('en-CA', {
  year: 'numeric', month: '2-digit', day: '2-digit', hour: '2-digit', minute: '2-digit', second: '2-digit',
  hourCycle: 'h23', timeZoneName: 'short',
});

/** A point in time to the second, in the reader's zone: `2026-11-22 21:09:01 UTC`. */
export function moment(ms) {
  return MOMENT.format(new Date(ms)).replace(',', '');
}

// How far the servers' clock is ahead of this one, in milliseconds; ages are told by theirs.
let ahead = 0;

/** Takes note of the servers' time. Less than the header's whole second says nothing. */
export function clockSeen(serverMs) {
  const difference = serverMs - Date.now();
  ahead = Math.abs(difference) > 2000 ? difference : 0;
}

/** The servers' time now, in milliseconds. */
export function now() {
  return Date.now() + ahead;
}

/** How far off a moment is: `just now`, `3 min ago`, `in 2 h`. */
export function ago(ms) {
  const past = (now() - ms) / 1000;
  const size = Math.abs(past);
  if (size < 5) return past >= 0 ? 'just now' : 'now';
  const span = size < 60 ? `${Math.floor(size)} s`
    : size < 3600 ? `${Math.floor(size / 60)} min`
      : size < 86400 ? `${Math.floor(size / 3600)} h`
        : `${Math.floor(size / 86400)} d`;
  return past >= 0 ? `${span} ago` : `in ${span}`;
}

/** A text cut to so many characters, with `…` where something is missing. */
export function cut(text, width) {
  const letters = [...String(text)];
  return letters.length <= width ? String(text) : `${letters.slice(0, width - 1).join('')}…`;
}

/** The end of a run's id, which tells runs apart as well as all of it. */
export function shortRun(run) {
  return `run-…${run.slice(-6)}`;
}

/** Who did something, with the ids of runs in it cut: `step release of run-…80c745`. */
export function who(by) {
  return String(by).replace(/run-[0-9a-f]{32}/g, shortRun);
}

/** The end of a worker's id. */
export function shortWorker(worker) {
  return worker ? `w-…${worker.slice(-6)}` : 'not yet taken';
}

/** The start of a digest. */
export function shortDigest(digest) {
  return digest ? digest.replace(/^sha256:/, '').slice(0, 12) : '';
}

/** A value of a parameter or setting, as one would type it. */
export function valueText(value) {
  return typeof value === 'string' ? value : JSON.stringify(value);
}
