/** A publication that is interrupted at each of its calls of a store or an origin, one after the other. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { chainId } from '../../../protocol/identity.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
/** Longer than KV can be stale. */
const LATER_MS = 61_000;

/** How a call ends: refused; done, but the response is lost; or, done or not, the isolate is gone. */
const ENDS = ['fails', 'fails afterwards', 'never returns', 'never returns afterwards'] as const;
type End = (typeof ENDS)[number];

/** Counts the calls of every port, and ends call number `at` in this way. */
function createCutter(at: number, end: End) {
  const calls: string[] = [];
  let gone = (): void => undefined;
  const reached = new Promise<'gone'>((resolve) => (gone = () => resolve('gone')));
  async function step<T>(label: string, call: () => Promise<T>): Promise<T> {
    const mine = calls.push(label);
    if (mine !== at) return call();
    if (end.endsWith('afterwards')) await call();
    if (end.startsWith('fails')) throw new Error('cut off');
    gone();
    return new Promise(() => undefined);
  }
  const wrap = <P extends object>(port: P, name: string): P =>
    new Proxy(port, {
      get(target, property) {
        const value: unknown = Reflect.get(target, property);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) =>
          step(`${name}.${String(property)}`, () => Reflect.apply(value, target, args) as Promise<unknown>);
      },
    });
  return { calls, reached, wrap };
}

let store: AppHarness;
let key: string;

/** What a new reader in another isolate is served: the version, and whether the chain is its own. */
async function served(): Promise<string> {
  const reader = await createAppHarness({ beside: store });
  const response = await reader.request('/v1/chat/completions', {
    key,
    body: { model: 'notes', messages: [{ role: 'user', content: 'hi' }] },
  });
  const name = response.headers.get('x-graft-adapter');
  for (const [version, { digest }] of [first, second].entries())
    if (response.headers.get('x-graft-chain') === (await chainId([{ digest, scale: 1 }])))
      return `${response.status} ${name} with the chain of ${version + 1}`;
  return `${response.status} ${name} with another chain`;
}

/** One scheduled run, in yet another isolate. */
async function runSchedule(): Promise<void> {
  const { schedule } = await createAppHarness({ beside: store });
  await schedule(() => undefined);
}

const OLD = '200 notes@1 with the chain of 1';
const NEW = '200 notes@2 with the chain of 2';

beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  store = await createAppHarness();
  const made = await store.request('/admin/keys', { body: { tenant: 'default', scopes: [] } });
  ({ key } = (await made.json()) as { key: string });
  expect((await store.publish('notes', first)).status).toBe(201);
  store.clock.advance(LATER_MS);
});

async function cutAt(at: number, end: End) {
  const cutter = createCutter(at, end);
  const publisher = await createAppHarness({ beside: store, wrap: cutter.wrap });
  const outcome = await Promise.race([publisher.publish('notes', second), cutter.reached]);
  return { calls: cutter.calls, status: outcome === 'gone' ? null : outcome.status };
}

describe('a publication', () => {
  it('makes the calls that the crashes below interrupt', async () => {
    const { calls, status } = await cutAt(0, 'fails');
    expect(status).toBe(201);
    expect(calls).toEqual(expect.arrayContaining(['kv.put', 'registry.publish']));
    // The pointer comes last, so whatever is served is complete. Clearing its note, and calls to origins with
    // the previous version, are not awaited.
    expect(calls.slice(-5)).toEqual([
      'registry.publish',
      'registry.pointerToWrite',
      'kv.put',
      'registry.pointersWritten',
      'registry.version',
    ]);
    expect(await served()).toBe(NEW);
  });

  it.each(ENDS)(
    'that is interrupted leaves the old version or the new one, and can be repeated: %s',
    async (end) => {
      const total = (await cutAt(0, end)).calls.length;
      const seen = new Set<string>();
      for (let at = 1; at <= total; at += 1) {
        store = await createAppHarness();
        const made = await store.request('/admin/keys', { body: { tenant: 'default', scopes: [] } });
        ({ key } = (await made.json()) as { key: string });
        await store.publish('notes', first);
        store.clock.advance(LATER_MS);
        const { calls, status } = await cutAt(at, end);
        const where = `call ${at} of ${total}, ${calls[at - 1]}`;
        store.clock.advance(LATER_MS);
        const between = await served();
        // Calls after the pointer are not awaited; it is served by then.
        const written = calls.indexOf('kv.put', calls.indexOf('registry.pointerToWrite'));
        if (written > 0 && at - 1 > written) expect(between, where).toBe(NEW);
        else seen.add(between);
        expect([OLD, NEW], where).toContain(between);
        // What was acknowledged is served, and what is not served was not acknowledged.
        if (status !== null && status < 300) expect(between, where).toBe(NEW);

        // What was recorded is served after the schedule has run, wherever the request died.
        const { registry } = store.services;
        const recorded = (await registry.name('notes'))?.version === 2;
        await runSchedule();
        store.clock.advance(LATER_MS);
        expect(await served(), where).toBe(recorded ? NEW : OLD);
        expect(await registry.stalePointers({ limit: 9, newest: false }), where).toEqual([]);

        const again = await createAppHarness({ beside: store });
        expect([200, 201], where).toContain((await again.publish('notes', second)).status);
        store.clock.advance(LATER_MS);
        expect(await served(), where).toBe(NEW);
        const history = await registry.history({ name: 'notes', owner: null, before: null, limit: 9 });
        expect(
          history.map(({ action, from, to }) => [action, from, to]),
          where,
        ).toEqual([
          ['publish', 1, 2],
          ['publish', null, 1],
        ]);
        expect(
          (await registry.versions('notes')).map(({ version }) => version),
          where,
        ).toEqual([2, 1]);
      }
      // Some failed reads can be worked around: then the publication continues.
      const goesOn = end === 'fails' || end.endsWith('afterwards');
      expect(seen).toEqual(new Set(goesOn ? [OLD, NEW] : [OLD]));
    },
  );
});
