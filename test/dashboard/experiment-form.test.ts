import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createRequest,
  EMPTY_FIELDS,
  fieldAt,
  planRequest,
  type ExperimentFields,
} from '../../dashboard/model/experiment-form.ts';
import { CreateExperiment } from '../../protocol/admin-api/experiments.ts';

const filled: ExperimentFields = { ...EMPTY_FIELDS, name: 'support/intent', control: '3', treatment: '4' };
const request = (fields: Partial<ExperimentFields>): CreateExperiment => {
  const made = createRequest({ ...filled, ...fields });
  if (!made.ok) throw new Error(JSON.stringify(made.error));
  return made.value;
};
const problems = (fields: Partial<ExperimentFields>) => {
  const made = createRequest({ ...filled, ...fields });
  return made.ok ? {} : made.error;
};

describe('what the form becomes', () => {
  it('assigns half of the units to each of two versions of the name', () => {
    expect(request({ name: ' support/intent ', treatment: ' 4 ' })).toEqual({
      name: 'support/intent',
      variants: [
        { key: 'control', adapter: 'support/intent@3', weight: 0.5 },
        { key: 'treatment', adapter: 'support/intent@4', weight: 0.5 },
      ],
      metrics: [{ key: 'thumbs', kind: 'proportion', better: 'up' }],
      coverage: 1,
    });
    expect(request({ guarded: false }).guardrails).toEqual([]);
    expect(request({ treatment: 'other/name@7' }).variants[1]?.adapter).toBe('other/name@7');
  });

  it.each<[string, ExperimentFields['kind'], 'proportion' | 'mean']>([
    ['latency_ms', 'proportion', 'mean'],
    [' latency_ms ', 'proportion', 'mean'],
    ['error_rate', 'mean', 'proportion'],
    ['revenue', 'mean', 'mean'],
    ['solved', 'proportion', 'proportion'],
  ])('accepts %j, requested as a %s, as a %s', (metric, kind, expected) => {
    expect(request({ metric, kind }).metrics).toEqual([{ key: metric.trim(), kind: expected, better: 'up' }]);
  });

  it.each([
    ['100', 1],
    [' 12,5 ', 0.125],
    ['0.1', 0.001],
  ])('accepts %j percent as coverage', (coverage, share) => {
    expect(request({ coverage }).coverage).toBe(share);
  });

  it('requests a plan with the expected units', () => {
    expect(planRequest({ ...filled, expected: ' 900 ' })).toEqual({ ...request({}), expect_units: 900 });
    expect(planRequest({ ...filled, expected: 'many' })).toEqual(request({}));
    expect(planRequest({ ...filled, treatment: '' })).toBeNull();
  });

  it('judges answers in parallel, by the given judge', () => {
    const shadow = { adapter: 'support/intent@4', sample: 0.2 };
    const judged = (judge: string, more: Partial<ExperimentFields> = {}) =>
      request({ judge, coverage: '0', ...more });
    expect(judged('base')).toMatchObject({ coverage: 0, shadow, judge: { model: 'base' } });
    expect(judged('https://a.example/j').judge).toEqual({ url: 'https://a.example/j' });
    expect(judged('medicine@7', { coverage: '50' })).toMatchObject({
      coverage: 0.5,
      judge: { model: 'medicine@7' },
    });
    const fields = { ...filled, judge: 'medicine', coverage: '0' };
    expect(createRequest(fields, 3)).toMatchObject({ ok: true, value: { judge: { model: 'medicine@3' } } });
    expect(createRequest(fields, null)).toMatchObject({
      ok: false,
      error: { judge: expect.stringContaining('no live version') },
    });
    expect(Object.keys(problems({ coverage: '0' }))).toEqual(['coverage']);
    expect(Object.keys(problems({ coverage: '0', judge: 'base', ramped: true }))).toContain('coverage');
  });

  it('caps a mean, and shows results by one dimension', () => {
    const metric = { metric: 'revenue', kind: 'mean' as const, capped: true };
    expect(request({ ...metric, segmentBy: 'header:x-plan' })).toMatchObject({
      metrics: [{ key: 'revenue', kind: 'mean', better: 'up', cap: 'p99' }],
      segment_by: 'header:x-plan',
    });
    expect(request({ capped: true }).metrics).toEqual([{ key: 'thumbs', kind: 'proportion', better: 'up' }]);
    expect(Object.keys(problems({ segmentBy: 'plan' }))).toEqual(['segmentBy']);
  });

  it('ramps up to the requested coverage', () => {
    expect(request({ ramped: true, coverage: '30' })).toMatchObject({
      coverage: 0.003,
      ramp: { steps: [0.003, 0.015, 0.075, 0.3], hold_minutes: 60, min_units: 200 },
    });
  });

  it('is a valid request, or names the invalid fields', () => {
    const text = fc.oneof(
      fc.string(),
      fc.constantFrom('3', '4', 'a/b@1', 'thumbs', 'cost', '50', '0', '101'),
    );
    const fields = fc.record({
      ...{ name: text, control: text, treatment: text, metric: text, coverage: text },
      kind: fc.constantFrom('proportion' as const, 'mean' as const),
      better: fc.constantFrom('up' as const, 'down' as const),
      guarded: fc.boolean(),
      expected: text,
      ramped: fc.boolean(),
      judge: fc.oneof(text, fc.constantFrom('', 'base', 'judge/one', 'https://app.example.com/judge')),
      capped: fc.boolean(),
      segmentBy: fc.oneof(text, fc.constantFrom('', 'tenant', 'name', 'header:x-plan')),
    });
    fc.assert(
      fc.property(fields, fc.boolean(), (random, named) => {
        const made = createRequest({ ...random, ...(named ? { name: 'support/intent' } : {}) });
        if (made.ok) expect(CreateExperiment.safeParse(made.value).success).toBe(true);
        else {
          expect(Object.keys(made.error).length).toBeGreaterThan(0);
          for (const words of Object.values(made.error)) expect(words).toMatch(/^\P{Ll}.*\.$/su);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('what is wrong', () => {
  it.each<[keyof ExperimentFields, Partial<ExperimentFields>]>([
    ['name', { name: 'Support' }],
    ['control', { control: '' }],
    ['control', { control: '0' }],
    ['treatment', { treatment: 'x' }],
    ['treatment', { treatment: '3' }],
    ['treatment', { treatment: 'support/intent@3' }],
    ['metric', { metric: '' }],
    ['metric', { metric: '5 stars' }],
    ...['', '0', '-1', '100.1', 'all', 'NaN', 'Infinity'].map(
      (coverage) => ['coverage', { coverage }] as [keyof ExperimentFields, Partial<ExperimentFields>],
    ),
  ])('is shown at %s: %j', (field, fields) => {
    expect(Object.keys(problems(fields))).toContain(field);
  });

  it('is shown for every field at once, and for no other', () => {
    expect(Object.keys(problems({ control: '', metric: 'A', coverage: 'x' })).sort()).toEqual([
      'control',
      'coverage',
      'metric',
    ]);
  });

  it("uses the form's words for a missing version", () => {
    const missing = 'A version of the name, such as 3.';
    expect(problems({ control: '', treatment: ' ' })).toEqual({ control: missing, treatment: missing });
  });

  it.each<[(string | number)[], keyof ExperimentFields]>([
    [['name'], 'name'],
    [[], 'name'],
    [['variants', 0, 'adapter'], 'control'],
    [['variants', 1, 'adapter'], 'treatment'],
    // As the edge's `param` has it.
    [['variants', '1', 'adapter'], 'treatment'],
    [['metrics', 0, 'kind'], 'metric'],
    [['guardrails', 0, 'metric'], 'guarded'],
    [['ramp', 'steps'], 'ramped'],
    [['coverage'], 'coverage'],
    [['judge', 'model'], 'judge'],
    [['shadow', 'adapter'], 'judge'],
    [['segment_by'], 'segmentBy'],
  ])('of %j is shown at %s', (path, field) => {
    expect(fieldAt(path)).toBe(field);
  });
});
