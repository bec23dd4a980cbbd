// How states look: a class for the colour, a sign that tells without it, and the word. The same as in reports.

const LOOKS = {
  succeeded: ['is-good', '✓'],
  cached: ['is-cached', '↺'],
  failed: ['is-bad', '✕'],
  'timed out': ['is-bad', '✕'],
  lost: ['is-bad', '✕'],
  rejected: ['is-rejected', '!'],
  running: ['is-open', '▸'],
  expanded: ['is-good', '✓'],
  retrying: ['is-open', '⟳'],
  'handed back': ['is-idle', '⟲'],
  cancelling: ['is-idle', '■'],
  cancelled: ['is-idle', '■'],
  waiting: ['is-idle', '○'],
  ready: ['is-idle', '○'],
  skipped: ['is-idle', '–'],
};

/** The class and the sign of a state; unknown ones look idle. */
export function look(status) {
  const [style, icon] = LOOKS[status] ?? ['is-idle', '·'];
  return { style, icon };
}

/** A step's state in the word that is shown: what came from an earlier run is `cached`. */
export function stepStatus(step) {
  return step.status === 'succeeded' && step.cached ? 'cached' : step.status;
}

/** Whether a run goes on. */
export function isOpen(status) {
  return status === 'running' || status === 'cancelling';
}

/** The states of runs and of steps that one can ask for. */
export const RUN_STATUSES = ['running', 'succeeded', 'failed', 'rejected', 'cancelled'];
export const STEP_STATUSES = ['waiting', 'running', 'retrying', 'succeeded', 'failed', 'rejected', 'skipped', 'cancelled'];
