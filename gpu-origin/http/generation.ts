/** What one request for answers or vectors did, from its arrival to its end: for metrics and its trace. */
import type { Context } from 'hono';
import type { AnswerEnd } from '../engine/engine.ts';
import type { GenerationRequest } from '../generation/sampler.ts';
import type { GenerationError, MeasuredGeneration, Operation } from './metrics.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import type { Directive } from './read-request.ts';

/** A request that has ended. */
export interface EndedGeneration extends MeasuredGeneration {
  /** Of the HTTP response; 500 if none was made. */
  readonly status: number;
  /** null if its body was not valid. */
  readonly asked: { readonly directive: Directive; readonly request: GenerationRequest | null } | null;
}

/** Collects what becomes of one request. It ends when its response is sent and its last row has ended. */
export class Generation {
  readonly #operation: Operation;
  readonly #arrivedAt: number;
  readonly #now: () => number;
  readonly #onEnd: (ended: EndedGeneration) => void;
  readonly #rows: AnswerEnd[] = [];
  #asked: EndedGeneration['asked'] = null;
  #error: GenerationError | null = null;
  #status = 500;
  /** Who still works for it: the handler, its stream, rows. */
  #open = 0;

  /** @param params.now the engine's clock, ms. @param params.onEnd called once; must not throw. */
  constructor(params: {
    operation: Operation;
    arrivedAt: number;
    now: () => number;
    onEnd: (ended: EndedGeneration) => void;
  }) {
    this.#operation = params.operation;
    this.#arrivedAt = params.arrivedAt;
    this.#now = params.now;
    this.#onEnd = params.onEnd;
  }

  /** What was asked for. @param request of a completion. */
  asked(directive: Directive, request: GenerationRequest | null): void {
    this.#asked = { directive, request };
  }

  /** Why it failed; the first reason counts. */
  fail(error: GenerationError): void {
    this.#error ??= error;
  }

  /** @returns a function to call at the end of this part of it; later calls do nothing. */
  enter(): () => void {
    this.#open += 1;
    let left = false;
    return () => {
      if (left) return;
      left = true;
      this.#open -= 1;
      if (this.#open === 0) this.#end();
    };
  }

  /** @param cancelled nobody wanted it any more; otherwise an aborted row means that the origin shuts down. */
  rowEnded(end: AnswerEnd, cancelled: boolean): void {
    this.#rows.push(end);
    if (end.error !== null) this.fail(end.error.code);
    if (end.outcome === 'aborted') this.fail(cancelled ? 'cancelled' : 'origin_unavailable');
  }

  /** Runs the handler. Its exceptions pass. */
  async answer(handle: () => Promise<Response>): Promise<Response> {
    const leave = this.enter();
    try {
      const response = await handle();
      this.#status = response.status;
      return response;
    } catch (error) {
      this.fail('internal_error');
      throw error;
    } finally {
      leave();
    }
  }

  #end(): void {
    this.#onEnd({
      operation: this.#operation,
      arrivedAt: this.#arrivedAt,
      endedAt: this.#now(),
      status: this.#status,
      error: this.#error,
      asked: this.#asked,
      rows: this.#rows,
    });
  }
}

/** Of a request that has just been authenticated. */
export function startGeneration(
  operation: Operation,
  c: Context<OriginEnv>,
  { metrics, monotonic }: Pick<OriginContext, 'metrics' | 'monotonic'>,
  { base }: Pick<Services, 'base'>,
): Generation {
  return new Generation({
    operation,
    arrivedAt: c.var.arrivedAt,
    now: monotonic,
    onEnd: (ended) => metrics.onGeneration(base.id, ended),
  });
}
