import { describe, expect, it } from 'vitest';
import {
  MAX_TENANT_WAITING_BYTES,
  MAX_WAITING_BYTES,
  PromptQueue,
  SLICE_MS,
} from '../../../gpu-origin/prompts/prompt.ts';
import type { Chunked } from '../../../gpu-origin/model/tokenizer.ts';

/** Time passes by work alone: a step takes a millisecond. */
function rig() {
  const clock = {
    time: 0,
    yields: 0,
    now: () => clock.time,
    yield: () => new Promise<void>((resolve) => setImmediate(resolve)).then(() => void (clock.yields += 1)),
  };
  const queue = new PromptQueue(clock);
  const started: string[] = [];
  const ended: string[] = [];
  function* steps(name: string, count: number): Chunked<string> {
    for (let step = 1; ; step += 1) {
      started.push(name);
      clock.time += 1;
      if (step === count) return name;
      yield;
    }
  }
  const run = async (
    tenant: string,
    name: string,
    count: number,
    options: { bytes?: number; signal?: AbortSignal } = {},
  ) => {
    const { bytes = 1_000, signal = new AbortController().signal } = options;
    const result = await queue.run({ tenant, bytes, signal, steps: steps(name, count) });
    ended.push(name);
    return result;
  };
  return { clock, queue, run, started, ended };
}

describe('PromptQueue', () => {
  it('gives the event loop back after each slice', async () => {
    const { clock, run } = rig();
    expect(await run('alice', 'long', 100)).toEqual({ ok: true, value: 'long' });
    expect(clock.yields).toBeGreaterThanOrEqual(100 / SLICE_MS);
  });

  it('lets a short prompt wait for about one slice of a long one, of the same tenant too', async () => {
    const { clock, run, ended } = rig();
    const long = run('alice', 'long', 1_000);
    const short = [run('bob', 'bob', 1), run('alice', 'short', 1)];
    await Promise.all(short);
    expect(clock.time).toBeLessThanOrEqual(3 * SLICE_MS);
    await long;
    expect(ended).toEqual(['bob', 'short', 'long']);
  });

  it('takes turns by tenant, however many prompts each has', async () => {
    const { run, ended } = rig();
    const flood = Array.from({ length: 20 }, (_, at) => run('alice', `alice${at}`, 2 * SLICE_MS));
    await Promise.all([...flood, run('bob', 'bob', 2 * SLICE_MS)]);
    expect(ended.indexOf('bob')).toBeLessThan(2);
  });

  it('stops what nobody wants any more before its next slice, and gives its room back', async () => {
    const { queue, run, started } = rig();
    const gone = new AbortController();
    const long = run('alice', 'long', 1_000, { bytes: MAX_TENANT_WAITING_BYTES, signal: gone.signal });
    await new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
    gone.abort();
    expect(await long).toMatchObject({ ok: false });
    expect(started.length).toBeLessThan(10 * SLICE_MS);
    const again = queue.run({
      ...{ tenant: 'alice', bytes: MAX_TENANT_WAITING_BYTES, signal: new AbortController().signal },
      steps: one(),
    });
    expect(await again).toEqual({ ok: true, value: 1 });
  });

  it('bounds the bytes that wait, of a tenant and in all, and says when to come back', async () => {
    const { run } = rig();
    const held = run('alice', 'held', 50, { bytes: MAX_TENANT_WAITING_BYTES });
    const full = { ok: false, error: { code: 'queue_full', retryAfterMs: expect.any(Number) } };
    expect(await run('alice', 'more', 1, { bytes: 1 })).toMatchObject(full);
    const others = ['b', 'c', 'd'].map((tenant) =>
      run(tenant, tenant, 50, { bytes: MAX_TENANT_WAITING_BYTES }),
    );
    expect(4 * MAX_TENANT_WAITING_BYTES).toBe(MAX_WAITING_BYTES);
    expect(await run('e', 'e', 1, { bytes: 1 })).toMatchObject(full);
    await Promise.all([held, ...others]);
    // Alone, any prompt has room.
    expect(await run('alice', 'large', 1, { bytes: 2 * MAX_WAITING_BYTES })).toMatchObject({ ok: true });
  });

  it('rejects with what a step throws, and goes on', async () => {
    const { queue, run } = rig();
    const signal = new AbortController().signal;
    const failing = queue.run({ tenant: 'alice', bytes: 1, signal, steps: broken() });
    const other = run('bob', 'other', 20);
    await expect(failing).rejects.toThrow('a bug');
    expect(await other).toMatchObject({ ok: true });
  });
});

function* one(): Chunked<number> {
  return 1;
}

function* broken(): Chunked<never> {
  yield;
  throw new Error('a bug');
}
