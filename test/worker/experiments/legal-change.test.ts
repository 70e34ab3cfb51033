import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Experiment, EXPERIMENT_STATUSES } from '../../../protocol/experiment.ts';
import { pickVariant } from '../../../worker/experiments/pick-variant.ts';
import { legalChange, emptyArm } from '../../../worker/experiments/legal-change.ts';
import { experimentInput, experimentOf, variantsOf } from './sample-experiment.ts';

fc.configureGlobal({ seed: 7 });

const RAMP = { steps: [0.01, 0.05, 0.25, 1], hold_minutes: 60, min_units: 200 };
const TESTER = 'acme/user/tester';
const before = experimentOf({ coverage: 0.25, ramp: RAMP });
const change = (changes: Record<string, unknown>, from: Experiment = before, used: string[] = []) =>
  legalChange(from, Experiment.parse({ ...from, version: from.version + 1, ...changes }), used);

describe('legalChange', () => {
  it.each<[string, Record<string, unknown>, field: string, reason: RegExp]>([
    ['weights', { variants: variantsOf([0.4, 0.6]) }, 'variants', /move units .*; give a new seed/],
    [
      'an adapter',
      { variants: before.variants.map((v) => ({ ...v, adapter: 'support/intent@9' })) },
      'variants',
      /mix results of two adapters/,
    ],
    ['the order of the variants', { variants: [...before.variants].reverse() }, 'variants', /move units/],
    ['less coverage', { coverage: 0.2 }, 'coverage', /set killed, or give a new seed/],
    ['the unit', { unit: 'key' }, 'unit', /reassign/],
    ['a namespace', { namespace: { name: 'n', range: [0, 0.5] } }, 'namespace', /in and out/],
    ['a holdout', { holdout: { name: 'h', share: 0.1 } }, 'holdout', /in and out/],
    ['targeting', { targeting: { tenants: ['acme'] } }, 'targeting', /in and out/],
    ['the metric that decides', { metrics: [...before.metrics].reverse() }, 'metrics', /invalidate/],
    ['the name', { name: 'support/other' }, 'name', /cannot change its name/],
    ['a version that others have overtaken', { version: 7 }, 'version', /the next version is 2/],
    ['going back', { status: 'draft' }, 'status', /from running to draft/],
  ])('refuses %s while running', (_what, changes, field, reason) => {
    expect(change(changes)).toEqual({ ok: false, error: { field, reason: expect.stringMatching(reason) } });
  });

  it.each<[string, Record<string, unknown>]>([
    ['more coverage', { coverage: 0.5 }],
    ['ramping', { status: 'ramping' }],
    ['the kill switch', { killed: true }],
    ['testers', { overrides: [{ unit: TESTER, variant: 'control' }] }],
    ['further metrics', { metrics: [...before.metrics, { key: 'cost', kind: 'mean', better: 'down' }] }],
    ['guardrails', { guardrails: [] }],
    ['another ramp', { ramp: { ...RAMP, hold_minutes: 5 } }],
    ['shadow traffic', { shadow: { adapter: 'support/intent@5', sample: 0.1 } }],
    ['its comparison', { shadow: { adapter: 'support/intent@5', sample: 0.1, compare: true } }],
    ['the end', { status: 'decided', winner: 'treatment' }],
    ['weights, with a new seed', { variants: variantsOf([0.4, 0.6]), seed: 'support-intent-3' }],
    ['less coverage, with a new seed', { coverage: 0.1, seed: 'support-intent-3' }],
  ])('allows %s while running', (_what, changes) => {
    expect(change(changes)).toEqual({ ok: true, value: undefined });
  });

  it('refuses a seed that was used before', () => {
    expect(change({ seed: 'old' }, before, ['old', before.seed])).toMatchObject({ error: { field: 'seed' } });
  });

  it('knows the steps of life', () => {
    const winner = null;
    const legal = EXPERIMENT_STATUSES.flatMap((from) =>
      EXPERIMENT_STATUSES.filter((status) => change({ status, winner }, { ...before, status: from }).ok).map(
        (to) => `${from} ${to}`,
      ),
    );
    expect(legal).toEqual([
      'draft draft',
      'draft running',
      'draft ramping',
      'draft archived',
      'running running',
      'running ramping',
      'running decided',
      'ramping running',
      'ramping ramping',
      'ramping decided',
      'decided decided',
      'decided archived',
    ]);
  });

  it('lets a draft be anything, and a decided experiment be nothing else', () => {
    expect(change({ variants: variantsOf([0.1, 0.9]), coverage: 0 }, { ...before, status: 'draft' }).ok).toBe(
      true,
    );
    const decided: Experiment = { ...before, status: 'decided', winner: 'treatment' };
    for (const changes of [{ winner: 'control' }, { coverage: 1 }, { seed: 'new' }, { shadow: undefined }])
      expect(change(changes, decided).ok).toBe('shadow' in changes);
    expect(change({ status: 'archived' }, decided).ok).toBe(true);
  });

  it('does not mind in which order the fields of a part stand', () => {
    const targeted = experimentOf({ targeting: { tenants: ['acme'], name_prefix: 'support' } });
    expect(change({ targeting: { name_prefix: 'support', tenants: ['acme'] } }, targeted).ok).toBe(true);
  });
});

