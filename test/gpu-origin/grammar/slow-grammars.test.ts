/** What becomes of grammars that are slow to compile, of those whose masks are, and of everybody else's. */
import { afterEach, describe, expect, it } from 'vitest';
import type { RowGrammar } from '../../../gpu-origin/engine/ports.ts';
import { GrammarService } from '../../../gpu-origin/grammar/grammar-service.ts';
import { type AskedForm, GrammarWorkerLost } from '../../../gpu-origin/grammar/ports.ts';
import { gate, until } from '../engine/harness.ts';
import { BYTE_TOKENS } from './byte-core.ts';
import { type Behaviour, fakeWorkers, freeGrammar } from './fake-grammar-worker.ts';

const services: GrammarService[] = [];
afterEach(async () => {
  for (const service of services.splice(0)) await service.close();
});

function serviceOf(behaviours: Record<string, Behaviour> = {}) {
  const { start, workers } = fakeWorkers(behaviours);
  const time = { now: 0 };
  const service = new GrammarService({ startWorker: start, tokens: BYTE_TOKENS, now: () => time.now });
  services.push(service);
  const prepare = (asked: AskedForm, tenant: string) =>
    service.prepare({ asked, caller: { tenant, signal: new AbortController().signal } });
  const open = async (asked: AskedForm, tenant = 't'): Promise<RowGrammar> => {
    const prepared = await prepare(asked, tenant);
    if (!prepared.ok) throw new Error(prepared.error.message);
    const row = prepared.value.open();
    prepared.value.release();
    return row;
  };
  const step = async (row: RowGrammar, token = 97): Promise<boolean> => {
    const updates = service.update([row]);
    await Promise.all(updates.map(({ done }) => done));
    row.accept(token);
    return updates[0]!.slow;
  };
  return { service, workers, time, prepare, open, step };
}

const choice = (text: string): AskedForm => ({
  constraint: { constraint: { kind: 'choice', choices: [text] }, path: ['guided_choice'] },
  tools: null,
});

describe('masks that take long', () => {
  it('come from another worker than those of schemas from the first one on', async () => {
    const { workers, open, step } = serviceOf({ free: { maskMs: 4 } });
    await step(await open(freeGrammar('free')));
    await step(await open(choice('yes')));
    const stepping = workers.filter(({ steps }) => steps.length > 0);
    expect(stepping.map(({ compiled }) => compiled)).toEqual([['free'], ['yes']]);
  });

  it('move to a slow worker, which gives way and begins with all tokens', async () => {
    const { workers, open, step } = serviceOf({ slow: { maskMs: 6 }, quick: { maskMs: 0.1 } });
    const [slow, quick] = [await open(freeGrammar('slow')), await open(freeGrammar('quick'))];
    let steps = 0;
    for (; workers.every(({ gaveWay }) => !gaveWay); steps += 1) {
      expect(await step(slow)).toBe(false);
      await step(quick);
      expect(steps).toBeLessThan(20);
    }
    // 17 of 6 ms are more than 20 of 5.
    expect(steps).toBe(17);
    const moved = workers.find(({ gaveWay }) => gaveWay)!;
    const shared = workers.find((worker) => worker !== moved && worker.steps.length > 0)!;
    await until(() => moved.compiled.length === 1 && shared.rowsOpen.size === 1);
    expect(await step(slow)).toBe(true);
    expect(moved.steps[0]![0]!.accepted).toHaveLength(17);
    await step(slow);
    expect(moved.steps[1]![0]!.accepted).toEqual([97]);
    expect(await step(quick)).toBe(false);
    // New rows of it begin there.
    expect(await step(await open(freeGrammar('slow')))).toBe(true);
    expect([slow.failure, quick.failure]).toEqual([null, null]);
    slow.close();
    expect([...moved.rowsOpen.values()]).toEqual(['slow']);
  });

  it('end their row with an error that says what to do, and no other', async () => {
    const { open, step } = serviceOf({ endless: { maskMs: 51 }, slow: { maskMs: 49 } });
    const [endless, slow] = [await open(freeGrammar('endless')), await open(freeGrammar('slow'))];
    let steps = 0;
    for (; endless.failure === null && steps < 40; steps += 1) {
      await step(endless);
      await step(slow);
    }
    expect(endless.failure).toMatchObject({
      code: 'invalid_request',
      message: expect.stringContaining('too long per token') as string,
    });
    // After two it moves, the third begins anew; then 20 of 51 ms are more than 20 of 50.
    expect(steps).toBe(23);
    for (let more = 0; more < 40; more += 1) await step(slow);
    expect(slow.failure).toBeNull();
  });

  it('have three slow workers at most, and share them', async () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    const { workers, open, step } = serviceOf(
      Object.fromEntries(names.map((name) => [name, { maskMs: 30 }])),
    );
    const rows = await Promise.all(names.map((name) => open(freeGrammar(name))));
    for (let round = 0; round < 12; round += 1) for (const row of rows) await step(row);
    await until(
      () => workers.filter(({ gaveWay }) => gaveWay).flatMap(({ compiled }) => compiled).length === 5,
    );
    for (const row of rows) expect(await step(row)).toBe(true);
    expect(workers.filter(({ gaveWay, stopped }) => gaveWay && !stopped)).toHaveLength(3);
  });
});

