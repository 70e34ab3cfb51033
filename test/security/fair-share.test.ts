/** One tenant wants all rows of an origin, or its whole queue: what the others get meanwhile. */
import { describe, expect, it } from 'vitest';
import type { EngineHandle } from '../../gpu-origin/engine/engine.ts';
import { GREEDY } from '../../gpu-origin/generation/sampler.ts';
import { collect, gate, request, rig, start, until, type Rig } from '../gpu-origin/engine/harness.ts';

const SLOTS = 16;
/** Tokens that a row stays in the batch before it makes room. */
const MIN_RUN = 64;

const long = { ...GREEDY, maxTokens: 8_000, ignoreEos: true };
const short = { ...GREEDY, maxTokens: 32, ignoreEos: true };

/** Rows of each tenant in the batch, as the steps show them: a prompt begins with its tenant's number. */
function watch() {
  let rows: number[] = [];
  const prefilled = new Map<number, number>();
  let step = 0;
  return {
    of: (tenant: number): number => rows.filter((row) => row === tenant).length,
    firstChunk: (tenant: number): number | undefined => prefilled.get(tenant),
    get step() {
      return step;
    },
    duringStep(run: { kind: string; rows: readonly { tokens: readonly number[] }[] }): void {
      step += 1;
      const tenants = run.rows.map(({ tokens }) => tokens[0]!);
      if (run.kind === 'decode') rows = tenants;
      else if (!prefilled.has(tenants[0]!)) prefilled.set(tenants[0]!, step);
    },
  };
}

const fill = (built: Rig, tenant: number, count: number, sampling = long): Promise<EngineHandle[]> =>
  Promise.all(
    Array.from({ length: count }, () =>
      start(built.engine, { tenant: `t${tenant}`, prompt: [tenant, 5, 9], sampling }),
    ),
  );

/** Reads so that no reader is too slow, and ends nothing. */
const read = (handles: readonly EngineHandle[]): void =>
  void Promise.all(handles.map((handle) => collect(handle).catch(() => undefined)));

async function crowded(...tenants: number[]) {
  const seen = watch();
  const built = rig({ runner: { slots: SLOTS, context: 8_192, duringStep: seen.duringStep } });
  for (const tenant of tenants) {
    read(await fill(built, tenant, SLOTS));
    const from = seen.step;
    await until(() => seen.step > from + MIN_RUN + 3 * SLOTS);
  }
  return { seen, built };
}

describe('a tenant with 16 streams of 8,000 tokens', () => {
  it('has the whole batch while nobody else wants any of it', async () => {
    const { seen, built } = await crowded(1);
    expect(seen.of(1)).toBe(SLOTS);
    expect(built.engine.stats()).toMatchObject({ running: SLOTS, waiting: 0, preempted: 0 });
    await built.engine.close();
  });

  it('makes room for another one at once, and has its row back afterwards', async () => {
    const { seen, built } = await crowded(1);
    const before = seen.step;
    const [bob] = await fill(built, 2, 1, short);
    const answer = collect(bob!);
    await until(() => seen.firstChunk(2) !== undefined || seen.step > before + 1_000);
    expect(seen.firstChunk(2)! - before).toBeLessThanOrEqual(3);
    expect(seen.of(1)).toBeGreaterThanOrEqual(SLOTS - 1);
    expect(built.engine.stats()).toMatchObject({ preempted: 1, running: SLOTS });
    expect((await answer).final.kind).toBe('end');
    await until(() => seen.of(1) === SLOTS);
    expect(built.engine.stats().preempted).toBe(0);
    await built.engine.close();
  });

  it.each([
    [2, [8, 8]],
    [3, [5, 6]],
    // The last one finds one place too few to set rows aside.
    [4, [3, 5]],
  ])('shares evenly with as greedy ones, %i in all', async (count, [least, most]) => {
    const tenants = Array.from({ length: count }, (_, index) => index + 1);
    const { seen, built } = await crowded(...tenants);
    for (const tenant of tenants) {
      expect(seen.of(tenant), `rows of tenant ${tenant}`).toBeGreaterThanOrEqual(least!);
      expect(seen.of(tenant), `rows of tenant ${tenant}`).toBeLessThanOrEqual(most!);
    }
    await built.engine.close();
  });
});

describe('a tenant that offers more than the queue holds', () => {
  const offer = (built: Rig, tenant: string, count: number) =>
    Promise.all(
      Array.from({ length: count }, () => built.engine.add(request({ tenant, sampling: { ...short } }))),
    );

  it('leaves their places to the others', async () => {
    const built = rig({ runner: { slots: SLOTS, context: 512 }, maxQueue: 256 });
    const ofAlice = await offer(built, 'alice', 320);
    const taken = ofAlice.filter(({ ok }) => ok).length;
    expect(taken).toBe(256);
    const bobs = await offer(built, 'bob', 12);
    expect(bobs.filter(({ ok }) => ok)).toHaveLength(12);
    // From now on she has a quarter, of which she has more.
    const more = await built.engine.add(request({ tenant: 'alice' }));
    expect(more).toMatchObject({ ok: false, error: { code: 'queue_full' } });
    expect(!more.ok && 'retryAfterMs' in more.error && more.error.retryAfterMs).toBeGreaterThan(0);
    await built.engine.close();
  });

  it('is one of several: a quarter each, and twice the queue in all', async () => {
    const built = rig({ runner: { slots: 4, duringStep: () => gate().opened }, maxQueue: 40 });
    await offer(built, 'first', 1);
    await until(() => built.engine.stats().running === 1);
    expect((await offer(built, 'first', 60)).filter(({ ok }) => ok)).toHaveLength(40);
    const taken: number[] = [];
    for (const tenant of ['a', 'b', 'c', 'd', 'e'])
      taken.push((await offer(built, tenant, 20)).filter(({ ok }) => ok).length);
    expect(taken).toEqual([10, 10, 10, 10, 0]);
  });
});
