import { describe, expect, it } from 'vitest';
import {
  MAX_TRAINING_CARD_BYTES,
  readTrainingText,
  SentTrainingCard,
  TrainingCardView,
} from '../../protocol/training.ts';
import { BAD_CARDS, trainingCard } from '../contracts/sample-training.ts';

const card = trainingCard();

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
