/** What one request for answers or vectors did, from its arrival to its end: for metrics and its trace. */
import type { Context } from 'hono';
import type { Traceparent } from '../../protocol/trace-context.ts';
import type { AnswerEnd } from '../engine/engine.ts';
import type { GenerationRequest } from '../generation/sampler.ts';
import { type EndedGeneration, spansOf } from './generation-spans.ts';
import type { GenerationError, Operation } from './metrics.ts';
import type { OriginContext, OriginEnv, Services } from './origin-context.ts';
import type { Directive } from './read-request.ts';

/** Collects what becomes of one request. It ends when its response is sent and its last row has ended. */
export class Generation {
  /** Its span, under which an engine that runs elsewhere works; null where there are no traces. */
  readonly span: Traceparent | null;
  /** The trace that it belongs to; null = none. */
  readonly parent: Traceparent | null;
  readonly #operation: Operation;
  readonly #arrivedAt: number;
  readonly #now: () => number;
  readonly #onEnd: (ended: EndedGeneration) => void;
  readonly #rows: AnswerEnd[] = [];
  /** By prompt. */
  readonly #promptTokens = new Map<number, number>();
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
    span: Traceparent | null;
    parent: Traceparent | null;
    onEnd: (ended: EndedGeneration) => void;
  }) {
    this.span = params.span;
    this.parent = params.span ?? params.parent;
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

  /** @param prompt index from 0: it counts once, however many answers it has. @param cancelled nobody wanted it any more; otherwise an aborted row means that the origin shuts down. */
  rowEnded(end: AnswerEnd, prompt: number, cancelled: boolean): void {
    this.#rows.push(end);
    this.#promptTokens.set(prompt, Math.max(this.#promptTokens.get(prompt) ?? 0, end.promptTokens));
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
      promptTokens: [...this.#promptTokens.values()].reduce((sum, tokens) => sum + tokens, 0),
    });
  }
}

/** Of a request that has just been authenticated. */
export function startGeneration(
  operation: Operation,
  c: Context<OriginEnv>,
  { metrics, monotonic, now, tracer, onFault }: OriginContext,
  { base }: Pick<Services, 'base'>,
): Generation {
  const { parent, arrivedAt } = c.var;
  const span = tracer?.begin(parent) ?? null;
  const offsetMs = now() - monotonic();
  const route = c.req.routePath;
  // Not the context, which holds the body: a stream may last long.
  const requestId = c.var.requestId;
  return new Generation({
    operation,
    arrivedAt,
    now: monotonic,
    span,
    parent,
    onEnd(ended) {
      metrics.onGeneration(base.id, ended);
      if (span?.sampled !== true || tracer == null) return;
      const { latestNames } = tracer;
      try {
        tracer.record(
          spansOf(ended, { span, parent, requestId, route, base: base.id, latestNames, offsetMs }),
        );
      } catch (error) {
        onFault('trace', error);
      }
    },
  });
}
