import { logLine } from '../log.ts';
import type { ExperimentEvent, ExperimentSink, ExperimentTallies } from './ports.ts';
import { createBatchedWrites } from '../platform/batched-writes.ts';

interface Batch {
  experiment: string;
  id: string;
  at: number;
  events: ExperimentEvent[];
}

/**
 * Gathers what this isolate sees of experiments and sends it to their tallies, a batch an experiment; see
 * {@link createBatchedWrites}. One experiment's tally that does not answer keeps no other one waiting.
 */
export function createExposureRecorder(params: {
  tallies: Pick<ExperimentTallies, 'add'>;
  now: () => number;
  sleep: (ms: number) => Promise<void>;
  newId: () => string;
  flushMs: number;
  /** Of one batch. */
  maxEvents: number;
  /** Waiting for tallies. */
  maxUnsentEvents: number;
  tries: number;
}): ExperimentSink {
  const { tallies, now, newId, maxEvents, maxUnsentEvents } = params;
  const open = new Map<string, ExperimentEvent[]>();
  const writes = createBatchedWrites<Batch>({
    ...params,
    close: () => [...open.keys()].forEach(close),
    write: ({ experiment, ...batch }) => tallies.add(experiment, batch),
    lane: ({ experiment }) => experiment,
    size: ({ events }) => events.length,
    maxUnsent: maxUnsentEvents,
    onRefused: ({ experiment, events }, reason) =>
      logLine('exposures_not_written', { experiment, reason, events: events.length }),
    onLost: ({ experiment, events }) => logLine('exposures_lost', { experiment, events: events.length }),
  });

  function close(experiment: string): void {
    const events = open.get(experiment);
    open.delete(experiment);
    if (events !== undefined) writes.add({ experiment, id: newId(), at: now(), events });
  }

  return {
    record(event, keepAlive) {
      const events = open.get(event.experiment) ?? [];
      open.set(event.experiment, events);
      events.push(event);
      if (events.length >= maxEvents) close(event.experiment);
      writes.flushSoon(keepAlive);
    },
  };
}
