/**
 * What one completion costs in each store: the real composition over stores that count, against the table of
 * docs/run/capacity.md. Who changes what is written changes the figures there.
 */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { createAnalyticsPoints, createObserver } from '../../worker/http/request.ts';
import { createD1Traffic } from '../../worker/traffic/d1-traffic.ts';
import { createDoGatherers, Gatherer } from '../../worker/gathering/gatherer-object.ts';
import { createD1KeptPrompts } from '../../worker/prompts/d1-kept-prompts.ts';
import { createD1Usage } from '../../worker/metering/d1-usage.ts';
import { USAGE_BATCH_MEMORY_MS } from '../../worker/metering/limits.ts';
import { createDoQuotas, QuotaCounter } from '../../worker/metering/quota-counter-object.ts';
import { countingDisk, type GathererDisk, namespaceOf } from '../fakes/gatherers-in-process.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { FakeClock } from '../fakes/fake-clock.ts';
import { FakeKv } from '../fakes/fake-kv.ts';
import { FakeLocationCache } from '../fakes/fake-location-cache.ts';
import { generateApiKey } from '../../protocol/identity.ts';
import { createAppHarness, type AppHarness } from './app-harness.ts';
import { seededRandom } from '../../gpu-origin/generation/sampler.ts';
import { openRealDatabase, startDatabases } from './platform/real-database.ts';
import { recordStatements } from './platform/recording-database.ts';

const PAGE = path.join(import.meta.dirname, '../../docs/run/capacity.md');
const WRANGLER = path.join(import.meta.dirname, '../../wrangler.toml');
const [ISOLATES, KEYS, NAMES, REQUESTS, SECONDS] = [4, 5, 10, 400, 20];
/** Requests a month of the page's example, millions: 200 a second for 30 days. */
const EXAMPLE = (200 * 86_400 * 30) / 1e6;

