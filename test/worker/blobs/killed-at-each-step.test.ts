/**
 * Whatever sends, publishes, removes, erases and collects files, and wherever each of it is killed: when all has been
 * collected, the store has every byte of every version, and not one more.
 */
import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { beforeEach, expect, it, vi } from 'vitest';
import { EraseAnswer } from '../../../protocol/admin-api/erasures.ts';
import { BlobRecord, splitParts } from '../../../protocol/adapter-manifest.ts';
import { readProof } from '../../../worker/registry/publish-version.ts';
import { guardDatabase, type SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import { throughDatabase } from '../platform/through-database.ts';

const DAY_MS = 86_400_000;
/** Longer than KV can be stale. */
const LATER_MS = 61_000;
const FILES = [tinyAdapter({ seed: 1 }), tinyAdapter({ seed: 2 })] as const;
const NAMES = ['a', 'b'];
/** Few of these acts make more. */
const MOST_CALLS = 90;

/** Refused; done, but the answer is lost; or, done or not, the isolate is gone. */
const ENDS = ['fails', 'fails afterwards', 'gone', 'gone afterwards'] as const;
type End = (typeof ENDS)[number];

/** A call of D1 or KV. */
type Step = <T>(call: () => Promise<T>) => Promise<T>;

/** Makes an isolate's calls of D1 and KV go through `step`. */
const through = (step: Step) => ({
  database: (db: SqlDatabase): SqlDatabase => guardDatabase(throughDatabase(db, step)),
  store: <P extends object>(port: P, name: string): P =>
    name !== 'kv'
      ? port
      : new Proxy(port, {
          get(target, property) {
            const value: unknown = Reflect.get(target, property);
            if (typeof value !== 'function') return value;
            return (...args: unknown[]) => step(() => Reflect.apply(value, target, args) as Promise<unknown>);
          },
        }),
});

/** Ends call number `at` of D1 or KV in this way; those of an isolate that is gone never return. */
function createCutter(at: number, end: End) {
  let calls = 0;
  let gone = (): void => undefined;
  const reached = new Promise<null>((resolve) => (gone = () => resolve(null)));
  async function step<T>(call: () => Promise<T>): Promise<T> {
    calls += 1;
    if (calls > at && end.startsWith('gone')) return new Promise(() => undefined);
    if (calls !== at) return call();
    if (end.endsWith('afterwards')) await call();
    if (end.startsWith('fails')) throw new Error('cut off');
    gone();
    return new Promise(() => undefined);
  }
  return { reached, ...through(step) };
}

/** For this many calls one isolate goes on alone. */
interface Turn {
  chosen: number;
  calls: number;
}

/** Lets the calls of several isolates through one by one, in turns. */
function createTurns(turns: Iterator<Turn>) {
  const waiting: { id: number; go: () => void }[] = [];
  let called = 0;
  return {
    /** What calls of isolate `id` go through. */
    step:
      (id: number): Step =>
      async (call) => {
        await new Promise<void>((go) => waiting.push({ id, go }));
        called += 1;
        try {
          return await call();
        } finally {
          called -= 1;
        }
      },
    /** Runs them until all have ended. */
    async run(works: readonly Promise<unknown>[]): Promise<void> {
      const running = new Set(works.keys());
      let [id, left] = [0, 0];
      for (const [id, work] of works.entries()) void work.finally(() => running.delete(id));
      while (running.size > 0) {
        await new Promise((resolve) => setImmediate(resolve));
        // A choice is made when all have come to their next call, however long the machine takes.
        if (called > 0 || [...running].some((id) => !waiting.some((one) => one.id === id))) continue;
        waiting.sort((x, y) => x.id - y.id);
        if (left <= 0 || !running.has(id)) {
          const { chosen, calls } = turns.next().value as Turn;
          [id, left] = [[...running][chosen % running.size] ?? 0, calls];
        }
        left -= 1;
        const [one] = waiting.splice(
          waiting.findIndex((next) => next.id === id),
          1,
        );
        one?.go();
      }
      await Promise.all(works);
    },
  };
}

interface Cut {
  at: number;
  end: End;
}
type Act =
  | { kind: 'publish'; name: string; file: number; parts: number }
  | { kind: 'remove' | 'erase'; name: string }
  | { kind: 'collect'; days: number };

async function erase(graft: AppHarness, name: string): Promise<void> {
  for (let cursor: string | null = null; ;) {
    const answer = await graft.request('/admin/erase', { body: { name, usage: true, cursor } });
    if (!answer.ok) return;
    const page = EraseAnswer.parse(await answer.json());
    if (page.cursor === null) return;
    ({ cursor } = page);
  }
}

const DOES: { [K in Act['kind']]: (graft: AppHarness, act: Extract<Act, { kind: K }>) => Promise<unknown> } =
  {
    async publish(graft, { name, file, parts: count }) {
      const { bytes, digest } = FILES[file] as (typeof FILES)[0];
      const parts = splitParts(new Uint8Array(bytes), Math.ceil(bytes.length / count));
      const path = `/admin/blobs/${digest}`;
      for (const [index, body] of parts.entries())
        await graft.request(`${path}/parts/${index}`, { method: 'PUT', body });
      const record = {
        bytes: bytes.length,
        parts: parts.map((part) => ({ bytes: part.length, sha256: sha256(part) })),
      };
      await graft.request(path, { body: record });
      await graft.request('/admin/versions', { body: { name, digest } });
    },
    remove: (graft, { name }) => graft.request('/admin/remove', { body: { name } }),
    erase: (graft, { name }) => erase(graft, name),
    async collect(graft, { days }) {
      graft.clock.advance(days * DAY_MS);
      await graft.schedule((work) => void work.catch(() => undefined)).catch(() => undefined);
    },
  };

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

/** Does it in an isolate of its own, which ends with the cut. */
async function attempt(edge: AppHarness, act: Act, cut: Cut): Promise<void> {
  const { reached, database, store } = createCutter(cut.at, cut.end);
  const isolate = await createAppHarness({ copied: edge, db: database(edge.db), wrap: store });
  await Promise.race([
    (DOES[act.kind] as (graft: AppHarness, act: Act) => Promise<unknown>)(isolate, act),
    reached,
  ]);
  edge.clock.advance(LATER_MS);
}

async function everythingCollected(edge: AppHarness, step = 2): Promise<void> {
  for (let days = 0; days < 80; days += step) {
    const isolate = await createAppHarness({ copied: edge, db: edge.db });
    for (let runs = 0; runs < 2; runs += 1) {
      await isolate.schedule((work) => void work.catch(() => undefined));
      edge.clock.advance(LATER_MS);
    }
    edge.clock.advance(step * DAY_MS);
  }
}

/** Keys of the store that versions need, and whether their bytes are whole. */
async function needed(edge: AppHarness): Promise<string[]> {
  const { results } = await edge.db.prepare('SELECT DISTINCT digest FROM versions').all<{ digest: string }>();
  const keys: string[] = [];
  for (const { digest } of results) {
    const record = BlobRecord.parse(await edge.services.blobLedger.record(digest));
    expect(await edge.services.blobs.getRecord(digest)).toEqual(record);
    const hash = createHash('sha256');
    for (const { sha256: part } of record.parts) {
      const stream = await edge.services.blobs.getPart(digest, part, { fresh: true });
      hash.update(new Uint8Array(await new Response(stream).arrayBuffer()));
      keys.push(`blob:${digest}:${part}`);
    }
    expect(hash.digest('hex')).toBe(digest);
    keys.push(`blob:${digest}`);
  }
  const proved = await edge.db
    .prepare('SELECT DISTINCT digest, proof FROM versions')
    .all<{ digest: string; proof: string }>();
  for (const version of proved.results) {
    expect(await readProof(edge.services.blobs, version)).not.toBeNull();
    keys.push(`blob:${version.digest}:${version.proof}`);
  }
  return keys.sort();
}

async function isClean(edge: AppHarness): Promise<void> {
  const { keys } = await edge.kv.list({ prefix: 'blob:', cursor: null });
  expect(keys.map(({ name }) => name).sort()).toEqual(await needed(edge));
  const rows = async (sql: string) =>
    (await edge.db.prepare(sql).all<{ digest: string }>()).results.map(({ digest }) => digest);
  expect(await rows('SELECT digest FROM stored_parts')).toEqual([]);
  expect(await rows('SELECT digest FROM blobs ORDER BY 1')).toEqual(
    await rows('SELECT digest FROM stored_files ORDER BY 1'),
  );
}

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
});

