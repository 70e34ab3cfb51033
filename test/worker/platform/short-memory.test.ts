import { CacheRoom } from '../../../worker/platform/bounded-map.ts';
import { describe, expect, it } from 'vitest';
import { withShortMemory } from '../../../worker/platform/kv-cache.ts';
import type { Lookup } from '../../../worker/platform/ports.ts';

function rig(maxEntries = 2) {
  let time = 0;
  const reads: string[] = [];
  const answers = new Map<string, Lookup<string>>();
  const gate: { wait: Promise<void> } = { wait: Promise.resolve() };
  const memory = withShortMemory<string>(
    {
      get: async (key) => {
        reads.push(key);
        const answer = answers.get(key) ?? { state: 'absent' as const };
        await gate.wait;
        return answer;
      },
    },
    { ttlMs: 1000, maxEntries, room: new CacheRoom(Infinity), now: () => time },
  );
  const found = (value: string, stale = false): Lookup<string> => ({ state: 'found', value, stale });
  return { memory, reads, answers, gate, found, at: (ms: number) => (time = ms) };
}

describe('short memory', () => {
  it('reads a found key once within its time, and again at its end', async () => {
    const { memory, reads, answers, found, at } = rig();
    answers.set('a', found('1'));
    await memory.get('a');
    at(999);
    answers.set('a', found('2'));
    expect(await memory.get('a')).toEqual(found('1'));
    at(1000);
    expect(await memory.get('a')).toEqual(found('2'));
    expect(reads).toEqual(['a', 'a']);
  });

  it('asks again at once after a write here', async () => {
    const { memory, answers, found } = rig();
    answers.set('a', found('1'));
    await memory.get('a');
    answers.set('a', found('2'));
    memory.forget('a');
    expect(await memory.get('a')).toEqual(found('2'));
  });

  it('does not remember a read that a write overtook', async () => {
    const { memory, answers, gate, found } = rig();
    let open = (): void => undefined;
    gate.wait = new Promise((resolve) => (open = resolve));
    answers.set('a', found('old'));
    const slow = memory.get('a');
    answers.set('a', found('new'));
    memory.forget('a');
    open();
    expect(await slow).toEqual(found('old'));
    expect(await memory.get('a')).toEqual(found('new'));
  });

  it.each([
    ['an absence', { state: 'absent' }],
    ['a tombstone', { state: 'gone' }],
    ['trouble', { state: 'trouble', reason: 'x', retryAfterMs: 1 }],
    ['a stale value', { state: 'found', value: '1', stale: true }],
  ] satisfies [string, Lookup<string>][])('never remembers %s', async (_name, answer) => {
    const { memory, reads, answers } = rig();
    answers.set('a', answer);
    expect(await memory.get('a')).toEqual(answer);
    expect(await memory.get('a')).toEqual(answer);
    expect(reads).toEqual(['a', 'a']);
  });

  it('keeps a bounded number of keys', async () => {
    const { memory, reads, answers, found } = rig(2);
    for (const key of ['a', 'b', 'c']) answers.set(key, found(key));
    for (const key of ['a', 'b', 'c', 'c', 'b', 'a']) await memory.get(key);
    expect(reads).toEqual(['a', 'b', 'c', 'a']);
  });
});

describe('several keys at once', () => {
  const found = (value: string): Lookup<string> => ({ state: 'found', value, stale: false });

  it('are read together, but for those that are fresh, and come back in order', async () => {
    const reads: string[][] = [];
    const values = new Map([
      ['a', 'A'],
      ['c', 'C'],
    ]);
    const read = (key: string): Lookup<string> =>
      values.has(key) ? found(values.get(key) as string) : { state: 'absent' };
    const memory = withShortMemory<string>(
      {
        get: async (key) => read(key),
        getMany: async (keys) => {
          reads.push([...keys]);
          return keys.map(read);
        },
      },
      { ttlMs: 1_000, maxEntries: 10, room: new CacheRoom(Infinity), now: () => 0 },
    );
    await memory.get('c');
    expect(await memory.getMany(['a', 'b', 'c'])).toEqual([found('A'), { state: 'absent' }, found('C')]);
    expect(await memory.getMany(['c', 'b', 'a'])).toEqual([found('C'), { state: 'absent' }, found('A')]);
    expect(await memory.getMany(['a', 'c'])).toEqual([found('A'), found('C')]);
    expect(reads).toEqual([['a', 'b'], ['b']]);
  });
});
