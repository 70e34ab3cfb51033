import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import { experimentTable } from '../../../cli/experiment/experiment-words.ts';
import { ASCII, UNICODE } from '../../../cli/experiment/draw-interval.ts';
import { outlookText, planText } from '../../../cli/experiment/plan-text.ts';
import { statusText } from '../../../cli/experiment/status-text.ts';
import type { ExperimentPlan } from '../../../protocol/admin-api/experiments.ts';
import { DOCUMENT, LATENCY, lookOf, NOON, THUMBS, viewOf } from './sample-view.ts';

const lines = (text: string): string[] => stripVTControlCharacters(text).split('\n');
const SCREEN = { width: 80, glyphs: UNICODE };
const shown = (view = viewOf(), width = 80, glyphs = UNICODE) => lines(statusText(view, { width, glyphs }));
const line = (view: ReturnType<typeof viewOf>, label: string) =>
  shown(view)
    .find((one) => one.startsWith(label))
    ?.slice(label.length)
    .trim();

describe('statusText', () => {
  it('shows the state and results of an experiment', () =>
    expect(shown()).toEqual([
      'experiment    exp_0123456789abcdef on support/intent, document 3',
      'state         ramping, started 2026-01-31 10:30Z',
      'coverage      5 %; since 2026-01-31 11:30Z; step 2 of 4 (1 %, 5 %, 25 %, 100 %); 1 h and 200 units each',
      'sample ratio  as expected (p = 0.62)',
      'decision      wait: this step is held until 2026-01-31 12:30Z',
      'looked at     2026-01-31 11:59Z',
      '',
      'VARIANT    ADAPTER           WEIGHT  UNITS',
      'control    support/intent@3  50 %    398',
      'treatment  support/intent@4  50 %    412',
      '',
      'GUARDRAIL   VARIANT    STATE  CONTROL  MEAN   ALLOWED          ON FAILURE',
      'error_rate  treatment  kept   1.1 %    1.2 %  +50 % and +0.02  rollback',
      '',
      'thumbs  proportion, higher is better; decides',
      'TREATMENT  VALUES    CONTROL  MEAN    LIFT     95 % INTERVAL      VERDICT',
      'treatment  412, 398  31.2 %   34.0 %  +9.0 %   -1.2 % to +19.1 %  open',
      '',
      'latency_ms  mean, lower is better',
      'TREATMENT  VALUES    CONTROL  MEAN    LIFT     95 % INTERVAL      VERDICT',
      'treatment  412, 398  412.3    371.1   -10.0 %  -14.8 % to -5.2 %  better',
      '',
      'lift over control     -15 %                   0                            +20 %',
      'thumbs treatment                            ├─┼──────────────●────────────────┤',
      'latency_ms treatment  ├───────●───────┤       │',
    ]));

  it('shows health problems, and who rated', () => {
    const health = [{ issue: 'no_user', message: '20 % of the answers name no user.' }];
    const arms = {
      control: { answers: 800, cold_starts: 0, rated: 40 },
      treatment: { answers: 820, cold_starts: 3, rated: 0 },
    };
    expect(shown(viewOf({}, { evaluation: lookOf({ health, arms }) })).slice(6, 12)).toEqual([
      '',
      'health  20 % of the answers name no user.',
      '',
      'VARIANT    ADAPTER           WEIGHT  UNITS  RATED        COLD STARTS',
      'control    support/intent@3  50 %    398    40 (10.1 %)  0 of 800',
      'treatment  support/intent@4  50 %    412    0 (0.0 %)    3 of 820',
    ]);
  });

  it('draws at the available width, in ASCII if necessary', () => {
    expect(shown(viewOf(), 60, ASCII).slice(-3)).toEqual([
      'lift over control     -15 %           0                +20 %',
      'thumbs treatment                     [+--------o----------]',
      'latency_ms treatment  [----o----]     |',
    ]);
    const widest = (width: number) =>
      Math.max(
        ...shown(viewOf(), width)
          .slice(-3)
          .map((one) => one.length),
      );
    expect([20, 60, 80, 300].map(widest)).toEqual([38, 60, 80, 83]);
  });

  it('hides results after an alarm, and says why', () => {
    const evaluation = lookOf({
      units: { control: 300, treatment: 510 },
      comparisons: [],
      sample_ratio: { state: 'alarm', p_value: 1e-9 },
      decision: { action: 'hold', reason: 'sample_ratio', p_value: 1e-9 },
    });
    const view = viewOf({}, { evaluation });
    expect(line(view, 'sample ratio')).toBe(
      'ALARM (p < 0.001): 300 and 510 units do not match the weights. Some are lost or counted for the wrong variant, so results would mislead and are hidden.',
    );
    expect(line(view, 'decision')).toBe(
      'hold: the variants do not receive the units that their weights call for (p < 0.001)',
    );
    expect(shown(view).at(-1)).toBe(
      'error_rate  treatment  kept   1.1 %    1.2 %  +50 % and +0.02  rollback',
    );
  });

  it('shows a difference if there is no lift, and why there is no verdict', () => {
    const none = { lift: null, difference: null, p_value: null };
    const evaluation = lookOf({
      comparisons: [
        { ...THUMBS, lift: null, reason: 'too_few_values', adjusted: true, adjusted_share: 0.8314 },
        { ...LATENCY, ...none, control: { n: 0, mean: 0 }, verdict: 'open', reason: 'no_variance' },
      ],
    });
    expect(shown(viewOf({}, { evaluation })).slice(-7)).toEqual([
      'thumbs  proportion, higher is better; decides; adjusted by earlier values (CUPED, known of 83.1 % of units)',
      'TREATMENT  VALUES    CONTROL  MEAN    LIFT     95 % INTERVAL       VERDICT',
      'treatment  412, 398  31.2 %   34.0 %  +2.8 pp  -0.4 pp to +6.0 pp  open: too few values',
      '',
      'latency_ms  mean, lower is better',
      'TREATMENT  VALUES    CONTROL  MEAN    LIFT     95 % INTERVAL       VERDICT',
      'treatment  412, 0    -        371.1   -        -                   open: values do not vary',
    ]);
  });

  it('shows no difference of proportions beyond 100 points, and marks it if there is nothing else', () => {
    const row = (low: number, high: number, more = {}) => {
      const one = { ...THUMBS, lift: null, difference: { low, estimate: 0.12, high }, ...more };
      return shown(viewOf({}, { evaluation: lookOf({ comparisons: [one] }) })).at(-1);
    };
    expect(row(-2.43, 2.67)).toMatch(/\+12\.0 pp +too early +open/);
    expect(row(-0.4, 2.67)).toContain('-40.0 pp to +100.0 pp');
    expect(row(-2.43, 2.67, { kind: 'mean' })).toContain('-2.43 to +2.67');
  });

  it('puts all treatments of a metric into one table', () => {
    const variants = [
      ...DOCUMENT.variants.map((variant) => ({ ...variant, weight: 0.4 })),
      { key: 'bold', adapter: 'support/intent@6', weight: 0.2 },
    ];
    const evaluation = lookOf({
      alpha: 0.025,
      comparisons: [
        THUMBS,
        { ...THUMBS, variant: 'bold', verdict: 'worse', lift: { low: -0.3, estimate: -0.2, high: -0.1 } },
      ],
    });
    expect(shown(viewOf({ variants }, { evaluation }), 60, ASCII).slice(-7)).toEqual([
      'TREATMENT  VALUES    CONTROL  MEAN    LIFT     97.5 % INTERVAL     VERDICT',
      'treatment  412, 398  31.2 %   34.0 %  +9.0 %   -1.2 % to +19.1 %   open',
      'bold       412, 398  31.2 %   34.0 %  -20.0 %  -30.0 % to -10.0 %  worse',
      '',
      'lift over control  -30 %                   0           +20 %',
      'thumbs treatment                          [+------o-------]',
      'thumbs bold        [-------o-------]       |',
    ]);
  });

  it("shows a shadow's results", () => {
    const evaluation = lookOf({
      comparisons: [],
      shadow: {
        latency_ms: { n: 20, mean: 380.2 },
        error_rate: { n: 21, mean: 0 },
        disagreement: { n: 16, mean: 0.125 },
      },
    });
    const shadow = { adapter: 'support/intent@5', sample: 0.05, compare: true };
    // A reported metric of that name is something else.
    const metrics = [{ key: 'disagreement', kind: 'mean', better: 'down' }];
    expect(shown(viewOf({ shadow, metrics }, { evaluation })).slice(-5)).toEqual([
      'SHADOW        REQUESTS  MEAN',
      'latency_ms    20        380.2',
      'error_rate    21        0.0 %',
      'disagreement  16        12.5 %',
      'support/intent@5; nobody gets its answers',
    ]);
  });

  it.each<[string, Record<string, unknown>, string]>([
    [
      'too few units for a sample ratio',
      { sample_ratio: { state: 'too_few_units', p_value: 1 } },
      'too few units to tell',
    ],
  ])('shows %s', (_, look, expected) =>
    expect(line(viewOf({}, { evaluation: lookOf(look) }), 'sample ratio')).toBe(expected),
  );

  it.each<[Record<string, unknown>, string]>([
    [{ action: 'wait', reason: 'units', units: 120, needed: 200 }, 'wait: 120 of 200 units'],
    [{ action: 'wait', reason: 'not_significant' }, 'wait: no significant difference yet'],
    [{ action: 'wait', reason: 'killed' }, 'wait: it is killed; everybody gets the live version'],
    [{ action: 'hold', reason: 'no_traffic' }, 'hold: no unit for an hour; does anyone request this name?'],
    [
      { action: 'hold', reason: 'guardrail', metric: 'cost', variant: 'treatment' },
      'hold: treatment failed the guardrail cost',
    ],
    [
      { action: 'rollback', reason: 'guardrail', metric: 'error_rate', variant: 'treatment' },
      'roll back: treatment failed the guardrail error_rate',
    ],
    [{ action: 'advance', coverage: 1, last: true }, 'advance to 100 %, the last step'],
    [{ action: 'advance', coverage: 0.25, last: false }, 'advance to 25 %'],
    [
      { action: 'propose_winner', variant: 'treatment' },
      'treatment is the proposed winner: graft experiment promote',
    ],
  ])('describes the decision %j', (decision, expected) =>
    expect(line(viewOf({}, { evaluation: lookOf({ decision }) }), 'decision')).toBe(expected),
  );

  it('shows an experiment before its first look', () => {
    expect(
      shown(viewOf({ status: 'draft' }, { evaluation: null, started_at: null, coverage_at: null })),
    ).toEqual([
      'experiment  exp_0123456789abcdef on support/intent, document 3',
      'state       draft',
      'coverage    5 %; step 2 of 4 (1 %, 5 %, 25 %, 100 %); 1 h and 200 units each',
      '',
      'VARIANT    ADAPTER           WEIGHT  UNITS',
      'control    support/intent@3  50 %    -',
      'treatment  support/intent@4  50 %    -',
      '',
      'GUARDRAIL   VARIANT    STATE  CONTROL  MEAN  ALLOWED          ON FAILURE',
      'error_rate  treatment  -      -        -     +50 % and +0.02  rollback',
    ]);
    expect(line(viewOf({}, { evaluation: null }), 'looked at')).toBe(
      'not yet; the server evaluates every minute (`npm start`: every ten seconds)',
    );
  });

  it('ignores a look of another seed', () =>
    expect(line(viewOf({ seed: 'third' }), 'looked at')).toBe(
      'not yet; the server evaluates every minute (`npm start`: every ten seconds)',
    ));

  it('shows an ended experiment', () => {
    const lost = lookOf({
      decision: { action: 'rollback', reason: 'guardrail', metric: 'cost', variant: 'treatment' },
    });
    const rolledBack = viewOf({ status: 'decided' }, { evaluation: lost });
    expect(line(rolledBack, 'state')).toBe('decided: nobody won, started 2026-01-31 10:30Z');
    expect(line(rolledBack, 'decision')).toBe('roll back: treatment failed the guardrail cost');
    const won = viewOf({ status: 'decided', winner: 'treatment' });
    expect(line(won, 'state')).toBe('decided: treatment won, started 2026-01-31 10:30Z');
    expect(line(won, 'decision')).toBeUndefined();
    expect(line(viewOf({ killed: true }), 'coverage')).toBe(
      'nobody: it is killed, and everybody gets the live version',
    );
  });
});

