import { scoreToken } from '../generation/sampler.ts';
import type { Clock } from './ports.ts';
import type { Sequence } from './sequence.ts';

/** A row of 49,152 logits takes half a millisecond: other work waits at most 8 ms. */
const ROWS_BETWEEN_YIELDS = 16;

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
export async function scorePrompt(params: {
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
  if (from === 0) scores.push({ id: sequence.prompt[0]!, logprob: null, top: [] });
  for (let row = 0; row < to - from; row += 1) {
    const id = sequence.prompt[from + row + 1];
    if (id === undefined) break;
    const score = scoreToken({ logits, offset: row * vocabSize, length: vocabSize, id, count });
    if (score === null) return false;
    scores.push(score);
    if ((row + 1) % ROWS_BETWEEN_YIELDS === 0) await clock.yield();
  }
  return true;
}
