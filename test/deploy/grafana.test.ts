/** deploy/grafana/origins.json against what an origin exports. */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { readPromql, type Scraped, scrapeOrigin } from './promql.ts';

const Dashboard = z.object({
  uid: z.string(),
  panels: z.array(
    z.object({
      id: z.int(),
      title: z.string(),
      type: z.string(),
      gridPos: z.object({ x: z.int(), y: z.int(), w: z.int(), h: z.int() }),
      targets: z.array(z.object({ expr: z.string(), legendFormat: z.string() })).default([]),
    }),
  ),
});

let panels: z.infer<typeof Dashboard>['panels'];
let scraped: Scraped;
let used: { name: string; expr: string; labels: string[] }[];

beforeAll(async () => {
  const file = new URL('../../deploy/grafana/origins.json', import.meta.url);
  panels = Dashboard.parse(JSON.parse(await readFile(file, 'utf8'))).panels;
  scraped = await scrapeOrigin();
  used = panels.flatMap(({ targets }) =>
    targets.flatMap(({ expr }) => {
      const { names, labels } = readPromql(expr);
      return names.map((name) => ({ name, expr, labels }));
    }),
  );
});

describe('the Grafana dashboard of origins', () => {
  it('asks for series that an origin exposes, each as what it is', () => {
    expect(used.length).toBeGreaterThan(40);
    for (const { name, expr } of used) {
      const metric = scraped.metricOf(name);
      expect(metric, `${name} in ${expr}`).toBeDefined();
      if (metric?.type === 'histogram') expect(name).not.toBe(metric.name);
      if (metric?.type === 'counter') expect(expr).toMatch(/rate\(|increase\(/);
      if (metric?.type === 'gauge') expect(expr).not.toContain(`rate(${name}`);
    }
  });

  it('shows every metric', () => {
    const shown = new Set(used.map(({ name }) => scraped.metricOf(name)?.name));
    expect([...scraped.types.keys()].filter((name) => !shown.has(name))).toEqual([]);
  });

  it('groups and filters by labels that the series have', () => {
    for (const { name, expr, labels } of used)
      for (const label of labels) expect(scraped.hasLabel(name, label), `${label} in ${expr}`).toBe(true);
  });

  it('has panels that neither lie on one another nor leave the grid', () => {
    const cells = new Set<string>();
    for (const {
      gridPos: { x, y, w, h },
    } of panels)
      for (let column = x; column < x + w; column++)
        for (let row = y; row < y + h; row++) {
          expect(column).toBeLessThan(24);
          expect(cells.has(`${column},${row}`)).toBe(false);
          cells.add(`${column},${row}`);
        }
    expect(new Set(panels.map(({ id }) => id)).size).toBe(panels.length);
  });
});