const name = fc.constantFrom(...NAMES);
const act: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('publish' as const),
      name,
      file: fc.nat({ max: 1 }),
      parts: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constantFrom('remove' as const, 'erase' as const), name }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('collect' as const), days: fc.constantFrom(0, 2, 33) }),
  },
);
const cut: fc.Arbitrary<Cut> = fc.record({
  at: fc.integer({ min: 1, max: MOST_CALLS }),
  end: fc.constantFrom(...ENDS),
});

it('leaves no byte over and none missing, whatever is killed where', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(act, cut), { minLength: 1, maxLength: 6 }), async (acts) => {
      const edge = await createAppHarness();
      for (const [what, where] of acts) await attempt(edge, what, where);
      await everythingCollected(edge);
      await isClean(edge);
    }),
    { numRuns: 30, seed: 20_261_201 },
  );
});

/** Sends the file until it is held, or gives up. */
async function send(graft: AppHarness, parts: readonly Uint8Array<ArrayBuffer>[]): Promise<void> {
  const [{ bytes, digest }] = FILES;
  const path = `/admin/blobs/${digest}`;
  const record = {
    bytes: bytes.length,
    parts: parts.map((part) => ({ bytes: part.length, sha256: sha256(part) })),
  };
  for (let tries = 0; tries < 9; tries += 1) {
    for (const [index, body] of parts.entries())
      await graft.request(`${path}/parts/${index}`, { method: 'PUT', body });
    if ((await graft.request(path, { body: record })).ok) return;
  }
}

