/** What an isolate makes of origins' notes, lying ones included. */
import { beforeEach, describe, expect, it } from 'vitest';
import {
  ASK_HEADER,
  chainHash,
  originHash,
  POOL_ASK_MS,
  POOL_HEADER,
  readPoolNotes,
  writePoolNotes,
} from '../../../protocol/pool-notes.ts';
import { createPoolKnowledge, type PoolKnowledge } from '../../../worker/origins/pool-knowledge.ts';
import {
  chooseOrigins,
  createOriginHealth,
  createReplicaSets,
  rankOrigins,
  type OriginHealth,
} from '../../../worker/origins/routing.ts';

const origins = Array.from({ length: 8 }, (_, i) => ({ id: `o${i}`, url: `http://o${i}` }));
const chain = [{ digest: 'd'.repeat(64) }];
let now: number;
let health: OriginHealth;
let knowledge: PoolKnowledge;
beforeEach(() => {
  now = 1_000_000;
  health = createOriginHealth({ now: () => now });
  knowledge = createPoolKnowledge({ origins, health, now: () => now });
});
const notes = (of: Record<string, { rows: number; slots?: number; chain?: number }>, ageMs = 0): string =>
  writePoolNotes(
    Object.entries(of).map(([id, { rows, slots = 16, chain: takes }]) => [
      originHash(id),
      {
        ...{ rows, slots, at: now - ageMs },
        chains: new Map(takes === undefined ? [] : [[chainHash(chain), takes]]),
      },
    ]),
    now,
  );
const origin = (id: string) => origins.find((one) => one.id === id)!;
const order = (name: string) =>
  chooseOrigins({ name, spread: 'r', origins, stateOf: health.stateOf }).map(({ id }) => id);
const ranked = (name: string) => rankOrigins(name, origins).map(({ id }) => id);

describe('one answer', () => {
  it('tells an isolate the load of all origins, and which have a hot chain', () => {
    const [home = '', second = ''] = ranked('hot');
    knowledge.heard(
      origin(home),
      notes({ [home]: { rows: 12, chain: 4 }, [second]: { rows: 3, chain: 3.5 } }),
    );
    expect(health.stateOf(origin(second)).load).toBe(3);
    const told = knowledge.demandOf(origins, chain);
    expect(told.rows).toBe(7.5);
    const sets = createReplicaSets();
    const { set, toWarm } = sets.arrived('hot', {
      ...{ name: 'hot', origins, stateOf: health.stateOf, now, told },
    });
    expect(set.count).toBe(2);
    expect(toWarm).toEqual([]);
    expect(set.isResident(origin(second))).toBe(true);
  });

  it('is asked for again after a while only', () => {
    const ask = () => knowledge.headersFor(origin('o1'), true)[ASK_HEADER];
    expect(ask()).toBe('pool turn');
    knowledge.heard(origin('o1'), notes({ o1: { rows: 1 }, o2: { rows: 2 } }));
    expect(ask()).toBe('own turn');
    now += POOL_ASK_MS;
    expect(ask()).toBe('pool turn');
    expect(knowledge.headersFor(origin('o1'), false)[ASK_HEADER]).toBe('pool');
  });

  it('is carried to the others, as far as the origin spoke of itself', () => {
    knowledge.heard(origin('o1'), notes({ o1: { rows: 5 }, o2: { rows: 7 } }));
    const carried = readPoolNotes(knowledge.headersFor(origin('o3'), true)[POOL_HEADER]!)!;
    expect(carried.map((one) => [one.origin, one.note.rows])).toEqual([[originHash('o1'), 5]]);
  });

  it('stays in its pool', () => {
    const bases = [
      ...['a1', 'a2'].map((id) => ({ id, url: `http://${id}`, base: 'a' })),
      { id: 'b1', url: 'http://b1', base: 'b' },
    ];
    const of = createPoolKnowledge({ origins: bases, health, now: () => now });
    of.heard(bases[0]!, notes({ a1: { rows: 1 }, b1: { rows: 9 } }));
    expect(health.stateOf(bases[2]!).load).toBe(0);
    // A lone origin has nobody to hear of.
    expect(of.headersFor(bases[2]!, true)).toEqual({});
  });
});

describe('an origin that lies', () => {
  it('cannot name an origin that is not in the list', () => {
    knowledge.heard(origin('o1'), notes({ evil: { rows: 0, slots: 60_000, chain: 9 } }));
    expect(knowledge.demandOf(origins, chain).holders.size).toBe(0);
    expect(order('any').sort()).toEqual(origins.map(({ id }) => id));
    expect(knowledge.headersFor(origin('o2'), true)[POOL_HEADER]).toBeUndefined();
  });

  it('draws no cold name that is not its own, whatever it says of the others', () => {
    const lies = Object.fromEntries(origins.map(({ id }) => [id, { rows: id === 'o1' ? 0 : 60_000 }]));
    knowledge.heard(origin('o1'), notes({ ...lies, o1: { rows: 0, slots: 60_000 } }));
    for (let i = 0; i < 200; i += 1) expect(order(`name-${i}`)[0]).toBe(ranked(`name-${i}`)[0]);
  });

  it('gets no adapter by saying that many ask for it', () => {
    const [home = '', liar = ''] = ranked('hot');
    const warmed = () =>
      createReplicaSets()
        .arrived('hot', {
          ...{ name: 'hot', origins, stateOf: health.stateOf, now },
          told: knowledge.demandOf(origins, chain),
        })
        .toWarm.map(({ id }) => id);
    // Of itself and of others, without saying that it has it in memory: it would be sent the file.
    knowledge.heard(origin(liar), notes({ [home]: { rows: 16, chain: 30 }, o9: { rows: 1, chain: 30 } }));
    expect(warmed()).not.toContain(liar);
    now += 1;
    knowledge.heard(origin(home), notes({ [home]: { rows: 16, chain: 7 } }));
    expect(warmed()).toEqual([liar]);
  });

  it('is believed about others until they speak for themselves', () => {
    knowledge.heard(origin('o1'), notes({ o2: { rows: 14 } }));
    expect(health.stateOf(origin('o2')).load).toBe(14);
    now += 1;
    health.answered(origin('o2'), '2/16');
    knowledge.heard(origin('o1'), notes({ o2: { rows: 14 } }, 100));
    expect(health.stateOf(origin('o2')).load).toBe(2);
  });

  it('does not get its lies carried on', () => {
    knowledge.heard(origin('o1'), notes({ o2: { rows: 14 }, o3: { rows: 14 } }));
    expect(knowledge.headersFor(origin('o4'), true)[POOL_HEADER]).toBeUndefined();
  });

  it('has nothing thrown at it by what it sends', () => {
    for (const header of ['', '!', 'A'.repeat(100_000), 'AAAA']) knowledge.heard(origin('o1'), header);
    expect(health.stateOf(origin('o2')).load).toBe(0);
  });
});
