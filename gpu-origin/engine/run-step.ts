import { rankOf } from '../generation/logits.ts';
import { scoreToken } from '../generation/sampler.ts';
import { MODEL_FAILED, rowFault } from './requests.ts';
import type { KvSlots, PrefixCache } from './kv-places.ts';
import type { PooledStates } from './answer.ts';
import type { Clock, GrammarMasks, ModelRunner } from './ports.ts';
import type { PrefillStep, Step } from './scheduler.ts';
import type { SequenceLifecycle } from './sequence-lifecycle.ts';
import type { Sequence } from './sequence.ts';

/** A row of 49,152 logits takes half a millisecond: other work waits at most 8 ms. */
const ROWS_BETWEEN_YIELDS = 16;

export interface StepReport {
  readonly kind: Step['kind'];
  /** Rows in the step. */
  readonly batch: number;
  /** Tokens fed. */
  readonly tokens: number;
  /** From its beginning to its postprocessing. */
  readonly ms: number;
}

/** Runs one step of the model and does to each of its rows what comes of it. */
export class StepRunner {
  readonly #runner: ModelRunner;
  readonly #slots: KvSlots<Sequence>;
  readonly #lifecycle: SequenceLifecycle;
  readonly #clock: Clock;
  readonly #masks: GrammarMasks;
  readonly #prefixes: PrefixCache;

  constructor(params: {
    runner: ModelRunner;
    slots: KvSlots<Sequence>;
    lifecycle: SequenceLifecycle;
    clock: Clock;
    masks: GrammarMasks;
    prefixes: PrefixCache;
  }) {
    this.#prefixes = params.prefixes;
    this.#masks = params.masks;
    this.#runner = params.runner;
    this.#slots = params.slots;
    this.#lifecycle = params.lifecycle;
    this.#clock = params.clock;
  }

