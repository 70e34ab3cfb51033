/** How many origins serve a name, in virtual time. */
import fc from 'fast-check';
import { beforeEach, describe, expect, it } from 'vitest';
import { DEMAND_WINDOW_MS, USUAL_HELD_MS } from '../../../protocol/demand.ts';
import {
  rankOrigins,
  type OriginState,
  newDemand,
  noteArrival,
  noteHeld,
  resize,
  rowsOf,
  chainKey,
  createReplicaSets,
  type ReplicaSets,
} from '../../../worker/origins/routing.ts';
import {
  FOLLOW_TIMEOUT_MS,
  REPLICA_RETRY_MS,
  REPLICA_SHRINK_AFTER_MS,
  RESIDENT_FRESH_MS,
} from '../../../worker/origins/limits.ts';

fc.configureGlobal({ seed: 31 });

const origins = Array.from({ length: 8 }, (_, i) => ({ id: `o${i}`, url: `http://o${i}` }));
const ids = rankOrigins('a/b', origins).map(({ id }) => id);
const byId = (id: string) => origins.find((origin) => origin.id === id)!;

let now: number;
let sets: ReplicaSets;
let states: Record<string, Partial<OriginState>>;
beforeEach(() => {
  now = 1_000_000;
  sets = createReplicaSets();
  states = {};
});

const stateOf = ({ id }: { id: string }): OriginState => ({
  ...{ load: 0, own: 0, slots: 16, ejected: false },
  ...states[id],
});
const arrive = (name = 'a/b') => sets.arrived(name, { name, origins, stateOf, now });
/**
 * Sends requests at a constant rate.
 * @returns the distinct sizes of its set.
 */
function ask(perSecond: number, seconds: number): number[] {
  const seen: number[] = [];
  for (let i = 0; i < perSecond * seconds; i += 1) {
    now += 1_000 / perSecond;
    const { set, toWarm } = arrive();
    for (const origin of toWarm) sets.showed('a/b', origin, now);
    if (seen.at(-1) !== set.count) seen.push(set.count);
  }
  return seen;
}

describe('demand', () => {
  it('is arrivals times the time per row, by Little’s law', () => {
    let demand = newDemand(0);
    for (let i = 1; i <= 3_000; i += 1) demand = noteArrival(demand, { now: i * 20, factor: 1 });
    // 50 a second for 2 s each; the window's last request is counted half too much.
    expect(rowsOf(demand)).toBeCloseTo(100, 0);
    for (let i = 0; i < 200; i += 1) demand = noteHeld(demand, 500);
    expect(rowsOf(demand)).toBeCloseTo(25, 0);
    const later = noteArrival(demand, { now: 3_000 * 20 + 10 * DEMAND_WINDOW_MS, factor: 1 });
    expect(rowsOf(later)).toBeLessThan(0.1);
  });

  it('never has fewer than one origin, or more than there are, for any input', () => {
    const event = fc.record({
      after: fc.nat(20_000),
      held: fc.nat(60_000),
      factor: fc.integer({ min: 1, max: 100 }),
    });
    fc.assert(
      fc.property(fc.array(event, { maxLength: 60 }), fc.integer({ min: 1, max: 64 }), (events, slots) => {
        let demand = newDemand(0);
        let at = 0;
        for (const { after, held, factor } of events) {
          at += after;
          const before = demand.replicas;
          demand = resize(noteArrival(noteHeld(demand, held), { now: at, factor }), {
            now: at,
            slots: Array<number>(8).fill(slots),
          });
          expect(demand.replicas).toBeGreaterThanOrEqual(Math.max(1, before - 1));
          expect(demand.replicas).toBeLessThanOrEqual(8);
        }
      }),
    );
  });
});