it('experimentTable has one line per experiment', () => {
  expect(experimentTable([])).toBe('no experiments');
  const views = [
    viewOf(),
    viewOf({ name: 'a', status: 'draft' }, { evaluation: null }),
    viewOf(
      { name: 'b', status: 'running', killed: true },
      { evaluation: lookOf({ decision: { action: 'wait', reason: 'killed' } }) },
    ),
    viewOf({ name: 'c', status: 'decided', winner: 'treatment' }),
  ];
  expect(lines(experimentTable(views))).toEqual([
    'NAME            ID                    STATE                   COVERAGE  UNITS  DECISION',
    'support/intent  exp_0123456789abcdef  ramping                 5 %       810    wait: this step is held until 2026-01-31 12:30Z',
    'a               exp_0123456789abcdef  draft                   5 %       -      -',
    'b               exp_0123456789abcdef  running, killed         5 %       810    wait: it is killed; everybody gets the live version',
    'c               exp_0123456789abcdef  decided: treatment won  5 %       810    -',
  ]);
});

describe('planText', () => {
  it('describes what will happen', () => {
    const { ramp: _, ...rest } = viewOf().document;
    const plan = {
      ...rest,
      shadow: { adapter: 'support/intent@5', sample: 0.05 },
      holdout: { name: '2026', share: 0.05 },
      namespace: { name: 'onboarding', range: [0, 0.5] as [number, number] },
      targeting: {
        tenants: ['acme'],
        name_prefix: 'support',
        headers: [{ name: 'x-app-version', values: ['2', '3'] }],
      },
      overrides: [{ unit: 'acme/user/tester', variant: 'treatment' }],
    };
    expect(lines(planText(plan))).toEqual([
      'name        support/intent',
      'variants    control support/intent@3 50 %, treatment support/intent@4 50 %',
      'who         5 % of the users; the others get the live version',
      'only        tenants acme; requests for support or a name below it; header x-app-version 2, 3',
      'not         5 % in the holdout 2026',
      'namespace   onboarding, 0 % to 50 %',
      'testers     acme/user/tester treatment',
      'decided by  thumbs (proportion, higher is better)',
      'shown       latency_ms (mean, lower is better)',
      'guardrail   error_rate at most +50 % and +0.02 against control, otherwise rolled back',
      'shadow      support/intent@5 also runs for 5 % of the requests; nobody gets its answers',
      'seed        support-intent-2',
    ]);
  });

  it('mentions that a shadow is compared', () => {
    const { name, variants } = viewOf().document;
    const shadow = { adapter: 'support/intent@5', sample: 0.05, compare: true };
    expect(planText({ name, variants, shadow })).toMatch(/nobody gets its answers, which are compared$/m);
  });

  it('mentions only pairs if nobody is in the experiment', () => {
    const { name, variants } = viewOf().document;
    const shadow = { adapter: 'support/intent@4', sample: 0.2 };
    const judge = { model: 'medicine@1', tokens_per_day: 500_000, keep_pairs: 0 };
    const judged = { name, variants, shadow, judge, coverage: 0 };
    expect(lines(planText(judged)).slice(2)).toEqual([
      'who         nobody: answers are judged in parallel to those that users get',
      'decided by  the judge: the share of pairs that the other answer wins',
      'shadow      support/intent@4 also runs for 20 % of the requests; nobody gets its answers',
      'judge       medicine@1, in both orders; at most 500000 tokens a day; no texts are kept',
    ]);
    const pairs = {
      ...{ sample: 0.2, per_day: 40, tokens_per_pair: 1_234, tokens_per_day: 500_000 },
      finds: [
        { win_rate: 0.65, pairs: 142, days: 3.55 },
        { win_rate: 0.6, pairs: 287, days: 7.2 },
      ],
    };
    const plan: ExperimentPlan = {
      ...{ name, requests: { per_day: 200, days: 3 }, units: { per_day: null, from: 'unknown' } },
      ...{ values: { share: 0.05, from: 'assumed' }, baseline: { mean: 0.5, from: 'assumed' } },
      ...{ coverage: 0, alpha: 0.05, finds: [{ lift: 0.5, units: 7_080, days: null }], pairs },
    };
    expect(lines(outlookText(plan))).toEqual([
      'traffic  200 requests a day in the last 3 days',
      'pairs    40 pairs a day, from 20 % of the requests, plus ties',
      'tokens   about 1230 a pair; at most 500000 a day for challenger and judge',
      'finds    a win rate of 65 %: 142 pairs, 4 days; 60 %: 287 pairs, 8 days',
    ]);
    const unknown = { ...pairs, per_day: null, tokens_per_pair: null };
    expect(lines(outlookText({ ...plan, pairs: unknown })).slice(1, 3)).toEqual([
      'pairs    20 % of the requests; the number is not known yet',
      'tokens   at most 500000 a day for challenger and judge',
    ]);
    // Users who are in it as well rate too.
    expect(outlookText({ ...plan, coverage: 0.5 })).toMatch(
      /finds +a 50 % lift: 7080 units; a win rate of 65 %/,
    );
  });

  it("marks the server's choices", () => {
    const { name, variants } = viewOf().document;
    expect(lines(planText({ name, variants })).slice(2)).toEqual([
      "who         the users; the share is the server's choice",
      "decided by  the server's choice",
      'guardrail   error_rate at most +50 % and +0.02 against control, otherwise rolled back',
      'guardrail   left_rate at most +50 % and +0.05 against control, otherwise rolled back',
      'guardrail   ttft_ms at most +50 % against control, otherwise held',
    ]);
    expect(lines(planText({ name, variants, guardrails: [] })).at(-1)).toBe('guardrail   none');
    const ramp = { steps: [0.01, 1], hold_minutes: 2_880, min_units: 50 };
    expect(planText({ name, variants, ramp, unit: 'key' })).toMatch(
      /^who +1 %, 100 % of the API keys: each step for 2 d, and at least 50 units$/m,
    );
  });
});

