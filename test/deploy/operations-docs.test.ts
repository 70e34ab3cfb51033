/** The pages of docs/run say what the parts really write. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { commandNames } from '../../cli/command-list.ts';
import { createMetrics } from '../../gpu-origin/http/metrics.ts';
import { createAnalyticsPoints } from '../../worker/http/request.ts';
import { sampleFeedback, samplePoint } from '../contracts/data-points.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const PAGES = path.join(ROOT, 'docs/run');
const docs = readdirSync(PAGES)
  .map((page) => readFileSync(path.join(PAGES, page), 'utf8'))
  .join('\n');

/** Its lines are no log: `graft train` reads them. */
const TRAINING = 'train.ts';

/** Names of events in the sources below a folder. */
const eventsOf = (folder: string): string[] =>
  readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && file !== TRAINING)
    .flatMap((file) => {
      const source = readFileSync(path.join(ROOT, folder, file), 'utf8');
      const patterns = [
        /logLine\(\s*'([a-z_]+)'/g,
        /logLine\(\s*known \? '([a-z_]+)'/g,
        /event: '([a-z_]+)'/g,
        /\blog\('(?:info|error)', '([a-z_]+)'/g,
        /\blog\(failed \? 'error' : 'info', '([a-z_]+)'/g,
      ];
      return patterns.flatMap((pattern) => [...source.matchAll(pattern)].map((match) => match[1] ?? ''));
    });

describe('docs/run', () => {
  it('explains every event of the logs', () => {
    const events = new Set([...eventsOf('worker'), ...eventsOf('gpu-origin')]);
    expect(events.size).toBeGreaterThan(20);
    for (const event of events) expect(docs, event).toMatch(new RegExp(`\\b${event}\\b`));
  });

  it('builds its alerts of metrics that there are', async () => {
    const text = await createMetrics().text();
    const named = [...docs.matchAll(/\bgraft_[a-z_]+/g)]
      .map(([name]) => name.replace(/_bucket$/, ''))
      .filter((name) => name !== 'graft_completions');
    expect(named.length).toBeGreaterThan(5);
    for (const name of named) expect(text, name).toContain(`# TYPE ${name} `);
  });

  it('lists as many columns as data points have', () => {
    const most = new Map<string, number>();
    const points = createAnalyticsPoints({
      writeDataPoint({ indexes, blobs, doubles }) {
        for (const [kind, { length }] of Object.entries({ index: indexes, blob: blobs, double: doubles }))
          most.set(kind, Math.max(most.get(kind) ?? 0, length));
      },
    });
    points.completion(samplePoint());
    points.feedback(sampleFeedback());
    expect([...most.keys()]).toEqual(['index', 'blob', 'double']);
    for (const [kind, length] of most) {
      expect(docs).toContain(`\`${kind}${length}\``);
      expect(docs).not.toContain(`\`${kind}${length + 1}\``);
    }
  });

  it('uses commands that there are', () => {
    const used = [...docs.matchAll(/(?:npx |`)graft ([a-z]+)/g)].map(([, verb]) => verb ?? '');
    expect(used.length).toBeGreaterThan(10);
    for (const verb of used) expect(commandNames()).toContain(verb);
  });
});
