// What a run has cost: money where there are prices, time in slots in any case, and what of it brought nothing.

import { get, part } from './api.js';
import { h, replace } from './dom.js';
import { counted, seconds } from './format.js';
import { atMostEvery } from './live.js';
import { problem } from './notice.js';
import { section } from './parts.js';
import { facts } from './table.js';

// Working costs out replays the run's journal, so an open run isn't asked about more often.
const ASK_MS = 10_000;

/** A section that follows what a run costs. */
export function runCost(id) {
  const place = h('div', {});
  const element = section('Cost', place);
  let leaving = new AbortController();
  let asked = null;
  const ask = atMostEvery(ASK_MS, async () => {
    leaving.abort();
    leaving = new AbortController();
    try {
      replace(place, told(await get(`runs/${part(id)}/cost`, {}, leaving.signal)));
    } catch (error) {
      if (error.name !== 'AbortError') replace(place, problem(error, 'What it costs cannot be told'));
    }
  });
  return {
    element,
    update(run) {
      if (asked !== run.position) ask();
      asked = run.position;
    },
    leave() {
      ask.stop();
      leaving.abort();
    },
  };
}

function told(cost) {
  const cached = cost.steps.reduce((sum, step) => sum + step.cached, 0);
  const money = (amount) => `${amount.toLocaleString('en', { maximumSignificantDigits: 3 })} ${cost.currency}`;
  return facts([
    [cost.ended ? 'cost' : 'cost so far', cost.currency === null ? null : money(cost.amount)],
    ['of it for nothing', cost.currency !== null && cost.wasted > 0 ? money(cost.wasted) : null],
    ['time in slots', seconds(cost.slot_ms / 1000)],
    ['of it for nothing', cost.wasted_ms > 0 ? seconds(cost.wasted_ms / 1000) : null],
    ['in pools without a price', cost.currency !== null && cost.unpriced_ms > 0 ? seconds(cost.unpriced_ms / 1000) : null],
    ['saved by the cache', cached > 0 ? `the work of ${counted(cached, 'attempt')}` : null],
  ]);
}
