import { describe, expect, it } from 'vitest';
import { FairQueue } from '../../../gpu-origin/engine/scheduler.ts';

const item = (tenant: string, name = '') => ({ tenant, name });

describe('FairQueue', () => {
  it('serves the least served tenant first, and each in order of arrival', () => {
    const queue = new FairQueue<{ tenant: string; name: string }>();
    for (const name of ['1', '2']) queue.add(item('a', name));
    for (const name of ['3', '4']) queue.add(item('b', name));
    queue.charge('a', 5);
    expect([...queue.ordered()].map((entry) => entry.name)).toEqual(['3', '4', '1', '2']);
    queue.charge('b', 6);
    expect([...queue.ordered()].map((entry) => entry.name)).toEqual(['1', '2', '3', '4']);
    expect([queue.size, queue.of('a').length, queue.of('c').length]).toEqual([4, 2, 0]);
  });

  it('raises new and returning tenants to the smallest counter in the queue, so that idleness is not saved', () => {
    const queue = new FairQueue<{ tenant: string; name: string }>();
    queue.add(item('a'));
    queue.charge('a', 1_000);
    queue.add(item('new'));
    expect(queue.counterOf('new')).toBe(1_000);
  });

  it('lifts to the last one that left when the queue is empty, and never lowers', () => {
    const queue = new FairQueue<{ tenant: string; name: string }>();
    const first = item('a');
    queue.add(first);
    queue.charge('a', 70);
    queue.remove(first);
    queue.charge('a', 7);
    queue.add(item('b'));
    expect(queue.counterOf('b')).toBe(70);
    queue.add(item('a'));
    expect(queue.counterOf('a')).toBe(77);
  });

  it('does not grow with tenants that have left', () => {
    const queue = new FairQueue<{ tenant: string; name: string }>();
    for (let tenant = 0; tenant < 20_000; tenant += 1) {
      const entry = item(`t${tenant}`);
      queue.add(entry);
      queue.charge(entry.tenant, 1);
      queue.remove(entry);
    }
    queue.add(item('next'));
    // Whoever was forgotten comes back at the floor, not at zero.
    expect(queue.counterOf('next')).toBe(20_000);
    expect(queue.counterOf('t0')).toBe(0);
  });

  it('refuses to remove what it does not hold', () => {
    const queue = new FairQueue<{ tenant: string; name: string }>();
    expect(() => queue.remove(item('a'))).toThrow('not in the queue');
  });
});
