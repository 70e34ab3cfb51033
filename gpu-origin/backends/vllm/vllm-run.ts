import type { ApiError, ChainEntry, FinishReason, Usage } from '../../../protocol/index.ts';
import { Answer, type AnswerPart, EventChannel } from '../../engine/answer.ts';
import type { EngineHandle, EngineObserver, EngineRequest } from '../../engine/engine.ts';
import type { TokenBytes } from '../../generation/answer-text.ts';
import type { Outcome } from '../../engine/ports.ts';

/** One answer's life: it waits for its turn, runs at vLLM once or several times, and ends once. */
export class VllmRun {
  readonly request: EngineRequest;
  readonly seed: number | null;
  /** Empty for the base. */
  readonly chainId: string;
  readonly chain: readonly ChainEntry[];
  readonly maxTokens: number;
  readonly addedAt: number;
  readonly answer: Answer;
  readonly events: EventChannel;
  /** Times that it was begun anew because vLLM had forgotten the chain. */
  retries = 0;
  startedAt: number | null = null;
  lastTokenAt: number | null = null;
  ended = false;
  /** Others have their turn; it goes on in its next one. */
  aside = false;
  /** Of what it has under way at vLLM. */
  #under = new AbortController();
  #onEnd: () => void = () => undefined;

  constructor(params: {
    request: EngineRequest;
    seed: number | null;
    chainId: string;
    chain: readonly ChainEntry[];
    maxTokens: number;
    addedAt: number;
    tokens: TokenBytes;
    eos: ReadonlySet<number>;
    /** Called when it is to be aborted. */
    onAbort: (run: VllmRun) => void;
  }) {
    const { request, seed, tokens, eos, maxTokens } = params;
    this.request = request;
    this.seed = seed;
    this.chainId = params.chainId;
    this.chain = params.chain;
    this.maxTokens = maxTokens;
    this.addedAt = params.addedAt;
    this.answer = new Answer({
      ...{ sampling: { ...request.sampling, seed }, prompt: [], maxTokens, eos, tokens },
      // Tokens are chosen at vLLM.
      random: () => 0,
      grammar: null,
    });
    const abort = (): void => params.onAbort(this);
    this.events = new EventChannel(abort);
    this.handle = {
      id: request.id,
      promptTokens: request.prompt.length,
      maxTokens,
      events: this.events,
      abort,
    };
    request.signal?.addEventListener('abort', abort, { once: true });
    this.#onEnd = () => request.signal?.removeEventListener('abort', abort);
  }

  readonly handle: EngineHandle;

  get tenant(): string {
    return this.request.tenant;
  }

  get usage(): Usage {
    const [prompt, completion] = [this.request.prompt.length, this.answer.ids.length];
    return { prompt_tokens: prompt, completion_tokens: completion, total_tokens: prompt + completion };
  }

  /** Tokens that are held for it while it runs. */
  get length(): number {
    return this.request.prompt.length + this.answer.ids.length;
  }

  /** For the observer, at its end. @param now of the clock that `addedAt` is of, ms. */
  summary(now: number): Omit<Parameters<NonNullable<EngineObserver['onFinish']>>[0], 'outcome' | 'error'> {
    return {
      ...namesOf(this.request),
      promptTokens: this.request.prompt.length,
      completionTokens: this.answer.ids.length,
      ms: now - this.addedAt,
      queuedMs: this.startedAt === null ? null : this.startedAt - this.addedAt,
    };
  }

  /** Of a new part of it at vLLM. */
  begin(): AbortSignal {
    this.aside = false;
    this.#under = new AbortController();
    return this.#under.signal;
  }

  /** Ends what it has under way at vLLM. */
  stop(): void {
    this.#under.abort();
  }

  /** @returns false when the reader is too far behind. */
  tell({ text, tokens }: Omit<AnswerPart, 'finish'>): boolean {
    if (text === '' && tokens.length === 0) return true;
    return this.events.push({ kind: 'tokens', text, tokens });
  }

  finish(finishReason: FinishReason): void {
    const { stop, ids } = this.answer;
    this.#end();
    this.events.push({
      ...{ kind: 'end', finishReason, usage: this.usage, tokenIds: ids },
      ...(stop === null ? {} : { stop }),
    });
  }

  fail(error: ApiError): void {
    this.#end();
    this.events.push({ kind: 'error', error, usage: this.usage });
  }

  endAborted(): void {
    this.#end();
    this.events.push({ kind: 'aborted', usage: this.usage });
  }

  #end(): void {
    this.ended = true;
    this.#onEnd();
    this.request.onEnd?.({
      promptTokens: this.startedAt === null ? 0 : this.request.prompt.length,
      completionTokens: this.answer.ids.length,
    });
  }
}

/** What logs call a request by. */
export const namesOf = ({ id, tenant, parent }: EngineRequest) => ({ id, tenant, traceId: parent?.traceId });

export const outcomeOf = (finish: FinishReason): Outcome => (finish === 'length' ? 'length' : 'stop');
