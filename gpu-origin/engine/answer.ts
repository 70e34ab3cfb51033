/** What comes of a row: an answer's tokens and text, or its prompt's pooled states, and the channel to who reads it. */
import type { FinishReason } from '../../protocol/index.ts';
import { Detokenizer, StopScanner, type TokenBytes, tokenEnds } from '../generation/answer-text.ts';
import { Sampler } from '../generation/sampler.ts';
import type { SamplingParams } from '../generation/sampling-params.ts';
import type { ScoredToken, EngineEvent, Pooling } from './requests.ts';
import type { RowGrammar } from './ports.ts';

export interface AnswerPart {
  readonly text: string;
  readonly tokens: readonly ScoredToken[];
  readonly finish: FinishReason | null;
}

/** One growing answer: logits -> token -> characters -> what may be shown. */
export class Answer {
  /** Every generated token. */
  readonly ids: number[] = [];
  /** The stop string that has ended it; null = something else has, or nothing yet. */
  stop: string | null = null;
  /** What it is held to; null = nothing. */
  readonly grammar: RowGrammar | null;
  readonly #sampling: SamplingParams;
  readonly #maxTokens: number;
  readonly #eos: ReadonlySet<number>;
  readonly #sampler: Sampler;
  readonly #detokenizer: Detokenizer;
  readonly #scanner: StopScanner;
  /** Tokens whose text is held back, with where it begins and ends in the decoded text. */
  #held: { token: ScoredToken; start: number; end: number }[] = [];
  #decoded = 0;
  #shown = 0;

