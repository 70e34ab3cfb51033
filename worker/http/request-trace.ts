/** What is known of a request, gathered while it is served; for its log line, its `Server-Timing` and its data point. */
import type { Traceparent } from '../../protocol/index.ts';
import type { Feedback } from './data-points.ts';

/** What a request waits for: the key's record, the name's manifest, the origin's headers. */
export type Phase = 'key' | 'name' | 'origin';

/** Such as `prompt`, `first`. */
export type OriginPhase = readonly [name: string, ms: number];

export interface RequestFacts {
  tenant?: string;
  keyId?: string;
  /** As published: of the version that serves, never what the client wrote; `base` for the base model. */
  name?: string;
  version?: number;
  chainId?: string;
  degraded?: string;
  origin?: string;
  /** Ids of the origins that could not serve. */
  tried?: readonly string[];
  stream?: boolean;
  /** Id of the experiment that the request takes part in, and the variant it got. */
  experiment?: string;
  variant?: string;
  /** Of the error that it was answered with. */
  code?: string;
  /** What the origin says of the time until its answer began, ms. */
  originPhases?: readonly OriginPhase[];
  /** What it said of an earlier answer, if that was counted. */
  feedback?: Feedback;
}

/** How a completion ended; {@link UsageEvent} has the meaning of its statuses. */
export interface Ending {
  status: number;
  promptTokens: number;
  completionTokens: number;
}

export interface RequestTrace {
  /** Unix ms. */
  readonly startedAt: number;
  /** The trace that the client says it belongs to; null when it says none. */
  readonly parent: Traceparent | null;
  readonly facts: Readonly<RequestFacts>;
  readonly ending: Ending | null;
  note(facts: RequestFacts): void;
  /** Measures how long the work takes; the same phase again adds to it. */
  time<T>(phase: Phase, work: Promise<T>): Promise<T>;
  /** @param ms of each phase so far. */
  phases(): ReadonlyMap<Phase, number>;
  /** A completion has ended; once. */
  finish(ending: Ending): void;
  /** Called with the ending, at once when it is known already. */
  onFinish(listener: (ending: Ending) => void): void;
}

/** @param now unix ms; in production it stands still between I/O, which the phases wait for. */
export function createRequestTrace(now: () => number, parent: Traceparent | null = null): RequestTrace {
  const startedAt = now();
  const facts: RequestFacts = {};
  const phases = new Map<Phase, number>();
  let ending: Ending | null = null;
  let listener: ((ending: Ending) => void) | null = null;
  return {
    ...{ startedAt, parent, facts },
    get ending() {
      return ending;
    },
    note: (more) => void Object.assign(facts, more),
    async time(phase, work) {
      const began = now();
      try {
        return await work;
      } finally {
        phases.set(phase, (phases.get(phase) ?? 0) + now() - began);
      }
    },
    phases: () => phases,
    finish(how) {
      if (ending !== null) return;
      ending = how;
      listener?.(how);
    },
    onFinish(heard) {
      if (ending === null) listener = heard;
      else heard(ending);
    },
  };
}