it('loses nothing that was sent while two deleted the same file', async () => {
  const [{ bytes, digest }] = FILES;
  const turn = fc.record({ chosen: fc.nat({ max: 59 }), calls: fc.constantFrom(1, 2, 5, 20, 60) });
  const acts = fc.record({
    others: fc.subarray(['erase', 'erase', 'collect', 'collect'] as const, { minLength: 1, maxLength: 3 }),
    counts: fc.array(fc.integer({ min: 1, max: 3 }), { minLength: 1, maxLength: 2 }),
    isLate: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(acts, fc.infiniteStream(turn), async ({ others, counts, isLate }, choices) => {
      const edge = await createAppHarness();
      await DOES.publish(edge, { kind: 'publish', name: 'a', file: 0, parts: 2 });
      // Sent by others, or left over: parts that the collector deletes by themselves.
      await edge.request(`/admin/blobs/${digest}/parts/0`, { method: 'PUT', body: bytes.slice(0, 100) });
      edge.clock.advance(isLate ? 2 * DAY_MS : LATER_MS);
      const turns = createTurns(choices);
      const isolate = (id: number): Promise<AppHarness> => {
        const { database, store } = through(turns.step(id));
        return createAppHarness({ copied: edge, db: database(edge.db), wrap: store });
      };
      const works = [
        ...others.map(
          (kind) => (graft: AppHarness) =>
            kind === 'erase' ? erase(graft, 'a') : graft.request('/admin/gc', { body: {} }),
        ),
        ...counts.map(
          (count) => (graft: AppHarness) =>
            send(graft, splitParts(new Uint8Array(bytes), Math.ceil(bytes.length / count))),
        ),
      ];
      await turns.run(works.map(async (work, id) => work(await isolate(id))));
      edge.clock.advance(LATER_MS);
      const held = await edge.services.blobLedger.holds(digest, 'default');
      if (held) expect((await edge.publish('b', FILES[0])).status).toBe(201);
      if (held) await needed(edge);
      await everythingCollected(edge, 8);
      await isClean(edge);
    }),
    { numRuns: 150, seed: 20_261_201 },
  );
});