describe('statusText, after decisions', () => {
  it('shows the standing proposal, dropped variants, and the last look', () => {
    const variants = ['control', 'treatment', 'b'].map((key, i) => ({
      ...{ key, adapter: `support/intent@${i + 3}`, weight: i === 0 ? 0.5 : 0.25 },
    }));
    const proposal = { variant: 'treatment', at: NOON, units: 240 };
    const shown = lines(statusText(viewOf({ variants, dropped: ['b'] }, { proposal }), SCREEN));
    expect(shown).toContainEqual(
      expect.stringMatching(/^proposed +treatment: .*240 users; since 2026-01-31 12:00Z, and later looks/),
    );
    expect(shown).toContainEqual(expect.stringMatching(/^b +support\/intent@5 +25 % +0 +dropped$/));
    const ended = viewOf({ status: 'decided' }, { proposal, ended_at: NOON });
    const after = statusText(ended, SCREEN);
    expect(after).not.toMatch(/^proposed/m);
    expect(after).toMatch(/^looked at .*for the last time after 2026-02-07 12:00Z, when feedback closes$/m);
    const last = { ...ended, evaluation: lookOf({ last: true }) };
    expect(statusText(last, SCREEN)).toMatch(/^looked at .*, for the last time$/m);
  });
});

it('statusText shows what could be found so far, and how long the rest takes', () => {
  const progress = {
    ...{ variant: 'treatment', lift_now: 0.347, units_per_day: 900 },
    finds: [
      { lift: 0.5, units: 0, days: 0 },
      { lift: 0.2, units: 1_500, days: 1.67 },
      { lift: 0.1, units: 8_412, days: null },
      { lift: 0.05, units: null, days: null },
    ],
  };
  const of = (changes: object) => {
    const view = viewOf({}, { evaluation: lookOf({ progress: { ...progress, ...changes } }) });
    return lines(statusText(view, SCREEN)).find((line) => line.startsWith('can find'));
  };
  expect(of({})).toMatch(
    /^can find +lifts of 35 % or more could be found so far; still needed for a 20 % lift: 2 days; 10 %: 8410 units$/,
  );
  expect(of({ lift_now: null, finds: [] })).toMatch(/ no lift could be found so far$/);
});

