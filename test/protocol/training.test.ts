import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  checkpointSteps,
  MAX_CHECKPOINTS,
  MAX_TRAINING_CARD_BYTES,
  readTrainingText,
  SentTrainingCard,
  TrainingCardView,
} from '../../protocol/training.ts';
import { BAD_CARDS, trainingCard } from '../contracts/sample-training.ts';

const card = trainingCard();

describe('the steps whose adapters are kept', () => {
  it.each<[what: string, steps: number, epochs: number, kept: number[]]>([
    ['of one epoch: none', 60, 1, []],
    ['of a part of one: none', 60, 0.5, []],
    ['of two', 60, 2, [30]],
    ['of three', 90, 3, [30, 60]],
    ['of many: the last two', 1_000, 10, [800, 900]],
    ['of two and a half', 25, 2.5, [10, 20]],
    ['of few rows, which are used more often than asked', 60, 3, [20, 40]],
    ['of a single step', 1, 3, []],
    ['of steps that fall together', 2, 3, [1]],
  ])('%s', (_, steps, epochs, kept) => {
    expect(checkpointSteps({ steps, epochs })).toEqual(kept);
  });

  it('are few, ascending, and within the training', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 1_000_000 }),
        fc.double({ min: 0.01, max: 100, noNaN: true }),
        (steps, epochs) => {
          const kept = checkpointSteps({ steps, epochs });
          expect(kept.length).toBeLessThanOrEqual(MAX_CHECKPOINTS);
          expect(kept).toEqual([...new Set(kept)].sort((a, b) => a - b));
          for (const step of kept) expect(step > 0 && step < steps && Number.isInteger(step)).toBe(true);
        },
      ),
      { seed: 20_261_201 },
    );
  });
});

describe('a training card', () => {
  it('may be as long as an honest one can get', () => {
    const longest = {
      ...card,
      curve: Array.from({ length: 256 }, (_, i) => [100_000 + i, 2.123456789012345 + i, 0.0123456789012345]),
      chain: Array.from({ length: 16 }, () => ({ digest: 'f'.repeat(64), scale: 0.1 + 0.2 })),
    };
    expect(JSON.stringify(longest).length).toBeLessThan(MAX_TRAINING_CARD_BYTES);
    expect(SentTrainingCard.parse(longest)).toEqual(longest);
  });

  it.each(BAD_CARDS)('is refused with %s', (_, wrong) => {
    expect(SentTrainingCard.safeParse({ ...card, ...wrong }).success).toBe(false);
  });

  it('is read from indented text, and told from what is none', () => {
    expect(readTrainingText(JSON.stringify(card, null, 2))).toEqual({ ok: true, value: card });
    expect(readTrainingText('{')).toMatchObject({ ok: false, error: expect.stringContaining('not JSON') });
    expect(readTrainingText(JSON.stringify({ ...card, steps: 'many' }))).toEqual({
      ok: false,
      error: expect.stringMatching(
        /^training\.json is not a training card: "steps": .*\. Remove it to publish without a card, or repair it\.$/,
      ),
    });
  });

  it('of a newer edge is read without what it adds', () => {
    const more = <T extends object>(value: T) => ({ ...value, later: 1 });
    const newer = more({
      ...card,
      rows: more(card.rows),
      base: more(card.base),
      chain: card.chain.map(more),
      settings: more(card.settings),
      scores: more(card.scores ?? {}),
    });
    expect(TrainingCardView.parse(newer)).toEqual(card);
  });
});
