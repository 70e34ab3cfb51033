import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { checkDesign, parseDesign, type DesignFlags } from '../../../cli/experiment/parse-design.ts';
import { UNICODE } from '../../../cli/experiment/draw-interval.ts';
import { keptPairsText, statusText } from '../../../cli/experiment/status-text.ts';
import { planText } from '../../../cli/experiment/plan-text.ts';
import { lookOf, NOON, viewOf } from './sample-view.ts';

const NAME = 'support/intent';
const designOf = (flags: Partial<DesignFlags>) =>
  checkDesign({
    ...parseDesign({
      name: NAME,
      variants: ['control=@3', 'treatment=@4'],
      ...{ metrics: ['thumbs:proportion:up'], guardrails: [], tenants: [], overrides: [] },
      ...flags,
    }),
  });

describe('--judge', () => {
  it('judges the last variant for a fifth of the requests, and puts nobody into the experiment', () => {
    const design = designOf({ judge: 'base', judgeTokens: '200k', keepPairs: '50' });
    expect(design).toMatchObject({
      coverage: 0,
      shadow: { adapter: `${NAME}@4`, sample: 0.2 },
      judge: { model: 'base', tokens_per_day: 200_000, keep_pairs: 50 },
    });
    expect(planText(design)).toMatch(/judge +base, in both orders; at most 200000 tokens a day; the last 50/);
  });

  it('leaves explicit settings as they are', () => {
    const ramped = designOf({
      judge: 'https://app.example.com/judge',
      ramp: '1%,100%',
      shadow: `${NAME}@4:5%`,
    });
    expect(ramped).toMatchObject({
      ramp: { steps: [0.01, 1] },
      shadow: { sample: 0.05 },
      judge: { url: 'https://app.example.com/judge' },
    });
    expect(ramped).not.toHaveProperty('coverage');
    expect(designOf({ judge: 'base', coverage: '50%' })).toMatchObject({ coverage: 0.5 });
    expect(designOf({ judge: 'medicine@7' })).toMatchObject({ judge: { model: 'medicine@7' } });
  });

  it.each<[Partial<DesignFlags>, RegExp]>([
    [{ judgeTokens: '1k' }, /--judge-tokens needs a judge/],
    [{ keepPairs: '5' }, /--keep-pairs needs a judge/],
    [{ judge: 'base', keepPairs: 'all' }, /--keep-pairs all is not a number/],
    [{ judge: 'base', keepPairs: '201' }, /keep_pairs/],
    [{ judge: 'No Name' }, /No Name/],
    [{ judge: `${NAME}@4` }, /one of the judged versions/],
  ])('refuses %j', (flags, why) => expect(() => designOf(flags)).toThrow(why));
});

describe('status of judged pairs', () => {
  const judged = { coverage: 0, status: 'running', ramp: undefined, judge: { model: 'base' } };
  const document = { ...judged, shadow: { adapter: `${NAME}@4`, sample: 0.2 } };
  const pairs = {
    ...{ variant: 'treatment', wins: 131, ties: 20, losses: 89, same: 12, p_value: 0.004, verdict: 'better' },
    ...{ win_rate: { estimate: 0.5875, low: 0.507, high: 0.668 }, first_chosen: 0.612, agreement: 0.741 },
    ...{ failures: { judge: 2 }, tokens_today: 45_000 },
  };
  const shown = (look: Record<string, unknown>) =>
    stripVTControlCharacters(
      statusText(viewOf(document, { evaluation: lookOf(look) }), { width: 80, glyphs: UNICODE }),
    );

  it('shows who wins how often, and how reliable the judge is', () => {
    expect(shown({ pairs, coverage: 0 }).split('\n\n').at(-1)!.split('\n')).toEqual([
      'JUDGED     WINS  TIES  LOSSES  WIN RATE  95 % INTERVAL     VERDICT',
      'treatment  131   20    89      58.8 %    50.7 % to 66.8 %  better',
      'judged by base, in both orders; a tie is half a win',
      '12 of the ties: identical answers, not sent to the judge',
      'the answer shown first was chosen in 61.2 %',
      'the judge agreed with itself in both orders in 74.1 %',
      '2 not judged: the judge did not answer',
      '45000 of 500000 tokens used today (9 %)',
    ]);
    expect(shown({ pairs, coverage: 0 })).toMatch(/coverage +nobody: answers are judged in parallel/);
  });

  it('shows where pairs come from while there are none', () =>
    expect(shown({ coverage: 0 })).toMatch(/no pairs yet: they are made from answers of support\/intent@3/));
});

it('shows kept pairs without terminal commands', () => {
  const pair = {
    ...{ at: NOON, prompt: [{ role: 'user', content: 'Hi\u001b[2J' }], control: 'a', treatment: 'b' },
    ...{ result: 'win' as const, cut: true },
  };
  const text = stripVTControlCharacters(keptPairsText([pair]));
  expect(text).toContain('2026-01-31 12:00Z  the treatment won (texts are cut)');
  expect(text).not.toContain('\u001b');
  expect(keptPairsText([])).toMatch(/No pairs are kept/);
});
