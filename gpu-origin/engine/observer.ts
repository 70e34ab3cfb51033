/** Who is told what happens in the engine. */
import type { ApiError } from '../../protocol/index.ts';

export type Outcome = 'stop' | 'length' | 'aborted' | 'failed';

/** Told what happens, for metrics and logs. Every method is optional; what one throws goes to `onFault`, once. */
export interface EngineObserver {
  /** After each step. `ms`: from its beginning to its postprocessing; `kvTokens`: tokens held by all rows. */
  onStep?(step: {
    kind: 'prefill' | 'decode';
    /** Rows in the step. */
    batch: number;
    /** Tokens fed. */
    tokens: number;
    ms: number;
    kvTokens: number;
    running: number;
    waiting: number;
    loading: number;
    parked: number;
  }): void;
  /** A row was set aside for another tenant's. */
  onPark?(row: { tenant: string }): void;
  /** `ms` since the request was added. */
  onFirstToken?(token: { tenant: string; ms: number }): void;
  /** Each later token; `ms` since the one before. */
  onToken?(token: { tenant: string; ms: number }): void;
  onFinish?(finish: {
    id: string;
    /** Of the trace that the request belongs to. */
    traceId?: string | undefined;
    tenant: string;
    outcome: Outcome;
    error: ApiError | null;
    promptTokens: number;
    completionTokens: number;
    /** Of the prompt's, those that were kept from an earlier one; none unless given. */
    cachedTokens?: number;
    /** Since the request was added. */
    ms: number;
    /** From adding to the first prefill chunk; null when it never came to that. */
    queuedMs: number | null;
  }): void;
  /** A request was refused by `add`. */
  onRefuse?(refusal: { id: string; traceId?: string | undefined; tenant: string; error: ApiError }): void;
  onAdapterLoad?(load: { digest: string; ms: number; bytes: number; error: ApiError | null }): void;
  onAdapterEvict?(evicted: { digest: string; bytes: number }): void;
  /** Something that should not happen: an exception of the runner or the source, or a row's non-finite logits. */
  onFault?(fault: { where: string; error: unknown; requestIds: readonly string[] }): void;
}

type Notice = (event: never) => void;

/**
 * An observer that cannot hurt the loop: what one of its methods throws is told to its own `onFault`, the first time
 * only, since a method that is broken is so for every token. What `onFault` itself throws is dropped.
 */
export function guardObserver(observer: EngineObserver): EngineObserver {
  const told = new Set<string>();
  const onFault: NonNullable<EngineObserver['onFault']> = (fault) => {
    try {
      observer.onFault?.(fault);
    } catch {
      // Nobody is left to tell.
    }
  };
  const guard = <T extends Notice>(name: string, notice: T | undefined): T | undefined => {
    if (notice === undefined) return undefined;
    const guarded: Notice = (event) => {
      try {
        notice.call(observer, event);
      } catch (error) {
        if (told.has(name)) return;
        told.add(name);
        onFault({ where: `observer ${name}`, error, requestIds: [] });
      }
    };
    return guarded as T;
  };
  const names = [
    'onStep',
    'onPark',
    'onFirstToken',
    'onToken',
    'onFinish',
    'onRefuse',
    'onAdapterLoad',
    'onAdapterEvict',
  ];
  const entries = (names as (keyof EngineObserver)[]).map((name) => [
    name,
    guard(name, observer[name] as Notice | undefined),
  ]);
  return { ...(Object.fromEntries(entries) as EngineObserver), onFault };
}