/** Cells of the table under a heading, by their row's first cell. */
function tableBelow(heading: string): Map<string, string[]> {
  const [, section = ''] = readFileSync(PAGE, 'utf8').split(`${heading}\n`);
  const rows = section.split(/\n#/)[0]?.match(/^\|.*\|$/gm) ?? [];
  return new Map(
    rows.map((row) => {
      const [first = '', ...cells] = row
        .split('|')
        .slice(1, -1)
        .map((cell) => cell.trim());
      return [first.replaceAll('*', ''), cells.map((cell) => cell.replaceAll('*', ''))];
    }),
  );
}
const numberOf = (text: string | undefined): number => Number(/[\d.]+/.exec(text ?? '')?.[0] ?? NaN);

/** Of production. */
const sampleOf = (variable: string): number =>
  Number(new RegExp(`^${variable} = "(.*)"$`, 'm').exec(readFileSync(WRANGLER, 'utf8'))?.[1]);

let miniflare: Miniflare;
beforeAll(() => {
  miniflare = startDatabases();
});
afterAll(() => miniflare.dispose());

interface Counts {
  kvReads: number;
  rowsWritten: number;
  rowsRead: number;
  objectCalls: number;
  objectWrites: number;
  points: number;
  lines: number;
}

/** Some minutes of steady load, with limits for each key and tenant or with none. @returns what one request took. */
async function measure(limited: boolean): Promise<Counts> {
  const clock = new FakeClock();
  const { db, asked } = recordStatements(await openRealDatabase(miniflare));
  let [points, objectCalls, objectRows] = [0, 0, 0];
  const lines = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  const errors = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  // Gatherers spread their writes by chance.
  const random = seededRandom(7);
  const waiting: { at: number; go: () => void }[] = [];
  const sleep = (ms: number) => new Promise<void>((go) => waiting.push({ at: clock.now() + ms, go }));
  const gatherers: { object: Gatherer; disk: GathererDisk }[] = [];
  const ledgers = {
    usage: createD1Usage(db, USAGE_BATCH_MEMORY_MS),
    traffic: createD1Traffic(db),
    keptPrompts: createD1KeptPrompts(db),
  };
  const gathererNamespace = namespaceOf(
    () => {
      const disk = countingDisk((rows) => (objectRows += rows));
      const object = new Gatherer(
        { storage: disk },
        { DB: db },
        { now: clock.now, sleep, random, ...ledgers },
      );
      gatherers.push({ object, disk });
      return object;
    },
    async () => void (objectCalls += 1),
  );
  const counterNamespace = namespaceOf(
    () => {
      const disk = new Map<string, unknown>();
      const storage = {
        get: async (key: string) => structuredClone(disk.get(key)),
        async put(key: string, value: unknown) {
          objectRows += 1;
          disk.set(key, structuredClone(value));
        },
        deleteAll: async () => disk.clear(),
      };
      return new QuotaCounter({ storage }, undefined, { sleep });
    },
    async () => void (objectCalls += 1),
  );
  const options = {
    quotas: createDoQuotas({ namespace: counterNamespace, timeoutMs: 60_000 }),
    observer: createObserver({
      points: createAnalyticsPoints({ writeDataPoint: () => void (points += 1) }),
      // What is sampled is reckoned below.
      ...{ logSample: 1, pointSample: 1 },
    }),
    flushDelay: sleep,
    gatherers: createDoGatherers({ namespace: gathererNamespace, timeoutMs: 60_000, writeTimeoutMs: 60_000 }),
    locationCache: new FakeLocationCache(clock.now),
  };
  const first = await createAppHarness({
    ...options,
    db,
    copied: { clock, kv: new FakeKv(clock.now), adminKey: generateApiKey('ga') },
  });
  const isolates: AppHarness[] = [first];
  while (isolates.length < ISOLATES) isolates.push(await createAppHarness({ ...options, beside: first }));

  // Each of them has to be counted exactly, and needs to know when a request ends.
  const limits = limited ? { requests_per_minute: 600, concurrent: 100, tokens_per_day: 1e9 } : {};
  const keys: string[] = [];
  for (let i = 0; i < KEYS; i += 1) {
    const made = await first.request('/admin/keys', { body: { tenant: `t${i}`, scopes: ['**'], limits } });
    expect(made.status).toBe(201);
    keys.push(((await made.json()) as { key: string }).key);
    if (!limited) continue;
    const changed = await first.request('/admin/tenants/limits', { body: { tenant: `t${i}`, limits } });
    expect(changed.status).toBe(200);
  }
  for (let i = 0; i < NAMES; i += 1)
    expect((await first.publish(`n${i}`, tinyAdapter({ seed: i + 1 }))).status).toBe(201);
  await first.request('/admin/grants', { body: { tenant: '*', scope: '**' } });
  clock.advance(61_000);

  /** Lets due writes happen. */
  const tick = async (ms: number): Promise<void> => {
    clock.advance(ms);
    for (const due of waiting.filter(({ at }) => at <= clock.now())) {
      waiting.splice(waiting.indexOf(due), 1);
      due.go();
    }
    // The location's cache gets what was read, and the flushes begin.
    for (let turn = 0; turn < 10; turn += 1) {
      await crypto.subtle.digest('SHA-256', new Uint8Array(1));
      await new Promise((resolve) => setImmediate(resolve));
    }
    for (const { object, disk } of gatherers) {
      if (disk.alarm === null || clock.now() < disk.alarm) continue;
      disk.alarm = null;
      await object.alarm();
    }
  };
  await tick(61_000);
  asked.length = 0;
  [points, objectCalls, objectRows] = [0, 0, 0];
  lines.mockClear();
  errors.mockClear();
  const readsBefore = first.kv.keysRead;
  let state = 7;
  const below = (n: number): number => (state = (state * 48_271) % 0x7fffffff) % n;
  for (let i = 0; i < REQUESTS; i += 1) {
    const answer = await isolates[below(ISOLATES)]?.request('/v1/chat/completions', {
      key: keys[below(KEYS)] ?? '',
      body: { model: `n${below(NAMES)}`, messages: [{ role: 'user', content: 'hi' }] },
    });
    expect([answer?.status, i]).toEqual([200, i]);
    await answer?.arrayBuffer();
    await tick((1_000 * SECONDS) / REQUESTS);
  }
  for (let second = 0; second < 90; second += 1) await tick(1_000);
  const logged = lines.mock.calls.length + errors.mock.calls.length;
  lines.mockRestore();
  errors.mockRestore();
  const sumOf = (what: 'rowsRead' | 'rowsWritten'): number => asked.reduce((sum, one) => sum + one[what], 0);
  const each = (count: number): number => count / REQUESTS;
  return {
    kvReads: each(first.kv.keysRead - readsBefore),
    rowsWritten: each(sumOf('rowsWritten')),
    rowsRead: each(sumOf('rowsRead')),
    objectCalls: each(objectCalls),
    objectWrites: each(objectRows),
    points: each(points) * sampleOf('ANALYTICS_SAMPLE'),
    lines: each(logged) * sampleOf('LOG_SAMPLE'),
  };
}

describe('a completion', () => {
  it.each([false, true])('costs what the page on capacity says (with limits: %s)', async (limited) => {
    const counts = await measure(limited);
    process.stdout.write(`${JSON.stringify(counts)}\n`);
    const page = tableBelow('### What a request costs');
    for (const [row, measured] of [
      ['KV reads', counts.kvReads],
      ['D1 rows written', counts.rowsWritten],
      ['D1 rows read', counts.rowsRead],
      ['calls of Durable Objects', counts.objectCalls],
      ['rows written there', counts.objectWrites],
      ['data points', counts.points],
      ['lines of the log', counts.lines],
    ] as const) {
      const said = numberOf(page.get(row)?.[limited ? 2 : 1]);
      expect([row, Math.abs(measured - said) <= 0.1 * Math.max(said, 0.1), measured]).toEqual([
        row,
        true,
        measured,
      ]);
    }
  });

  it('is multiplied by the prices of that table', () => {
    const page = tableBelow('### What a request costs');
    const sums = [0, 0];
    for (const [row, [price, plain, limited, ...dollars]] of page) {
      if (!(numberOf(price) > 0)) continue;
      for (const [i, count] of [plain, limited].entries()) {
        const cost = numberOf(price) * numberOf(count);
        expect([row, Math.abs(cost - numberOf(dollars[i])) < 0.006]).toEqual([row, true]);
        sums[i] = (sums[i] ?? 0) + cost;
      }
    }
    const bill = tableBelow("## Cloudflare's bill");
    const used = (row: string): number => EXAMPLE * numberOf(page.get(row)?.[1]);
    for (const [row, dollars] of [
      ['D1', used('D1 rows written') - 50],
      [
        'objects',
        0.15 * (used('calls of Durable Objects') - 1) + Math.max(0, used('rows written there') - 50),
      ],
      ['data points', 0.25 * Math.max(0, used('data points') - 10)],
      ['log', 0.6 * Math.max(0, used('lines of the log') - 20)],
    ] as const)
      for (const column of [1, 2])
        expect([row, numberOf(bill.get(row)?.[column]?.replace(',', ''))]).toEqual([
          row,
          Math.round(dollars),
        ]);
    const all = page.get('all');
    for (const [i, sum] of sums.entries()) expect(Math.abs(sum - numberOf(all?.[3 + i]))).toBeLessThan(0.03);
  });
});
