import { beforeEach, describe, expect, it } from 'vitest';
import {
  EJECT_MS,
  ORIGIN_LEASE_MS,
  LOAD_ANSWER_FRESH_MS,
  MAX_EJECT_MS,
  PULSE_MS,
} from '../../../worker/origins/limits.ts';
import { REQUEST_BUDGET_MS } from '../../../worker/limits.ts';
import { createOriginHealth, type OriginHealth } from '../../../worker/origins/routing.ts';

const a = { id: 'a', url: 'http://a' };
const b = { id: 'b', url: 'http://b' };

let now: number;
let health: OriginHealth;
beforeEach(() => {
  now = 1_000_000;
  health = createOriginHealth({ now: () => now });
});

describe('origin health', () => {
  it('counts running requests, once', () => {
    const leases = [health.start(a), health.start(a), health.start(b)];
    expect([health.stateOf(a).load, health.stateOf(b).load]).toEqual([2, 1]);
    leases[0]?.end();
    leases[0]?.end();
    expect(health.stateOf(a).load).toBe(1);
  });

  it('forgets requests that were cut off: streams soon, others when their budget is over', () => {
    health.start(a).renew();
    health.start(a);
    now += ORIGIN_LEASE_MS;
    expect(health.stateOf(a).load).toBe(1);
    now += REQUEST_BUDGET_MS;
    expect(health.stateOf(a).load).toBe(0);
  });

  it('treats an answer, and each part of a stream, as a sign of life', () => {
    expect(health.heardSince(a, 0)).toBe(false);
    const lease = health.start(a);
    expect(health.heardSince(a, now - 1)).toBe(false);
    health.answered(a, null);
    expect([health.heardSince(a, now - 1), health.heardSince(a, now)]).toEqual([true, false]);
    now += 10;
    lease.renew();
    expect([health.heardSince(a, now - 1), health.heardSince(a, now), health.heardSince(b, 0)]).toEqual([
      true,
      false,
      false,
    ]);
  });

  it('trusts an origin’s reported load for a while', () => {
    health.answered(a, '12/32');
    expect(health.stateOf(a)).toEqual({ load: 12, own: 0, slots: 32, ejected: false });
    now += LOAD_ANSWER_FRESH_MS;
    expect(health.stateOf(a)).toEqual({ load: 0, own: 0, slots: 32, ejected: false });
    for (const odd of ['', 'x', '1/0', '-1/3', '1/2;dead', '1e9/3', '9999999/1']) health.answered(b, odd);
    expect(health.stateOf(b)).toEqual({ load: 0, own: 0, slots: 16, ejected: false });
    health.full(a);
    expect(health.stateOf(a).load).toBeGreaterThanOrEqual(64);
  });

  it('adds its own requests to others’, which count less over time without reports', () => {
    const leases = [health.start(a), health.start(a)];
    // It runs ten, two of which are ours.
    health.answered(a, '10/16');
    expect(health.stateOf(a)).toMatchObject({ load: 10, own: 2 });
    leases.push(health.start(a));
    expect(health.stateOf(a)).toMatchObject({ load: 11, own: 3 });
    now += LOAD_ANSWER_FRESH_MS / 2;
    expect(health.stateOf(a)).toMatchObject({ load: 3 + 8 / 2, own: 3 });
    for (const lease of leases) lease.end();
    expect(health.stateOf(a)).toMatchObject({ load: 4, own: 0 });
  });

  it('ejects longer with each failure, up to a limit, until a probe is answered', () => {
    for (const expected of [1, 2, 4, 8, 16, 30, 30].map((seconds) => seconds * 1_000)) {
      health.failed(a);
      expect(health.toProbe([a, b])).toEqual([]);
      now += expected - 1;
      expect(health.toProbe([a, b])).toEqual([]);
      now += 1;
      expect(health.stateOf(a).ejected).toBe(true);
      expect(health.toProbe([a, b])).toEqual([a]);
      // No other request probes them in the meantime.
      expect(health.toProbe([a, b])).toEqual([]);
      now += PULSE_MS;
    }
    health.answered(a, null);
    expect(health.stateOf(a).ejected).toBe(false);
    expect(health.toProbe([a, b])).toEqual([]);
    health.failed(a);
    now += EJECT_MS;
    expect(health.toProbe([a])).toEqual([a]);
  });

  it('pauses an origin for as long as it asks, within limits', () => {
    health.failed(a, 5_000);
    now += 4_999;
    expect(health.toProbe([a])).toEqual([]);
    now += 1;
    expect(health.toProbe([a])).toEqual([a]);
    health.failed(b, 3_600_000);
    now += MAX_EJECT_MS;
    expect(health.toProbe([b])).toEqual([b]);
  });

  it('avoids an origin that announces its shutdown, without counting that as a failure', () => {
    health.answered(a, '3/16;draining');
    expect(health.stateOf(a)).toEqual({ load: 3, own: 0, slots: 16, ejected: true });
    now += EJECT_MS;
    expect(health.stateOf(a).ejected).toBe(false);
    expect(health.toProbe([a])).toEqual([]);
  });
});
