import type { EngineStats } from './engine-types.ts';
import type { ModelRunner } from './ports.ts';
import type { Scheduler } from './scheduler.ts';
import type { Sequence } from './sequence.ts';

/** @param live everything that has not ended. */
export function engineStats(
  live: Iterable<Sequence>,
  { running, parked }: { readonly running: number; readonly parked: number },
  { queued }: Pick<Scheduler, 'queued'>,
  { slots, parking, base }: Pick<ModelRunner, 'slots' | 'parking' | 'base'>,
): EngineStats {
  let loading = 0;
  let kvTokens = 0;
  for (const sequence of live) {
    if (sequence.state === 'loading') loading += 1;
    kvTokens += sequence.length;
  }
  return {
    slots,
    running,
    waiting: queued - loading,
    loading,
    parked,
    kvTokens,
    kvCapacity: (slots + parking) * base.context,
  };
}