describe('grammars that take long to compile', () => {
  it('hold up their own tenant for a minute, and nobody else', async () => {
    const { opened: stuck, open: release } = gate();
    const slow = ['s1', 's2', 's3'];
    const { time, workers, prepare } = serviceOf(Object.fromEntries(slow.map((name) => [name, { stuck }])));
    const compiled = () => workers.flatMap((worker) => worker.compiled);
    const mine = slow.map((name) => prepare(freeGrammar(name), 'attacker'));
    await until(() => compiled().includes('s1'));
    const others = await Promise.all(
      Array.from({ length: 20 }, (_, at) => prepare(choice(`c${at}`), `tenant ${at % 3}`)),
    );
    expect(others.every(({ ok }) => ok)).toBe(true);
    expect(compiled().filter((name) => slow.includes(name))).toEqual(['s1']);
    // Another slow one: cut off, since the place for these is taken.
    const second = prepare(freeGrammar('s2'), 'another');
    await until(() => compiled().includes('s2'));
    expect((await prepare(choice('last'), 'tenant 0')).ok).toBe(true);
    const quickOfSlow = prepare(choice('mine'), 'attacker');
    expect((await prepare(choice('very last'), 'tenant 1')).ok).toBe(true);
    expect(compiled()).not.toContain('mine');
    release();
    expect((await Promise.all([...mine, second, quickOfSlow])).every(({ ok }) => ok)).toBe(true);
    time.now += 60_001;
    expect((await prepare(choice('later'), 'attacker')).ok).toBe(true);
  });

  it.each([
    ['work', { code: 'invalid_request', param: 'guided_grammar' }],
    ['starved', { code: 'origin_unavailable', retryAfterMs: 5_000 }],
  ] as const)('are refused by the CPU time that they had: %s', async (reason, error) => {
    const { prepare } = serviceOf({ big: { lost: new GrammarWorkerLost('no answer', reason) } });
    expect(await prepare(freeGrammar('big'), 't')).toMatchObject({ ok: false, error });
    expect((await prepare(choice('next'), 't')).ok).toBe(true);
  });
});

it('shares a compiled grammar among equal requests, however functions are described', async () => {
  const { workers, prepare } = serviceOf();
  const tools = (description: string, parameters: Record<string, unknown>): AskedForm => ({
    constraint: null,
    tools: {
      use: { functions: [{ name: 'f', description, parameters }], choice: 'auto', parallel: true },
      ...{ format: 'hermes', within: ['function'] },
    },
  });
  const ofSchema = (schema: unknown): AskedForm => ({
    constraint: { constraint: { kind: 'json_schema', schema }, path: ['guided_json'] },
    tools: null,
  });
  const compiled = () => workers[0]?.compiled.length ?? 0;
  const counts: number[] = [];
  for (const asked of [
    tools('as of 9:00', { type: 'object' }),
    tools('as of 9:01', { type: 'object' }),
    tools('as of 9:01', { type: 'object', required: ['functions'] }),
    ofSchema({ properties: { functions: { type: 'string' } } }),
    ofSchema({ properties: { functions: { type: 'number' } } }),
    ofSchema({ properties: { functions: { type: 'number' } } }),
  ]) {
    expect((await prepare(asked, 't')).ok).toBe(true);
    counts.push(compiled());
  }
  expect(counts).toEqual([1, 1, 2, 3, 4, 4]);
});
