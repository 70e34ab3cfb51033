import { describe, expect, it } from 'vitest';
import { cardIn } from '../../dashboard/api/publish-file.ts';
import { curveColumns, lossRange, lossText, trainingFacts } from '../../dashboard/model/training-card.ts';
import { trainingCard } from '../contracts/sample-training.ts';

const card = trainingCard();
const factsOf = (...given: Parameters<typeof trainingFacts>) =>
  Object.fromEntries(trainingFacts(...given).map(({ name, value }) => [name, value]));

describe('the curve', () => {
  it('has a column for each loss', () => {
    expect(curveColumns(card.curve)).toEqual({
      steps: [1, 45, 90],
      training: [2.3142, 0.4, 0.0421],
      heldOut: [null, 0.5, 0.09],
    });
  });

  it('grows by steps, each once, in whatever order it was sent', () => {
    const { steps, training } = curveColumns([
      [9, 1, null],
      [2, 3, null],
      [9, 2, null],
    ]);
    expect([steps, training]).toEqual([
      [2, 9],
      [3, 2],
    ]);
  });

  it('is drawn from 0, unless a loss is below it, and has a height', () => {
    expect(lossRange(curveColumns(card.curve))).toEqual([0, 2.3142]);
    expect(lossRange(curveColumns([[1, 0.5, -0.25]]))).toEqual([-0.25, 0.5]);
    expect(lossRange(curveColumns([[1, 0, null]]))).toEqual([0, 1]);
    expect(lossRange(curveColumns([]))).toEqual([0, 1]);
  });

  it('writes losses of any size in few characters', () => {
    expect([2.3142, 0, -0.00012345, 1.5e300].map(lossText)).toEqual(['2.31', '0', '-0.000123', '1.5e+300']);
  });
});

describe('the figures', () => {
  it('say what was continued, and that it was made from prompts', () => {
    const prompts = { rows: 50, users: 49, by_users: 40, by_judges: 10, from: 1, to: 2 };
    const continued = { sum_rank: 72, rank: 64, relative_error: 0.0123 };
    expect(factsOf(trainingCard({ prompts, continued }), [])).toMatchObject({
      'Made from prompts': 'of 49 users; 40 rows decided by users, 10 by judges',
      Continued: 'rank 64 of 72, 1.2 % of the norm cut off',
    });
    const exact = { ...continued, rank: 72, relative_error: 0 };
    expect(factsOf(trainingCard({ continued: exact }), [])).toMatchObject({ Continued: 'rank 72 of 72' });
    expect(factsOf(card, [])).not.toHaveProperty('Made from prompts');
  });

  it('are rows, chain, settings and scores', () => {
    expect(factsOf(card, [{ digest: 'c'.repeat(64), name: 'team/root' }])).toMatchObject({
      Rows: '60 trained on, 40 held out, 1 too long',
      'sha256 of the rows': 'abababababab',
      Base: 'tiny, int8',
      'On top of': 'team/root',
      Method: 'SFT',
      Rank: '8, alpha 16',
      Targets: 'q, v',
      'Learning rate': '0.0002',
      Epochs: '3, 90 steps of 2 rows',
      Seed: '7',
      'Labelled tokens': '1,234',
      'Held out, exact': '38 of 40',
      'Held out, loss': '2.4 → 0.09',
      Took: '61.5 s',
    });
  });

  it('leave out what there is not', () => {
    const rows = { ...card.rows, held_out: 0, left_out: 0 };
    const settings = { ...card.settings, method: 'dpo' as const };
    const facts = factsOf({ ...card, rows, settings, scores: null, chain: [], finished_at: 9e15 }, []);
    expect(facts).toMatchObject({ Rows: '60 trained on', 'On top of': 'the base', Method: 'DPO, beta 0.1' });
    expect(Object.keys(facts)).not.toEqual(expect.arrayContaining(['Held out, exact']));
    expect(facts).not.toHaveProperty('Finished');
    const scaled = { digest: 'd'.repeat(64), scale: 0.5 };
    expect(factsOf({ ...card, chain: [...card.chain, scaled] }, [])['On top of']).toBe(
      'cccccccc + dddddddd × 0.5',
    );
  });
});

describe('a card among chosen files', () => {
  const file = (name: string, text: string) => new File([text], name);
  const good = file('training.json', JSON.stringify(card));

  it('is read by its name', async () => {
    expect(await cardIn([file('adapter_config.json', '{}'), good])).toEqual({ ok: true, value: card });
    expect(await cardIn([file('adapter_config.json', '{}')])).toEqual({ ok: true, value: null });
  });

  it.each<[string, File[], RegExp]>([
    ['broken', [file('training.json', '{}')], /^training\.json is not a training card: .*Remove it/],
    ['too long', [file('training.json', ' '.repeat(70_000))], /it has 70000 bytes/],
    ['not the only one', [good, good], /more than one training\.json/],
  ])('is refused when it is %s', async (_, files, expected) => {
    expect(await cardIn(files)).toMatchObject({ ok: false, error: expect.stringMatching(expected) });
  });
});
