import type { AdapterCache } from './adapter-cache.ts';
import type { Sequence } from '../sequence.ts';

/** Adapters are held for this many times the slots beyond what runs: enough that a freed slot finds a ready request. */
const LOOK_AHEAD = 2;

/**
 * Lets queued sequences get hold of their adapters, in the order in which they will be served. Only the front of the
 * queue holds any, so that a long queue does not fill the memory; one tenant has at most half of these places.
 * Who finds no room is passed by those whose adapters are there already, but only so often that its turn comes.
 * @param queue next to be served first.
 */
export function leaseAdapters(params: {
  queue: Iterable<Sequence>;
  adapters: Pick<AdapterCache, 'acquire'>;
  slots: number;
}): void {
  const { adapters, slots } = params;
  const queue = [...params.queue];
  const places = new Map<string, number>();
  let taken = 0;
  const take = (tenant: string): void => {
    taken += 1;
    places.set(tenant, (places.get(tenant) ?? 0) + 1);
  };
  // A row that is set aside holds its adapters as those that run do.
  for (const sequence of queue)
    if (sequence.lease !== null && sequence.state !== 'parked') take(sequence.tenant);

  let blocked: Sequence | null = null;
  for (const sequence of queue) {
    if (sequence.state !== 'waiting') continue;
    if (sequence.chain.length === 0) {
      sequence.become('ready');
      continue;
    }
    if (blocked !== null && blocked.bypassed >= LOOK_AHEAD * slots) continue;
    if (taken >= LOOK_AHEAD * slots || (places.get(sequence.tenant) ?? 0) >= slots) continue;
    const { chainId, chain } = sequence;
    const lease = adapters.acquire({ chainId, chain, mayLoad: blocked === null });
    if (lease === null) {
      blocked ??= sequence;
      continue;
    }
    if (blocked !== null) blocked.bypassed += 1;
    take(sequence.tenant);
    sequence.lease = lease;
    // Counted anew: it may also find no memory in the batch.
    sequence.bypassed = 0;
    sequence.become('loading');
  }
}