it('statusText shows the spread of times, if known', () => {
  const arm = { values: 1_204, mean: 412.34, p50: 300.5, p95: 1_911.2 };
  const spread = { ttft_ms: { control: arm, treatment: { ...arm, p95: 2_500 } } };
  const shadow = { latency_ms: { n: 9, mean: 40, p50: 39, p95: 81 }, error_rate: { n: 9, mean: 0 } };
  const view = viewOf(
    { shadow: { adapter: 'support/intent@5', sample: 0.1 } },
    { evaluation: lookOf({ spread, shadow }) },
  );
  const shown = lines(statusText(view, SCREEN));
  expect(shown).toContainEqual(expect.stringMatching(/^SPREAD +VARIANT +VALUES +MEAN +P50 +P95$/));
  expect(shown).toContainEqual(expect.stringMatching(/^ttft_ms +treatment +1204 +412\.3 +300\.5 +2500$/));
  expect(shown).toContainEqual(expect.stringMatching(/^latency_ms +9 +40 +39 +81$/));
  expect(shown).toContainEqual(expect.stringMatching(/^error_rate +9 +0\.0 % +- +-$/));
  expect(statusText(viewOf(), SCREEN)).not.toContain('SPREAD');
});

it('statusText shows results by the declared dimension', () => {
  const means = { thumbs: { control: { n: 60, mean: 0.3 }, treatment: { n: 0, mean: 0 } } };
  const row = { units: { control: 61, treatment: 58 }, means, lifts: { treatment: null } };
  const rows = [
    { ...row, segment: 'pro', lifts: { treatment: { low: -0.1, estimate: 0.2, high: 0.5 } } },
    { ...row, segment: null },
    { ...row, segment: null, other: true },
  ];
  const evaluation = lookOf({ segments: { by: 'header:x-plan', rows } });
  const shown = lines(statusText(viewOf({ segment_by: 'header:x-plan' }, { evaluation }), SCREEN));
  expect(shown).toContainEqual(expect.stringMatching(/^HEADER:X-PLAN +TREATMENT +UNITS +CONTROL/));
  expect(shown).toContainEqual(
    expect.stringMatching(/^pro +treatment +58, 61 +30\.0 % +- +\+20\.0 % +-10\.0 % to \+50\.0 %$/),
  );
  expect(shown).toContainEqual(expect.stringMatching(/^none given +treatment +58, 61 +30\.0 % +- +- +-$/));
  expect(shown).toContainEqual(expect.stringMatching(/^all others /));
  expect(shown).toContainEqual(expect.stringMatching(/^thumbs by header:x-plan; decides nothing/));
});

it('the sample view matches its time', () =>
  expect(new Date(NOON).toISOString()).toBe('2026-01-31T12:00:00.000Z'));
