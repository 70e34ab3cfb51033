import { describe, expect, it } from 'vitest';
import { createGate } from '../../../worker/access/rate-limits.ts';

const SECOND = 1_000;

function rig(more: Partial<Parameters<typeof createGate>[0]> = {}) {
  let at = 1_000_000;
  const gate = createGate({
    limits: { perSecond: 10, burst: 20, atOnce: 100 },
    placeMs: 60 * SECOND,
    atOnceRetryMs: SECOND,
    maxEntries: 100,
    now: () => at,
    ...more,
  });
  /** @returns how many of `count` requests are admitted; each ends at once. */
  const passing = (who: string, count: number): number => {
    let passed = 0;
    for (let i = 0; i < count; i += 1) {
      const entered = gate.enter(who);
      if (entered.ok) entered.value();
      passed += Number(entered.ok);
    }
    return passed;
  };
  return { gate, passing, advance: (ms: number) => (at += ms) };
}

describe('a gate', () => {
  it('allows a burst, then a rate per second, for each caller separately', () => {
    const { gate, passing, advance } = rig();
    expect(passing('a', 50)).toBe(20);
    expect(gate.enter('a')).toMatchObject({ ok: false, error: { why: 'often', retryAfterMs: 100 } });
    expect(passing('b', 50)).toBe(20);
    advance(100);
    expect(passing('a', 50)).toBe(1);
    advance(SECOND);
    expect(passing('a', 50)).toBe(10);
    advance(3_600 * SECOND);
    expect(passing('a', 50)).toBe(20);
  });

  it('treats a clock that goes back as standing still', () => {
    const { passing, advance } = rig();
    expect(passing('a', 50)).toBe(20);
    advance(-60 * SECOND);
    expect(passing('a', 50)).toBe(0);
    advance(60 * SECOND);
    expect(passing('a', 50)).toBe(0);
  });

  it('holds slots until they are released or expire', () => {
    const { gate, advance } = rig({ limits: { perSecond: 10, burst: 20, atOnce: 2 } });
    const [first, second] = [gate.enter('a'), gate.enter('a')];
    expect([first.ok, second.ok]).toEqual([true, true]);
    const refused = { ok: false, error: { why: 'at_once', retryAfterMs: SECOND } };
    expect(gate.enter('a')).toMatchObject(refused);
    expect(gate.enter('b').ok).toBe(true);
    if (first.ok) for (let i = 0; i < 3; i += 1) first.value();
    expect(gate.enter('a').ok).toBe(true);
    expect(gate.enter('a')).toMatchObject(refused);
    advance(60 * SECOND);
    expect([gate.enter('a').ok, gate.enter('a').ok, gate.enter('a').ok]).toEqual([true, true, false]);
  });

  it('remembers a bounded number of callers, plus all with running requests', () => {
    const { gate, passing } = rig({ limits: { perSecond: 10, burst: 20, atOnce: 1 } });
    const held = gate.enter('busy');
    for (let i = 0; i < 1_000; i += 1) passing(`asker ${i}`, 1);
    expect(gate.size).toBeLessThanOrEqual(101);
    expect(gate.enter('busy').ok).toBe(false);
    if (held.ok) held.value();
    expect(gate.enter('busy').ok).toBe(true);
  });
});
