/** Who goes first when memory is needed, and what is kept of the rest. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EvictionPolicy } from '../../../gpu-origin/engine/adapters/adapter-memory.ts';

const kept = (order: EvictionPolicy<string>, ...names: string[]): void => {
  for (const name of names) {
    order.use(name);
    order.hold(name);
    order.free(name);
  }
};

describe('the order of uses', () => {
  it('evicts the least used, and among equals the least recently used', () => {
    const order = new EvictionPolicy<string>();
    kept(order, 'a', 'b', 'c');
    order.use('a');
    expect(order.first()).toBe('b');
    order.drop('b');
    expect(order.first()).toBe('c');
    order.use('c');
    order.use('c');
    expect(order.first()).toBe('a');
  });

  it('never names a held entry', () => {
    const order = new EvictionPolicy<string>();
    kept(order, 'a', 'b');
    order.hold('a');
    expect(order.first()).toBe('b');
    order.hold('b');
    expect(order.first()).toBeNull();
    order.free('a');
    expect(order.first()).toBe('a');
  });

  it('continues counting for evicted entries', () => {
    const order = new EvictionPolicy<string>();
    for (let i = 0; i < 5; i += 1) kept(order, 'often');
    for (let i = 0; i < 3; i += 1) kept(order, 'now and then');
    order.drop('often');
    kept(order, 'often');
    expect(order.first()).toBe('now and then');
    kept(order, 'new');
    expect(order.first()).toBe('new');
  });

  it('discounts old uses: what was requested a thousand times is evicted for what is requested now', () => {
    const order = new EvictionPolicy<string>();
    for (let i = 0; i < 1_000; i += 1) kept(order, 'yesterday');
    for (let i = 0; i < 100; i += 1) kept(order, 'now');
    expect(order.first()).toBe('now');
    for (let i = 0; i < 10_000; i += 1) kept(order, i % 10 === 0 ? 'now' : 'other');
    expect(order.first()).toBe('yesterday');
  });

  it('spares preloaded entries, until others were preloaded or it was requested', () => {
    const order = new EvictionPolicy<string>();
    for (let i = 0; i < 3; i += 1) kept(order, 'a', 'b');
    const bring = (name: string) => {
      order.use(name);
      order.free(name);
    };
    bring('replica');
    expect(order.first()).toBe('a');
    bring('second replica');
    expect(order.first()).toBe('replica');
    order.drop('replica');
    expect(order.first()).toBe('a');
    order.use('second replica');
    expect(order.first()).toBe('second replica');
  });

  it('keeps its order while the time that halves a count follows what is kept', () => {
    const order = new EvictionPolicy<string>();
    kept(order, 'one');
    for (let i = 0; i < 3; i += 1) kept(order, 'three');
    for (let i = 0; i < 2; i += 1) kept(order, 'two');
    const many = Array.from({ length: 700 }, (_, i) => `n${i}`);
    for (const name of many) for (let i = 0; i < 8; i += 1) kept(order, name);
    for (const name of many) order.drop(name);
    const left: string[] = [];
    for (let name = order.first(); name !== null; name = order.first()) {
      left.push(name);
      order.drop(name);
    }
    expect(left).toEqual(['one', 'two', 'three']);
  });

  it('equals a plain list of decayed counts, within bounds', () => {
    const names = fc.integer({ min: 0, max: 30 });
    const step = fc.oneof(
      fc.record({ do: fc.constant('use' as const), name: names }),
      fc.record({ do: fc.constantFrom('hold' as const, 'free' as const, 'drop' as const), name: names }),
      fc.record({ do: fc.constant('evict' as const), name: names }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300 }), (steps) => {
        const order = new EvictionPolicy<number>();
        const model = new Map<
          number,
          { count: number; at: number; state: 'ahead' | 'free' | 'held' | 'gone' }
        >();
        let time = 0;
        const of = (name: number) => {
          const known = model.get(name) ?? { count: 0, at: 0, state: 'gone' as const };
          model.set(name, known);
          return known;
        };
        const countNow = (name: number) => of(name).count * 2 ** ((of(name).at - time) / 1_000);
        const inState = (state: string) => [...model].filter(([, one]) => one.state === state);
        const ahead: number[] = [];
        const leaveAhead = (name: number) =>
          void (ahead.includes(name) && ahead.splice(ahead.indexOf(name), 1));
        for (const { do: what, name } of steps) {
          const one = of(name);
          if (what === 'use') {
            order.use(name);
            time += 1;
            Object.assign(one, { count: 1 + countNow(name), at: time });
            if (one.state === 'ahead') one.state = 'free';
            if (one.state === 'free') leaveAhead(name);
          } else if (what === 'hold') {
            order.hold(name);
            leaveAhead(name);
            one.state = 'held';
          } else if (what === 'free') {
            order.free(name);
            if (one.state === 'held') one.state = 'free';
            if (one.state === 'gone') {
              one.state = 'ahead';
              ahead.push(name);
              const room = Math.max(1, (model.size - inState('gone').length) / 16);
              if (ahead.length > room) of(ahead.shift()!).state = 'free';
            }
          } else {
            const victim = what === 'evict' ? order.first() : name;
            if (what === 'evict') {
              const free = inState('free');
              const least = Math.min(...free.map(([each]) => countNow(each)));
              if (free.length > 0) {
                expect(of(victim!).state).toBe('free');
                expect(countNow(victim!)).toBeCloseTo(least, 6);
              } else expect(victim).toBe(ahead[0] ?? null);
            }
            if (victim === null) continue;
            order.drop(victim);
            leaveAhead(victim);
            of(victim).state = 'gone';
          }
          expect(order.kept).toBe(model.size - inState('gone').length);
        }
      }),
    );
  });

  it('remembers at most four times the kept entries, or 1,024', () => {
    const order = new EvictionPolicy<number>();
    for (let name = 0; name < 5_000; name += 1) {
      order.use(name);
      expect(order.gone).toBeLessThanOrEqual(1_024);
    }
    for (let name = 0; name < 400; name += 1) order.free(name);
    for (let name = 5_000; name < 10_000; name += 1) order.use(name);
    expect(order.gone).toBe(1_600);
  });
});