  /** What the runner throws ends the step's rows and nothing else. */
  async run(step: Step): Promise<StepReport> {
    const startedAt = this.#clock.now();
    const rows = step.kind === 'decode' ? [...step.rows] : [step.sequence];
    let masks: Promise<void> | null = null;
    try {
      // What may come next is known before the step: it is found while the model runs.
      masks = this.#updateMasks(step, rows);
      const logits = step.kind === 'decode' ? await this.#decode(rows) : await this.#prefill(step);
      if (masks !== null) await masks;
      if (step.kind === 'decode') this.#decoded(rows, logits);
      else if (step.parts.to < this.#runner.parts) step.sequence.partsRead = step.parts.to;
      else await this.#prefilled(step, logits);
    } catch (error) {
      // One update at a time, and no row is closed in the middle of it.
      await masks?.catch(() => undefined);
      this.#lifecycle.fault('step', error, rows);
      // From the last slot down, so that none of them is moved first.
      for (const row of [...rows].reverse())
        if (!row.ended) this.#lifecycle.fail(row, rowFault(MODEL_FAILED));
    }
    const tokens = step.kind === 'decode' ? rows.length : this.#tokensRead(step);
    return { kind: step.kind, batch: rows.length, tokens, ms: this.#clock.now() - startedAt };
  }

  /** A chunk's tokens count with its last part. */
  #tokensRead({ from, to, parts }: PrefillStep): number {
    return parts.to < this.#runner.parts ? 0 : to - from;
  }

  #decode(rows: readonly Sequence[]): Promise<Float32Array> {
    return this.#runner.decode({
      tokens: rows.map((row) => row.answer.ids.at(-1)!),
      lengths: rows.map((row) => row.length),
    });
  }

  #decoded(rows: readonly Sequence[], logits: Float32Array): void {
    const { vocabSize } = this.#runner;
    // All of them first: a row that ends makes another one move, with all that its KV holds by now.
    for (const row of rows) row.length += 1;
    for (const [slot, row] of rows.entries()) {
      const failure = row.answer.grammar?.failure ?? null;
      if (failure !== null) this.#lifecycle.fail(row, failure);
      else this.#lifecycle.advance(row, row.answer.next(logits, slot * vocabSize, vocabSize));
    }
  }

  /** @returns null when no row of the step is held to a grammar and gets a token by it. */
  #updateMasks(step: Step, rows: readonly Sequence[]): Promise<void> | null {
    if (step.kind === 'prefill') {
      const { parts, sequence, to } = step;
      if (parts.to < this.#runner.parts || to < sequence.prompt.length) return null;
    }
    const held = rows.flatMap((row) => row.answer.grammar ?? []);
    return held.length === 0 ? null : this.#masks.update(held);
  }

  #prefill({ sequence, from, to, parts }: PrefillStep): Promise<Float32Array> {
    if (sequence.state === 'ready') {
      sequence.become('prefill');
      sequence.startedAt = this.#clock.now();
      sequence.request.onBegin?.();
      this.#slots.enter(sequence, sequence.delta);
      if (from > 0) this.#reuse(sequence, from);
    }
    const chunk = {
      slot: this.#slots.prefilling!.slot,
      tokens: sequence.prompt.slice(from, to),
      past: from,
      parts,
    };
    if (sequence.pooled !== null) return this.#runner.hiddenStates(chunk);
    return this.#runner.prefill({ ...chunk, positions: wantedPositions(sequence, from, to) });
  }

  /** The row gets the `tokens` first of its prompt from those that were kept. */
  #reuse(sequence: Sequence, tokens: number): void {
    const { slot } = this.#slots.prefilling!;
    const { chunk } = this.#runner;
    const blocks = this.#prefixes.use(sequence);
    for (let at = 0; at < tokens; at += chunk) this.#runner.reuse({ slot, at, block: blocks[at / chunk]! });
    sequence.length = tokens;
    sequence.cached = tokens;
  }

  /** A whole chunk that was read is kept, for a prompt that begins alike. */
  #keep({ sequence, from, to }: PrefillStep): void {
    if (to - from < this.#runner.chunk) return;
    const block = this.#prefixes.add(sequence, to);
    if (block !== null) this.#runner.keep({ slot: this.#slots.prefilling!.slot, at: from, block });
  }

  /** @param output logits of the wanted positions; of a prompt that is pooled, its tokens' hidden states. */
  async #prefilled(step: PrefillStep, output: Float32Array): Promise<void> {
    const { sequence, to } = step;
    sequence.length = to;
    sequence.partsRead = 0;
    this.#keep(step);
    if (sequence.pooled !== null) this.#pool(sequence, sequence.pooled, output);
    else await this.#read(step, output);
  }

  #pool(sequence: Sequence, pooled: PooledStates, states: Float32Array): void {
    if (!pooled.add(states, this.#runner.hiddenSize)) {
      this.#lifecycle.advance(sequence, null);
      return;
    }
    if (!sequence.promptRead) return;
    sequence.events.push({ kind: 'embedding', values: pooled.value() });
    this.#lifecycle.finish(sequence, 'stop');
  }

  async #read({ sequence, from, to }: PrefillStep, logits: Float32Array): Promise<void> {
    const { vocabSize } = this.#runner;
    if (!(await scorePrompt({ sequence, from, to, logits, vocabSize, clock: this.#clock }))) {
      this.#lifecycle.advance(sequence, null);
      return;
    }
    if (to < sequence.prompt.length) return;
    if (sequence.promptScores !== null)
      sequence.events.push({ kind: 'prompt', tokens: sequence.promptScores });
    if (sequence.maxTokens === 0) {
      this.#lifecycle.finish(sequence, 'length');
      return;
    }
    const failure = sequence.answer.grammar?.failure ?? null;
    if (failure !== null) {
      this.#lifecycle.fail(sequence, failure);
      return;
    }
    const lastRow = wantedPositions(sequence, from, to).length - 1;
    const part = sequence.answer.next(logits, lastRow * vocabSize, vocabSize);
    if (part !== null && part.finish === null) {
      this.#slots.join();
      sequence.become('decode');
    }
    this.#lifecycle.advance(sequence, part);
  }
}

/** Positions of the chunk `from` … `to`-1 whose logits this sequence needs, counted from `from`. */
export function wantedPositions(
  sequence: Pick<Sequence, 'prompt' | 'maxTokens' | 'promptScores'>,
  from: number,
  to: number,
): number[] {
  const { prompt, maxTokens } = sequence;
  const last = maxTokens > 0 ? prompt.length - 1 : prompt.length - 2;
  const first = sequence.promptScores === null ? prompt.length - 1 : from;
  const positions: number[] = [];
  for (let at = Math.max(first, from); at <= Math.min(last, to - 1); at += 1) positions.push(at - from);
  return positions;
}

/**
 * Scores the prompt tokens that the chunk `from` … `to`-1 predicts. Row j of `logits` belongs to position from + j.
 * @returns false when a row is not finite.
 */
async function scorePrompt(params: {
  sequence: Sequence;
  from: number;
  to: number;
  logits: Float32Array;
  vocabSize: number;
  clock: Pick<Clock, 'yield'>;
}): Promise<boolean> {
  const { sequence, from, to, logits, vocabSize, clock } = params;
  const scores = sequence.promptScores;
  const count = sequence.request.promptLogprobs;
  if (scores === null || count === null) return true;
  const ranks = sequence.request.promptRanks === true;
  if (from === 0) scores.push({ id: sequence.prompt[0]!, logprob: null, top: [] });
  for (let row = 0; row < to - from; row += 1) {
    const id = sequence.prompt[from + row + 1];
    if (id === undefined) break;
    const score = scoreToken({ logits, offset: row * vocabSize, length: vocabSize, id, count });
    if (score === null) return false;
    scores.push(ranks ? { ...score, rank: rankOf(logits, row * vocabSize, vocabSize, id) } : score);
    if ((row + 1) % ROWS_BETWEEN_YIELDS === 0) await clock.yield();
  }
  return true;
}
