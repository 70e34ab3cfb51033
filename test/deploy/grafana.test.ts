/** deploy/grafana/origins.json against what an origin exports. */
import { readFile } from 'node:fs/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { createMetrics } from '../../gpu-origin/http/metrics.ts';

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

/** Of a metric's name, where a histogram or a summary is asked for one of its parts. */
const PART = /_(bucket|sum|count)$/;

let panels: z.infer<typeof Dashboard>['panels'];
/** Name -> its type. */
let exported: Map<string, string>;
let used: { name: string; expr: string }[];

beforeAll(async () => {
  const file = new URL('../../deploy/grafana/origins.json', import.meta.url);
  panels = Dashboard.parse(JSON.parse(await readFile(file, 'utf8'))).panels;
  const text = await createMetrics().text();
  exported = new Map(
    [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)].map(([, name = '', type = '']) => [name, type]),
  );
  used = panels.flatMap(({ targets }) =>
    targets.flatMap(({ expr }) =>
      [...expr.matchAll(/\b(?:graft_|vllm:)\w+/g)].map(([name]) => ({ name, expr })),
    ),
  );
});

describe('the Grafana dashboard of origins', () => {
  it('asks for metrics that there are, each as what it is', () => {
    expect(used.length).toBeGreaterThan(30);
    for (const { name, expr } of used) {
      const type = exported.get(name) ?? exported.get(name.replace(PART, ''));
      expect(type, name).toBeDefined();
      if (type === 'histogram') expect(name).toMatch(PART);
      if (type === 'counter') expect(expr).toMatch(/rate\(|increase\(/);
      if (type === 'gauge') expect(expr).not.toContain(`rate(${name}`);
    }
  });

  it('shows every metric', () => {
    const shown = new Set(used.map(({ name }) => (exported.has(name) ? name : name.replace(PART, ''))));
    expect([...exported.keys()].filter((name) => !shown.has(name))).toEqual([]);
  });

  it('sums by labels that metrics have', async () => {
    const metrics = createMetrics();
    metrics.onResponse('/v1/completions', 200);
    metrics.onJobEnd('done');
    metrics.observer.onStep?.({ kind: 'decode', batch: 1, ms: 1 } as never);
    metrics.observer.onFault?.({ where: 'x' } as never);
    metrics.observer.onRefuse?.({ error: { code: 'x' } } as never);
    metrics.observer.onAdapterLoad?.({ error: null, ms: 1 } as never);
    metrics.observer.onFinish?.({
      outcome: 'stop',
      promptTokens: 1,
      completionTokens: 1,
      ms: 1,
      queuedMs: 1,
    } as never);
    const lines = (await metrics.text()).split('\n');
    for (const { name, expr } of used) {
      const by = /^sum by \((\w+)\) /.exec(expr)?.[1];
      if (by === undefined || by === 'instance') continue;
      expect(
        lines.some((line) => line.startsWith(`${name}{`) && line.includes(`${by}="`)),
        expr,
      ).toBe(true);
    }
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
