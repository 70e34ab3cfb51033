/** deploy/prometheus/alerts.yaml against what an origin exposes, and against the page that explains it. */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { readPromql, type Scraped, scrapeOrigin } from './promql.ts';

const Duration = z.string().regex(/^\d+[smhd]$/);
/** Prometheus' `rulefmt.RuleGroups`, as far as it is used. */
const Rules = z.strictObject({
  groups: z.array(
    z.strictObject({
      name: z.string().min(1),
      rules: z.array(
        z.strictObject({
          alert: z.string().regex(/^Graft[A-Za-z]+$/),
          expr: z.string().min(1),
          for: Duration.optional(),
          labels: z.strictObject({ severity: z.enum(['critical', 'warning']) }),
          annotations: z.strictObject({ summary: z.string(), description: z.string() }),
        }),
      ),
    }),
  ),
});

const read = (path: string): Promise<string> => readFile(new URL(`../../${path}`, import.meta.url), 'utf8');

let rules: z.infer<typeof Rules>['groups'][number]['rules'];
let scraped: Scraped;
beforeAll(async () => {
  rules = Rules.parse(parse(await read('deploy/prometheus/alerts.yaml'))).groups.flatMap(
    (group) => group.rules,
  );
  scraped = await scrapeOrigin();
});

describe('the alerts on origins', () => {
  it('ask for series that an origin exposes, each as what it is', () => {
    expect(rules.length).toBeGreaterThan(10);
    for (const { expr } of rules) {
      const { names } = readPromql(expr);
      expect(names.length).toBeGreaterThan(0);
      for (const name of names.filter((one) => !scraped.isAdded(one))) {
        const metric = scraped.metricOf(name);
        expect(metric, `${name} in ${expr}`).toBeDefined();
        if (metric?.type === 'histogram') expect(name).not.toBe(metric.name);
        if (metric?.type !== 'gauge') expect(expr).toMatch(/rate\(|increase\(/);
      }
    }
  });

  it('group and filter by labels that the series have', () => {
    for (const { expr } of rules) {
      const { names, labels } = readPromql(expr);
      for (const label of labels)
        expect(
          names.some((name) => scraped.hasLabel(name, label)),
          `${label} in ${expr}`,
        ).toBe(true);
    }
  });

  it('have names of their own, each on the page that says what to do', async () => {
    const page = await read('docs/run/alerts.md');
    const names = rules.map(({ alert }) => alert);
    expect(new Set(names).size).toBe(names.length);
    const explained = [...page.matchAll(/`(Graft[A-Za-z]+)`/g)].map(([, name]) => name);
    expect(new Set(explained)).toEqual(new Set(names));
  });

  it('speak of an instance, which each of them keeps', () => {
    for (const { expr, annotations } of rules) {
      expect(annotations.summary).toContain('$labels.instance');
      const { labels } = readPromql(expr);
      if (/\bby\b/.test(expr)) expect(labels).toContain('instance');
    }
  });
});

describe('reading PromQL', () => {
  it('finds series and labels, and neither functions nor words of the language', () => {
    const expr =
      'histogram_quantile(0.95, sum by (instance, le) (rate(a_bucket{x="b{c}", y=~"d|e"}[5m]))) > 5e3 and on (instance) f:g offset 5m';
    expect(readPromql(expr)).toEqual({
      names: ['a_bucket', 'f:g'],
      labels: ['x', 'y', 'instance', 'le', 'instance'],
    });
  });
});
