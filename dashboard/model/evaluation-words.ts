/** How kept evaluations and their scores are worded. */
import type { EvaluationView } from '../../protocol/admin-api/evaluations.ts';

type Kind = Pick<EvaluationView, 'judge' | 'labelled'>;

/** What the numbers of a table of scores count. With labels as in `graft eval`. */
export function scoresTitle(evaluations: readonly Kind[]): string {
  if (evaluations.some(({ labelled }) => labelled)) return 'Right';
  const judged = evaluations.filter(({ judge }) => judge !== null).length;
  if (judged === 0) return 'Answered exactly';
  return judged === evaluations.length ? 'Accepted by the judge' : 'Answered exactly, or accepted';
}

/** @returns such as `Rows answered exactly as expected, or classified as labelled.` */
export function countedRows(evaluations: readonly Kind[]): string {
  const ways = [
    [({ judge, labelled }: Kind) => judge === null && !labelled, 'answered exactly as expected'],
    [({ labelled }: Kind) => labelled, 'classified as labelled'],
    [({ judge }: Kind) => judge !== null, 'accepted by a judge'],
  ] as const;
  const words = ways.filter(([isOne]) => evaluations.some(isOne)).map(([, way]) => way);
  const last = words.length > 1 ? `, or ${words.at(-1)}` : (words[0] ?? '');
  return `Rows ${words.slice(0, -1).join(', ')}${last}.`;
}

/** @returns such as `macro F1 0.907`, with the digits of `graft eval`. */
export const macroF1Words = (macroF1: number): string => `macro F1 ${macroF1.toFixed(3)}`;
