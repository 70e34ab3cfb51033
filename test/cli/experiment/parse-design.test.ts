import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EXIT } from '../../../cli/cli-error.ts';
import {
  checkDesign,
  checkDocument,
  parseDesign,
  type DesignFlags,
} from '../../../cli/experiment/parse-design.ts';
import { isFlagGiven, repeatedFlag } from '../../../cli/flags.ts';
import { Experiment } from '../../../protocol/experiment.ts';
import { DOCUMENT } from './sample-view.ts';

const NAME = 'support/intent';
const BARE: DesignFlags = {
  name: NAME,
  variants: ['control=@3', 'treatment=@4'],
  metrics: [],
  guardrails: [],
  tenants: [],
  overrides: [],
};
const parse = (more: Partial<DesignFlags> = {}) => parseDesign({ ...BARE, ...more });
const weights = (...variants: string[]) => parse({ variants }).variants.map(({ weight }) => weight);

describe('parseDesign', () => {
  it('leaves omitted settings to the server', () =>
    expect(parse()).toEqual({
      name: NAME,
      variants: [
        { key: 'control', adapter: 'support/intent@3', weight: 0.5 },
        { key: 'treatment', adapter: 'support/intent@4', weight: 0.5 },
      ],
    }));

  it('accepts limits in both directions, and no limits', () => {
    expect(parse({ guardrails: ['thumbs:-10%|-0.05:hold'] }).guardrails).toEqual([
      { metric: 'thumbs', max_relative_decrease: 0.1, max_absolute_decrease: 0.05, action: 'hold' },
    ]);
    expect(parse({ guardrails: ['none'] }).guardrails).toEqual([]);
    expect(parse().guardrails).toBeUndefined();
    expect(() => parse({ guardrails: ['none', 'cost:+3'] })).toThrow(/--guardrail/);
  });

  it('caps the deciding metric', () => {
    const metrics = ['revenue:mean:up', 'thumbs:proportion:up'];
    expect(parse({ metrics, cap: 'p99' }).metrics).toEqual([
      { key: 'revenue', kind: 'mean', better: 'up', cap: 'p99' },
      { key: 'thumbs', kind: 'proportion', better: 'up' },
    ]);
    expect(() => parse({ metrics, cap: 'p95' })).toThrow(/--cap: 'p95' is not one of p99/);
    expect(() => parse({ cap: 'p99' })).toThrow(/--cap: 'thumbs' is a proportion/);
  });

  it('accepts one dimension of results', () => {
    expect(parse({ segmentBy: 'header:x-plan' }).segment_by).toBe('header:x-plan');
    expect(() => parse({ segmentBy: 'plan' })).toThrow(
      /--segment-by: 'plan' must be tenant, name, or header:/,
    );
  });

  it('supports every flag', () =>
    expect(
      parse({
        variants: ['control=support/intent@3:90%', 'treatment=other/name@12:0.1'],
        metrics: ['thumbs:proportion:up', 'latency_ms:mean:down'],
        guardrails: ['error_rate:+50%|+0.02:rollback', 'latency_ms:+12.5%:hold', 'cost:+3'],
        ramp: '1%, 5%,0.25,100%',
        hold: '2h',
        minUnits: '500',
        shadow: 'support/intent@5:5%',
        shadowCompare: true,
        tenants: ['acme', 'globex'],
        overrides: ['acme/user/a=b=treatment'],
        seed: 'second try',
        unit: 'key',
      }),
    ).toEqual({
      name: NAME,
      variants: [
        { key: 'control', adapter: 'support/intent@3', weight: 0.9 },
        { key: 'treatment', adapter: 'other/name@12', weight: 0.1 },
      ],
      metrics: [
        { key: 'thumbs', kind: 'proportion', better: 'up' },
        { key: 'latency_ms', kind: 'mean', better: 'down' },
      ],
      guardrails: [
        { metric: 'error_rate', max_relative_increase: 0.5, max_absolute_increase: 0.02, action: 'rollback' },
        { metric: 'latency_ms', max_relative_increase: 0.125, action: 'hold' },
        { metric: 'cost', max_absolute_increase: 3, action: 'rollback' },
      ],
      ramp: { steps: [0.01, 0.05, 0.25, 1], hold_minutes: 120, min_units: 500 },
      shadow: { adapter: 'support/intent@5', sample: 0.05, compare: true },
      targeting: { tenants: ['acme', 'globex'] },
      overrides: [{ unit: 'acme/user/a=b', variant: 'treatment' }],
      seed: 'second try',
      unit: 'key',
    }));

  it('compares a shadow only if told to', () =>
    expect(parse({ shadow: 'support/intent@5:5%', shadowCompare: false }).shadow).toEqual({
      ...{ adapter: 'support/intent@5', sample: 0.05 },
    }));

  it('shares weights among the rest', () => {
    expect(weights('a=@1', 'b=@2', 'c=@3')).toEqual([0.333333333333, 0.333333333333, 0.333333333333]);
    expect(weights('a=@1:90%', 'b=@2')).toEqual([0.9, 0.1]);
    expect(weights('a=@1:50%', 'b=@2', 'c=@3')).toEqual([0.5, 0.25, 0.25]);
  });

  it('treats units before a winner without a ramp as a ramp of one step', () => {
    expect(parse({ minUnits: '5' }).ramp).toEqual({ steps: [1], hold_minutes: 60, min_units: 5 });
    const part = parse({ minUnits: '5', coverage: '20%' });
    expect(part.ramp?.steps).toEqual([0.2]);
    expect(part.coverage).toBeUndefined();
  });

  it.each<[Partial<DesignFlags>, RegExp]>([
    [{ variants: ['control=@3'] }, /graft experiment create support\/intent @2.*--variant control=/],
    [{ variants: ['control=@3', '@4'] }, /^--variant: '@4'/],
    [{ variants: ['control=@3', 'treatment=support/intent'] }, /must name a version/],
    [{ variants: ['control=@3', 'treatment=Support@4'] }, /^--variant: 'Support@4': a name may contain only/],
    [{ variants: ['control=@3', 'treatment=@0'] }, /must name a version/],
    [{ variants: ['control=@3:50', 'treatment=@4'] }, /not a share/],
    [{ variants: ['control=@3:100%', 'treatment=@4'] }, /leave nothing/],
    [{ metrics: ['thumbs'] }, /^--metric: '' is not one of proportion, mean/],
    [{ metrics: ['thumbs:proportion:down:x'] }, /^--metric/],
    [{ metrics: ['thumbs:rate:up'] }, /'rate' is not one of proportion, mean/],
    [{ guardrails: ['error_rate'] }, /^--guardrail: ''/],
    [{ guardrails: ['error_rate:50%'] }, /^--guardrail: '50%'/],
    [{ guardrails: ['error_rate:+1%|+2%'] }, /^--guardrail: '\+1%\|\+2%'/],
    [{ guardrails: ['error_rate:+1%:panic'] }, /'panic' is not one of rollback, hold/],
    [{ ramp: '1%,5' }, /^--ramp: '5'/],
    [{ ramp: '1%', hold: '90s' }, /whole minutes/],
    [{ ramp: '1%', hold: 'long' }, /^--hold long/],
    [{ ramp: '1%', minUnits: '-1' }, /^--min-units/],
    [{ ramp: '1%', coverage: '5%' }, /Remove --coverage/],
    [{ hold: '60m' }, /^--hold needs a ramp/],
    [{ shadow: 'support/intent@5' }, /^--shadow/],
    [{ shadow: 'support/intent:5%' }, /must name a version/],
    [{ shadowCompare: true }, /^--shadow-compare needs a shadow/],
    [{ overrides: ['treatment'] }, /^--override/],
    [{ overrides: ['=treatment'] }, /^--override/],
    [{ unit: 'person' }, /^--unit: 'person'/],
  ])('refuses %j', (flags, message) => {
    expect(() => parse(flags)).toThrow(message);
    expect(() => parse(flags)).toThrow(expect.objectContaining({ exitCode: EXIT.usage }));
  });

  it('builds a valid document for any number of variants, weights and steps', () => {
    const key = fc.stringMatching(/^[a-z][a-z0-9_-]{0,10}$/);
    const steps = fc.uniqueArray(fc.integer({ min: 1, max: 1_000 }), { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(
        fc.uniqueArray(key, { minLength: 2, maxLength: 10 }),
        fc.integer({ min: 1, max: 50 }),
        steps,
        (keys, first, thousandths) => {
          const variants = keys.map((one, i) => `${one}=@${i + 1}${i === 0 ? `:${first}%` : ''}`);
          const ramp = thousandths.toSorted((a, b) => a - b).map((step) => `${step / 10}%`);
          const design = checkDesign({ ...parse({ variants, ramp: ramp.join(',') }) });
          const full = { ...design, version: 1, status: 'draft', seed: 's', unit: 'user', coverage: 1 };
          expect(Experiment.safeParse({ ...full, metrics: DOCUMENT.metrics }).error?.issues ?? []).toEqual(
            [],
          );
          expect(design.variants.map((variant) => variant.key)).toEqual(keys);
          expect(design.ramp?.steps).toEqual(
            thousandths.toSorted((a, b) => a - b).map((step) => step / 1_000),
          );
        },
      ),
    );
  });
});

describe('checkDesign', () => {
  it('accepts a whole document without the server’s own fields', () => {
    const { version: _v, status: _s, ...rest } = DOCUMENT;
    expect(checkDesign({ ...DOCUMENT, winner: null })).toEqual(rest);
  });

  it.each([
    [{ covrage: 1 }, "'covrage': "],
    [{ coverage: 2 }, "'coverage': "],
    [{ metrics: [] }, "'metrics': "],
    [
      { guardrails: [{ metric: 'thanks', max_absolute_increase: 1, action: 'hold' }] },
      "'guardrails.0.metric': ",
    ],
    [{ overrides: [{ unit: 'a', variant: 'none' }] }, "'overrides.0.variant': "],
  ])('refuses %j', (changes, message) =>
    expect(() => checkDesign({ ...DOCUMENT, ...changes })).toThrow(message),
  );

  it("leaves the server's own metrics to the server", () => {
    const { metrics: _, ...rest } = DOCUMENT;
    const rail = { metric: 'thumbs', max_absolute_increase: 1, action: 'hold' };
    expect(checkDesign({ ...rest, guardrails: [rail] }).guardrails).toEqual([rail]);
  });
});

it('checkDocument reports errors of an edited document', () => {
  expect(checkDocument(DOCUMENT)).toMatchObject({ killed: false, winner: null });
  expect(() => checkDocument({ ...DOCUMENT, version: undefined })).toThrow("'version': ");
});

describe('repeatedFlag', () => {
  it.each([
    [[], []],
    [
      ['create', '--variant', 'a=@1', '--json', '--variant=b=@2:50%'],
      ['a=@1', 'b=@2:50%'],
    ],
    [['--variants', 'x', '--', '--variant', 'y'], []],
    [['--variant'], []],
  ])('of %j', (args, values) => expect(repeatedFlag(args, 'variant')).toEqual(values));
});

it.each<[string[], boolean]>([
  [['create', '--shadow-compare', '--file', 'x'], true],
  [['--file', 'x', '--shadow-compare'], true],
  [['--shadow-compare=true'], true],
  [['--shadow', 'a@1:5%', '--shadow-compared'], false],
  [['--', '--shadow-compare'], false],
])('isFlagGiven of %j is %s', (args, expected) => expect(isFlagGiven(args, 'shadow-compare')).toBe(expected));
