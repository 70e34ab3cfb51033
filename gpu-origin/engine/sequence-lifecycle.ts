import type { ApiError, FinishReason } from '../../protocol/index.ts';
import type { AdapterCache } from './adapters/adapter-cache.ts';
import { MODEL_FAILED, NOT_FINITE, rowFault } from './requests.ts';
import type { AnswerPart } from './answer.ts';
import type { KvSlots } from './kv-places.ts';
import type { EngineObserver, Outcome, Clock } from './ports.ts';
import type { Scheduler } from './scheduler.ts';
import type { Sequence } from './sequence.ts';

/** Adapters are held for this many times the slots beyond what runs: enough that a freed slot finds a ready request. */
const LOOK_AHEAD = 2;

/**
 * How sequences get their adapters, go on and end: the one place that gives their slot, their adapters and their place
 * in the queue back.
 */
export class SequenceLifecycle {
  /** Everything that has not ended. */
  readonly live = new Set<Sequence>();
  readonly #scheduler: Scheduler;
  readonly #slots: KvSlots<Sequence>;
  readonly #clock: Pick<Clock, 'now'>;
  readonly #observer: EngineObserver;
  readonly #wake: () => void;

  constructor(params: {
    scheduler: Scheduler;
    slots: KvSlots<Sequence>;
    clock: Pick<Clock, 'now'>;
    observer: EngineObserver;
    /** Called after each end: someone may have waited for its place or its adapters' memory. */
    wake: () => void;
  }) {
    this.#scheduler = params.scheduler;
    this.#slots = params.slots;
    this.#clock = params.clock;
    this.#observer = params.observer;
    this.#wake = params.wake;
  }

  add(sequence: Sequence): void {
    this.live.add(sequence);
    this.#scheduler.add(sequence);
  }

  /**
   * Lets queued sequences get hold of their adapters, in the order in which they will be served. Only the front of the
   * queue holds any, so that a long queue does not fill the memory; one tenant has at most half of these places.
   * Who finds no room is passed by those whose adapters are there already, but only so often that its turn comes.
   * @param slots of the batch.
   */
  lease(adapters: Pick<AdapterCache, 'acquire'>, slots: number): void {
    const queue = [...this.#scheduler.queue()];
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

  /** One more token of an answer. @param part null: its logits are not finite. */
  advance(sequence: Sequence, part: AnswerPart | null): void {
    if (part === null) {
      this.fault('logits', new Error('logits that are not finite'), [sequence]);
      this.fail(sequence, rowFault(NOT_FINITE));
      return;
    }
    const { tenant } = sequence;
    const now = this.#clock.now();
    if (sequence.lastTokenAt === null) this.#observer.onFirstToken?.({ tenant, ms: now - sequence.addedAt });
    else this.#observer.onToken?.({ tenant, ms: now - sequence.lastTokenAt });
    sequence.lastTokenAt = now;
    this.#scheduler.generated(tenant, 1);
    const { text, tokens, finish } = part;
    const shown = text.length > 0 || tokens.length > 0;
    if (shown && !sequence.events.push({ kind: 'tokens', text, tokens })) sequence.abort();
    if (finish !== null) this.finish(sequence, finish);
  }

  /** A row in a step's midst that is late: the step costs as much as if it had a token. */
  satOut(sequence: Sequence): void {
    this.#scheduler.generated(sequence.tenant, 1);
  }

  /** A row makes room for another tenant's: it waits with all it has. */
  park(sequence: Sequence): void {
    this.#swap(sequence, () => {
      this.#slots.park(sequence);
      sequence.become('parked');
      this.#scheduler.park(sequence);
      this.#observer.onPark?.({ tenant: sequence.tenant });
    });
  }

  /** Its turn has come again. */
  resume(sequence: Sequence): void {
    this.#swap(sequence, () => {
      const state = sequence.promptRead ? 'decode' : 'prefill';
      this.#slots.resume(sequence, state);
      this.#scheduler.drop(sequence);
      sequence.become(state);
    });
  }

  #swap(sequence: Sequence, swap: () => void): void {
    try {
      swap();
    } catch (error) {
      this.fault('swap', error, [sequence]);
      this.fail(sequence, rowFault(MODEL_FAILED));
    }
  }

  finish(sequence: Sequence, reason: FinishReason): void {
    this.#end(sequence, reason, null, () => sequence.finish(reason));
  }

  abort(sequence: Sequence): void {
    this.#end(sequence, 'aborted', null, () => sequence.endAborted());
  }

  fail(sequence: Sequence, error: ApiError): void {
    this.#end(sequence, 'failed', error, () => sequence.fail(error));
  }

  #end(sequence: Sequence, outcome: Outcome, error: ApiError | null, end: () => void): void {
    const now = this.#clock.now();
    if (sequence.queued) this.#scheduler.drop(sequence);
    if (sequence.held) {
      try {
        this.#slots.leave(sequence);
      } catch (fault) {
        this.fault('release', fault, [sequence]);
      }
      this.#scheduler.rowEnded(now);
    }
    end();
    this.live.delete(sequence);
    this.#wake();
    this.#observer.onFinish?.({
      id: sequence.request.id,
      traceId: sequence.request.parent?.traceId,
      tenant: sequence.tenant,
      outcome,
      error,
      promptTokens: sequence.usage.prompt_tokens,
      completionTokens: sequence.usage.completion_tokens,
      cachedTokens: sequence.cached,
      ms: now - sequence.addedAt,
      queuedMs: sequence.startedAt === null ? null : sequence.startedAt - sequence.addedAt,
    });
  }

  fault(where: string, error: unknown, rows: readonly Sequence[]): void {
    this.#observer.onFault?.({ where, error, requestIds: rows.map((row) => row.request.id) });
  }
}
