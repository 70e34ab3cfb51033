import { describe, expect, it } from 'vitest';
import {
  addToConfusion,
  confusionTable,
  MAX_CONFUSION_CLASSES,
  macroF1,
  type ConfusionCount,
} from '../../protocol/confusion.ts';

const rows = [
  ...[
    ['cat', 'cat'],
    ['cat', 'dog'],
    ['dog', 'dog'],
    ['dog', 'dog'],
    ['fox', 'cat'],
    ['cat', 'cat'],
  ],
] as [string, string][];

describe('addToConfusion', () => {
  it('counts rows by label and class, in any number of steps', () => {
    const all = addToConfusion([], rows);
    expect(all.toSorted()).toEqual([
      ['cat', 'cat', 2],
      ['cat', 'dog', 1],
      ['dog', 'dog', 2],
      ['fox', 'cat', 1],
    ]);
    expect(addToConfusion(addToConfusion([], rows.slice(0, 3)), rows.slice(3))).toEqual(all);
  });

  it('tells apart labels that would join to one text', () => {
    const odd = [
      ['a b', 'c'],
      ['a', 'b c'],
      ['__proto__', 'a'],
    ] as const;
    expect(addToConfusion([], odd)).toEqual(odd.map((one) => [...one, 1]));
  });
});

describe('macroF1', () => {
  it('is scikit-learn’s, also of classes that no row has or gets', () => {
    // sklearn.metrics.f1_score([...], [...], average="macro"): cat 2/3, dog 4/5, fox 0.
    expect(macroF1(addToConfusion([], rows))).toBeCloseTo((2 / 3 + 4 / 5) / 3, 12);
    expect(macroF1([['a', 'b', 3]])).toBe(0);
    expect(macroF1([['a', 'a', 3]])).toBe(1);
    expect(macroF1([])).toBeNull();
  });
});

describe('confusionTable', () => {
  it('has the labels in order, and a row for each', () => {
    expect(confusionTable(addToConfusion([], rows))).toEqual({
      labels: ['cat', 'dog', 'fox'],
      counts: [
        [2, 1, 0],
        [0, 2, 0],
        [1, 0, 0],
      ],
    });
  });

  it('is left out with too many classes to read', () => {
    const of = (count: number): ConfusionCount[] =>
      Array.from({ length: count }, (_, i) => [`c${i}`, `c${i}`, 1]);
    expect(confusionTable(of(MAX_CONFUSION_CLASSES))?.labels).toHaveLength(MAX_CONFUSION_CLASSES);
    expect(confusionTable(of(MAX_CONFUSION_CLASSES + 1))).toBeNull();
    expect(confusionTable([])).toBeNull();
  });
});
