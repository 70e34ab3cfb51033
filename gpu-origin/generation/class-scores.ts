/** What the numbers of a classification head mean. */
import type { ProblemType } from '../../protocol/classes.ts';

/** A head's answer to one text. */
export interface Classes {
  /** By class. */
  scores: Float32Array;
  /** `labels`: null = transformers' default; `problemType`: null = as many classes as one text has one of. */
  head: { readonly labels: readonly string[] | null; readonly problemType: ProblemType | null };
}

/**
 * As vLLM activates (`pooler/activations.py`): sigmoid for one class or several that do not exclude each other, softmax
 * for others; nothing for a regression.
 */
export function activated({ scores, head }: Classes, activates: boolean): number[] {
  if (!activates || head.problemType === 'regression') return [...scores];
  if (scores.length === 1 || head.problemType === 'multi_label_classification')
    return Array.from(scores, sigmoid);
  const largest = Math.max(...scores);
  const powers = Array.from(scores, (score) => Math.exp(score - largest));
  const sum = powers.reduce((total, power) => total + power, 0);
  return powers.map((power) => power / sum);
}

const sigmoid = (score: number): number => 1 / (1 + Math.exp(-score));

/** The first of equal ones, as NumPy's argmax. */
export const likeliest = (scores: readonly number[]): number => scores.indexOf(Math.max(...scores));

/** -log of a class's softmax, nats; finite where its probability is 0 in a float. */
export function nllOf(scores: readonly number[], at: number): number {
  const largest = Math.max(...scores);
  const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0);
  return Math.log(sum) + largest - scores[at]!;
}
