import { describe, expect, it } from 'vitest';
import { Experiment, metricOf } from '../../protocol/experiment.ts';
import { experimentInput, variantsOf } from '../worker/experiments/sample-experiment.ts';

const problems = (changes: Record<string, unknown>): string[] => {
  const parsed = Experiment.safeParse(experimentInput(changes));
  return parsed.success
    ? []
    : parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
};

describe('Experiment', () => {
  it('accepts a complete document, and fills in defaults', () => {
    const whole = {
      shadow: { adapter: 'support/intent@5', sample: 0.05 },
      ramp: { steps: [0.01, 0.05, 0.25, 1], hold_minutes: 60, min_units: 200 },
      namespace: { name: 'checkout', range: [0, 0.4] },
      holdout: { name: 'year', share: 0.05 },
      overrides: [{ unit: 'acme/user/tester', variant: 'treatment' }],
      targeting: {
        tenants: ['acme'],
        name_prefix: 'support',
        headers: [{ name: 'x-app-version', values: ['2'] }],
      },
      killed: true,
    };
    expect(problems(whole)).toEqual([]);
    expect(problems({ shadow: { ...whole.shadow, compare: true } })).toEqual([]);
    expect(Experiment.parse(experimentInput())).toMatchObject({ overrides: [], killed: false, winner: null });
  });

  it('accepts 2 to 10 variants whose weights sum to 1', () => {
    expect(problems({ variants: variantsOf([0.333333, 0.333333, 0.333333]) })).toEqual([]);
    expect(problems({ variants: variantsOf(Array.from({ length: 10 }, () => 0.1)) })).toEqual([]);
    expect(problems({ variants: variantsOf([1]) })[0]).toMatch(/^variants: /);
    expect(problems({ variants: variantsOf([...Array.from({ length: 10 }, () => 0.09), 0.1]) })[0]).toMatch(
      /^variants: /,
    );
    expect(problems({ variants: variantsOf([0.5, 0.4]) })).toEqual([
      'variants: the weights must sum to 1, but sum to 0.9',
    ]);
    expect(problems({ variants: variantsOf([1, 0]) })[0]).toMatch(/^variants.1.weight: /);
  });

  it('counts a class as a proportion with a key of its own', () => {
    const metric = { key: 'urgent', kind: 'proportion', better: 'up', class: 'very urgent' };
    const own = /^metrics.0.class: needs a proportion with a key of its own/;
    expect(problems({ metrics: [metric] })).toEqual([]);
    expect(problems({ metrics: [{ ...metric, kind: 'mean' }] })[0]).toMatch(own);
    expect(problems({ metrics: [{ ...metric, key: 'error_rate' }] })[0]).toMatch(own);
    expect(problems({ metrics: [{ ...metric, class: '' }] })[0]).toMatch(/^metrics.0.class: /);
  });

  it.each<[string, Record<string, unknown>, RegExp]>([
    [
      'a name without a version',
      { shadow: { adapter: 'support/intent', sample: 0.1 } },
      /^shadow.adapter: must be/,
    ],
    [
      'a comparison of another kind',
      { shadow: { adapter: 'a@1', sample: 0, compare: 'yes' } },
      /^shadow.compare/,
    ],
    ['a key twice', { variants: variantsOf([0.5, 0.5]).map((v) => ({ ...v, key: 'a' })) }, /^variants.1.key/],
    ['an unknown field', { wieght: 1 }, /Unrecognized key/],
    ['a coverage above 1', { coverage: 1.5 }, /^coverage: /],
    [
      'a ramp that does not grow',
      { ramp: { steps: [0.5, 0.5], hold_minutes: 1, min_units: 1 } },
      /must increase/,
    ],
    ['ramping without a ramp', { status: 'ramping' }, /^ramp: /],
    ['a guardrail without a limit', { guardrails: [{ metric: 'error_rate', action: 'hold' }] }, /needs max_/],
    [
      'a guardrail of an unknown metric',
      { guardrails: [{ metric: 'smiles', max_absolute_increase: 1, action: 'hold' }] },
      /^guardrails.0.metric: "smiles" is neither in metrics nor one of ttft_ms/,
    ],
    ['an override to nowhere', { overrides: [{ unit: 'u', variant: 'nowhere' }] }, /^overrides.0.variant/],
    [
      'a tester twice',
      {
        overrides: [
          { unit: 'u', variant: 'control' },
          { unit: 'u', variant: 'treatment' },
        ],
      },
      /^overrides.1.unit/,
    ],
    ['an empty namespace range', { namespace: { name: 'n', range: [0.4, 0.4] } }, /must not be empty/],
    ['a reserved seed', { seed: '__namespace/n' }, /must not start/],
    ['a winner while running', { winner: 'control' }, /^winner: only a decided/],
    ['no metric', { metrics: [] }, /^metrics: /],
    [
      'an automatic metric of another kind',
      { metrics: [{ key: 'latency_ms', kind: 'proportion', better: 'down' }] },
      /edge records .* as a mean/,
    ],
  ])('refuses %s', (_what, changes, message) => {
    expect(problems(changes).join('\n')).toMatch(message);
  });

  it('knows the metrics that the edge records itself', () => {
    const experiment = Experiment.parse(experimentInput());
    expect(metricOf(experiment, 'error_rate')).toMatchObject({ kind: 'proportion', better: 'down' });
    expect(metricOf(experiment, 'thumbs')).toEqual(experiment.metrics[0]);
    expect(metricOf(experiment, 'smiles')).toBeUndefined();
  });
});