describe('stickiness', () => {
  const share = fc.integer({ min: 0, max: 1_000 }).map((part) => part / 1_000);
  const variants = fc
    .array(fc.integer({ min: 1, max: 20 }), { minLength: 2, maxLength: 4 })
    .map((parts) => variantsOf(parts.map((part) => part / parts.reduce((sum, one) => sum + one, 0))));
  const one = <T>(field: string, value: fc.Arbitrary<T>) => value.map((given) => ({ [field]: given }));
  const coverage = one('coverage', share);
  /** Whatever can be written into a document, one to three fields at once, legal or not. */
  const anything = fc
    .array(
      fc.oneof(
        coverage,
        coverage,
        coverage,
        one('status', fc.constantFrom('running', 'ramping')),
        one('unit', fc.constantFrom('user', 'key')),
        one('variants', variants),
        one('namespace', fc.constantFrom({ name: 'n', range: [0.2, 0.9] }, undefined)),
        one('holdout', fc.constantFrom({ name: 'h', share: 0.1 }, { name: 'h', share: 0.2 }, undefined)),
        one('targeting', fc.constantFrom({ tenants: ['acme'] }, { tenants: ['other'] }, undefined)),
        one('overrides', fc.constantFrom([], [{ unit: TESTER, variant: 'a' }])),
        one('killed', fc.boolean()),
        one('guardrails', fc.constantFrom([])),
        one('seed', fc.constantFrom('seed-1', 'seed-2')),
      ),
      { minLength: 1, maxLength: 3 },
    )
    .map((fields): Record<string, unknown> => Object.assign({}, ...fields));
  const UNITS = Array.from({ length: 200 }, (_, i) => `acme/user/${i}`);
  const variantOf = (experiment: Experiment, unit: string): string | null => {
    const found = pickVariant(experiment, {
      unit,
      tenant: 'acme',
      name: 'support/intent',
      header: () => null,
    });
    return found.kind === 'variant' ? found.variant.key : null;
  };

  it('whatever change is legal under one seed, nobody leaves a variant but by the kill switch', () => {
    let [legal, moved] = [0, 0];
    fc.assert(
      fc.property(anything, fc.array(anything, { minLength: 2, maxLength: 4 }), (first, changes) => {
        const base = experimentInput({ ramp: RAMP, variants: variantsOf([0.5, 0.5]), seed: 'seed-1' });
        let current = Experiment.parse({ ...base, coverage: 0.01, ...first });
        for (const next of changes) {
          const after = Experiment.parse({ ...current, ...next, version: current.version + 1 });
          if (!legalChange(current, after).ok) continue;
          legal += 1;
          if (after.seed === current.seed && !after.killed && !current.killed)
            for (const unit of UNITS) {
              const was = variantOf(current, unit);
              if (was !== null) expect(variantOf(after, unit)).toBe(was);
              else if (variantOf(after, unit) !== null) moved += 1;
            }
          current = after;
        }
      }),
      { numRuns: 200 },
    );
    // The property is not empty: changes passed, and some of them brought units in.
    expect(legal).toBeGreaterThan(50);
    expect(moved).toBeGreaterThan(500);
  });

  it('brings everybody back to the same variant when the kill switch is released', () => {
    fc.assert(
      fc.property(variants, share, (of, coverage) => {
        const running = experimentOf({ variants: of, coverage });
        const released = { ...running, killed: false, version: 3 };
        expect(legalChange({ ...running, killed: true, version: 2 }, released).ok).toBe(true);
        for (const unit of UNITS) expect(variantOf(released, unit)).toBe(variantOf(running, unit));
      }),
      { numRuns: 20 },
    );
  });

  it('a whole ramp moves nobody', () => {
    const steps = RAMP.steps.map((coverage) => experimentOf({ coverage, status: 'ramping', ramp: RAMP }));
    for (const unit of UNITS) {
      const seen = new Set(steps.map((step) => variantOf(step, unit)).filter((key) => key !== null));
      expect(seen.size).toBe(1);
    }
  });
});

const small = (coverage: number, steps?: number[]) =>
  experimentOf({
    variants: variantsOf([0.9, 0.09, 0.01]),
    coverage,
    ...(steps === undefined ? {} : { ramp: { steps, hold_minutes: 60, min_units: 200 } }),
  });

describe('emptyArm', () => {
  it('names the first share at which a variant would get no bucket, and what is enough', () => {
    expect(emptyArm(small(1))).toBeNull();
    expect(emptyArm(small(0.005))).toBeNull();
    expect(emptyArm(small(0.004))).toEqual({
      field: 'coverage',
      reason:
        "at a coverage of 0.004, variant 'c' with weight 0.01 would get none of the 10000 buckets; use at least 0.005, or a larger weight",
    });
    expect(emptyArm(small(1, [0.01, 0.1, 1]))).toBeNull();
    expect(emptyArm(small(1, [0.001, 0.1]))).toMatchObject({ field: 'ramp.steps.0' });
    expect(emptyArm(small(0))).toBeNull();
  });

  it('advises what is enough for all of them', () => {
    for (const coverage of [0.0001, 0.0005, 0.002]) {
      const least = Number(/at least ([\d.]+)/.exec(emptyArm(small(coverage))!.reason)![1]);
      expect(emptyArm(small(least))).toBeNull();
    }
  });

  it('keeps such a step out of a live experiment, and lets one that has it already be ended', () => {
    const before = small(0.1, [0.1, 1]);
    const change = { ...before, version: before.version + 1 };
    expect(legalChange(before, { ...change, ramp: { ...before.ramp!, steps: [0.001, 1] } })).toMatchObject({
      error: { field: 'ramp.steps.0' },
    });
    const old = small(0.001);
    expect(legalChange(old, { ...old, version: old.version + 1, status: 'decided' }).ok).toBe(true);
    expect(legalChange(old, { ...old, version: old.version + 1, coverage: 0.002 })).toMatchObject({
      error: { field: 'coverage' },
    });
  });
});