describe('replica sets', () => {
  it('leave cold names at one origin, and warm nothing for them', () => {
    for (let i = 0; i < 100; i += 1) {
      now += 1_000;
      expect(arrive()).toMatchObject({ set: { count: 1 }, before: null, toWarm: [] });
    }
  });

  it('grow within one window of a crowd to a quarter of each origin’s rows, in the name’s order', () => {
    // 10 a second for 2 s are 20 rows: five times a quarter of 16.
    const sizes = ask(10, 30);
    expect(sizes.slice(0, 5)).toEqual([1, 2, 3, 4, 5]);
    const { set } = arrive();
    expect(set.count).toBeGreaterThanOrEqual(5);
    expect(set.count).toBeLessThanOrEqual(6);
    const resident = ids.filter((id) => set.isResident(byId(id)));
    expect(resident).toEqual(ids.slice(0, set.count));
  });

  it('also grow by load that origins report from others', () => {
    for (const { id } of origins) states[id] = { load: 12, own: 3 };
    ask(5, 30);
    // Four times 5 a second, minus the running request.
    expect(arrive().set.count).toBeGreaterThanOrEqual(4);
  });

  it('do not grow by a single request in a quiet isolate', () => {
    for (const { id } of origins) states[id] = { load: 16, own: 0 };
    for (let i = 0; i < 5; i += 1) expect(arrive().set.count).toBe(1);
  });

  it('shrink by the last one, one at a time, some time after the demand is gone', () => {
    ask(20, 30);
    const most = arrive().set.count;
    const sizes = ask(1, 10);
    expect(sizes).toEqual([most]);
    const after = ask(1, REPLICA_SHRINK_AFTER_MS / 100);
    expect(after).toEqual(Array.from({ length: most }, (_, i) => most - i));
  });

  it('do not oscillate at the threshold', () => {
    // 4 rows are one origin's limit, which at 2 s each is 2 requests a second.
    const sizes = ask(2.1, 600);
    expect(sizes.length).toBeLessThanOrEqual(2);
  });

  it('ask each origin once to load the chain, and again after a failure or a long silence', () => {
    for (let i = 0; i < 2_000; i += 1) arrive();
    expect(arrive().set.count).toBe(origins.length);
    const asked = () => arrive().toWarm.map(({ id }) => id);
    expect(asked()).toEqual([]);
    now += FOLLOW_TIMEOUT_MS / 2;
    expect(asked()).toEqual([]);
    now += FOLLOW_TIMEOUT_MS / 2;
    const [first = ''] = asked();
    expect(first).toBe(ids[0]);
    sets.didNotLoad('a/b', byId(first), now);
    now += REPLICA_RETRY_MS - 1;
    expect(asked()).not.toContain(first);
    now += 1;
    expect(asked()).toContain(first);
  });

  it('forget what was in memory after a while, and at once if the origin fails', () => {
    const { set } = arrive();
    const [first, second] = ids.map(byId);
    sets.showed('a/b', first!, now);
    sets.showed('a/b', second!, now);
    sets.lost(second!);
    expect([set.isResident(first!), set.isResident(second!)]).toEqual([true, false]);
    now += RESIDENT_FRESH_MS;
    expect(arrive().set.isResident(first!)).toBe(false);
  });

  it('skip ejected origins, and use the next ones', () => {
    states[ids[0]!] = { ejected: true };
    ask(20, 30);
    const { set } = arrive();
    expect(set.isResident(byId(ids[0]!))).toBe(false);
    expect(set.isResident(byId(ids[set.count]!))).toBe(true);
  });

  it('are bounded: the least recently requested name is forgotten', () => {
    sets = createReplicaSets({ maxNames: 3 });
    for (let i = 0; i < 100; i += 1) arrive('hot');
    expect(arrive('hot').set.count).toBeGreaterThan(1);
    for (const name of ['a', 'b', 'hot', 'c']) arrive(name);
    expect(sets.size()).toBe(3);
    expect(arrive('hot').set.count).toBeGreaterThan(1);
    for (const name of ['a', 'b', 'c']) arrive(name);
    expect(arrive('hot').set.count).toBe(1);
  });

  it('track each version separately', () => {
    const chain = (digest: string) => [{ digest }];
    expect(chainKey('a', chain('x'))).not.toBe(chainKey('a', chain('y')));
    expect(chainKey('a', chain('x'))).not.toBe(chainKey('b', chain('x')));
  });

  it('assume that a request takes as long as the name’s earlier ones', () => {
    for (let i = 0; i < 100; i += 1) sets.held('a/b', USUAL_HELD_MS);
    arrive();
    for (let i = 0; i < 100; i += 1) sets.held('a/b', 10);
    ask(50, 30);
    expect(arrive().set.count).toBe(1);
  });
});