  /** @param params.prompt token ids, for what counts their repetition. */
  constructor(params: {
    sampling: SamplingParams;
    prompt: readonly number[];
    maxTokens: number;
    eos: ReadonlySet<number>;
    tokens: TokenBytes;
    random: () => number;
    grammar: RowGrammar | null;
  }) {
    const { sampling, tokens } = params;
    this.grammar = params.grammar;
    this.#sampling = sampling;
    this.#maxTokens = params.maxTokens;
    this.#eos = params.eos;
    this.#sampler = new Sampler(withoutEnds(sampling, params.eos), params.random, params.prompt);
    this.#detokenizer = new Detokenizer(
      sampling.showSpecial ? { bytes: (id) => tokens.bytes(id), isSpecial: () => false } : tokens,
    );
    this.#scanner = new StopScanner(sampling.stop, sampling.includeStop);
  }

  /**
   * Chooses the next token from this row's `[length]` logits. Its grammar's mask must be up to date.
   * @returns null when a logit is not finite.
   */
  next(logits: Float32Array, offset: number, length: number): AnswerPart | null {
    const sample = this.#sampler.sample(logits, offset, length, this.#mask());
    return sample === null ? null : this.take(sample);
  }

  /** Takes a token that was chosen, here or elsewhere. */
  take(sample: ScoredToken): AnswerPart {
    const { grammar } = this;
    this.ids.push(sample.id);
    grammar?.accept(sample.id);
    const ends = tokenEnds({
      token: sample.id,
      generated: this.ids.length,
      maxTokens: this.#maxTokens,
      eos: this.#eos,
      // A grammar lets its end through where nothing else may come: what is chosen then ends it.
      ignoreEos: this.#sampling.ignoreEos && grammar === null,
      stopTokens: this.#sampling.stopTokens,
    });
    if (ends === 'stop') return this.#stopAt(sample);

    const piece = this.#detokenizer.push(sample.id);
    const start = this.#decoded;
    this.#decoded += piece.length;
    this.#held.push({ token: sample, start, end: this.#decoded });
    // Stop strings count from the first token on that may be the last.
    const early = this.ids.length <= this.#sampling.minTokens;
    const { text, stopped } = early ? { text: piece, stopped: null } : this.#scanner.push(piece);
    this.#shown += text.length;
    if (stopped !== null) {
      this.stop = stopped;
      const tokens = this.#held.filter((held) => held.start < this.#shown).map((held) => held.token);
      return { text, tokens, finish: 'stop' };
    }
    if (ends === 'length')
      return { text: text + this.#scanner.flush(), tokens: this.#release(Infinity), finish: 'length' };
    return { text, tokens: this.#release(this.#shown), finish: null };
  }

  /** It ended elsewhere, without a token that ends it here. @returns what was held back. */
  end(): Omit<AnswerPart, 'finish'> {
    return { text: this.#scanner.flush(), tokens: this.#release(Infinity) };
  }

  #mask(): Int32Array | null {
    if (this.grammar === null) return null;
    const { mask } = this.grammar;
    if (this.#sampling.ignoreEos) leaveEnds(mask, this.#eos);
    return mask;
  }

  /** The token ends the answer, and is part of it only when that is asked for. */
  #stopAt(token: ScoredToken): AnswerPart {
    const wanted = this.#sampling.includeStop && this.#sampling.stopTokens.includes(token.id);
    const piece = wanted ? this.#detokenizer.push(token.id) : '';
    const text = this.#scanner.flush() + piece;
    const tokens = this.#release(Infinity);
    return { text, tokens: piece === '' ? tokens : [...tokens, token], finish: 'stop' };
  }

  /** Tokens whose text ends at `shown` or before. */
  #release(shown: number): ScoredToken[] {
    let count = 0;
    while (count < this.#held.length && this.#held[count]!.end <= shown) count += 1;
    return this.#held.splice(0, count).map((held) => held.token);
  }
}

/** Takes the ends out of a mask that has more than ends. */
function leaveEnds(mask: Int32Array, ends: ReadonlySet<number>): void {
  const only = mask.every((word, at) => {
    let rest = word;
    for (const id of ends) if (id >> 5 === at) rest &= ~(1 << (id & 31));
    return rest === 0;
  });
  if (only) return;
  for (const id of ends) mask[id >> 5]! &= ~(1 << (id & 31));
}

/** Nothing that ends an answer is chosen before it has as many tokens as it is to have. */
function withoutEnds(sampling: SamplingParams, eos: ReadonlySet<number>): SamplingParams {
  const { minTokens, adjustments, ignoreEos, stopTokens } = sampling;
  if (minTokens === 0) return sampling;
  const ends = [...(ignoreEos ? [] : eos), ...stopTokens];
  const none = { bias: [], repetition: 1, frequency: 0, presence: 0 };
  return { ...sampling, adjustments: { ...(adjustments ?? none), later: { ids: ends, after: minTokens } } };
}

/**
 * Events that the reader may leave unread. An event is about 250 bytes on the wire, so this is 256 KB beside what the
 * sockets hold: who is further behind does not read at all.
 */
export const MAX_UNREAD_EVENTS = 1_024;

/** From the engine to one reader. Pushing never waits, so that a slow reader cannot hold up the batch. */
export class EventChannel implements AsyncIterable<EngineEvent> {
  readonly #leave: () => void;
  #unread: EngineEvent[] = [];
  #read = 0;
  #closed = false;
  #wanted: ((result: IteratorResult<EngineEvent>) => void) | null = null;

  /** @param leave called when the reader goes before the end. */
  constructor(leave: () => void) {
    this.#leave = leave;
  }

  /** @returns false when the reader is too far behind; the event is kept all the same. */
  push(event: EngineEvent): boolean {
    if (this.#closed) return true;
    if (event.kind === 'end' || event.kind === 'error' || event.kind === 'aborted') this.#closed = true;
    if (this.#wanted !== null) {
      const wanted = this.#wanted;
      this.#wanted = null;
      wanted({ done: false, value: event });
      return true;
    }
    this.#unread.push(event);
    return this.#unread.length - this.#read <= MAX_UNREAD_EVENTS;
  }

  [Symbol.asyncIterator](): AsyncIterator<EngineEvent, undefined> {
    const done = { done: true as const, value: undefined };
    return {
      next: async () => {
        if (this.#read < this.#unread.length) return { done: false, value: this.#take() };
        if (this.#closed) return done;
        if (this.#wanted !== null) throw new Error('an event channel has one reader');
        return new Promise((resolve) => {
          this.#wanted = resolve;
        });
      },
      return: async () => {
        if (!this.#closed) this.#leave();
        this.#closed = true;
        this.#unread = [];
        this.#read = 0;
        return done;
      },
    };
  }

  #take(): EngineEvent {
    const event = this.#unread[this.#read]!;
    this.#read += 1;
    if (this.#read === this.#unread.length) {
      this.#unread = [];
      this.#read = 0;
    }
    return event;
  }
}

/** A prompt's hidden states as one vector, taken in chunk by chunk. */
export class PooledStates {
  readonly #pooling: Pooling;
  #sum: Float64Array | null = null;
  #count = 0;

  constructor(pooling: Pooling) {
    this.#pooling = pooling;
  }

  /** @param states `[tokens, size]` of the prompt's next tokens. @returns false when one is not finite. */
  add(states: Float32Array, size: number): boolean {
    if (!states.every(Number.isFinite)) return false;
    if (this.#pooling === 'last') {
      this.#sum = Float64Array.from(states.subarray(states.length - size));
      this.#count = 1;
      return true;
    }
    const sum = (this.#sum ??= new Float64Array(size));
    for (let at = 0; at < states.length; at += 1) sum[at % size]! += states[at]!;
    this.#count += states.length / size;
    return true;
  }

  /** `[size]` */
  value(): Float64Array {
    return Float64Array.from(this.#sum ?? [], (value) => value / this.#count);
  }
}
