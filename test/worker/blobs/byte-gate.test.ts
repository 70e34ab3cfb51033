import { describe, expect, it } from 'vitest';
import { ok } from '../../../protocol/api-error.ts';
import {
  createUploadMemoryLimit,
  type UploadMemoryLimit,
  type Holding,
} from '../../../worker/blobs/upload-memory-limit.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';

function rig() {
  const clock = new FakeClock();
  const gate = createUploadMemoryLimit({
    ...{ capacity: 72, tenantCapacity: 48, maxWaiting: 6, maxWaitingOfTenant: 4 },
    ...{ maxWaitMs: 30_000, pollMs: 25, staleMs: 60_000, retryAfterMs: 2_000 },
    now: clock.now,
    sleep: clock.sleep,
  });
  const log: string[] = [];
  let held = 0;
  let most = 0;
  /** @returns a way to end it, and what came of it. */
  const begin = (
    label: string,
    holding: Partial<Holding> & { bytes: number },
    through: UploadMemoryLimit = gate,
  ) => {
    let end = (): void => undefined;
    const ended = new Promise<void>((resolve) => (end = resolve));
    const done = through.hold({ tenant: label.slice(0, 1), kind: 'part', ...holding }, async () => {
      log.push(label);
      most = Math.max(most, (held += holding.bytes));
      await ended;
      held -= holding.bytes;
      return ok(label);
    });
    return { end, done };
  };
  const settle = () => new Promise((resolve) => setTimeout(resolve, 5));
  return { clock, gate, log, begin, settle, most: () => most };
}

describe('the gate of bytes', () => {
  it('holds no more than there is room for, and leaves room for another tenant', async () => {
    const { begin, log, settle, most } = rig();
    const [a1, a2] = [begin('a1', { bytes: 24 }), begin('a2', { bytes: 24 })];
    const a3 = begin('a3', { bytes: 24 });
    const b1 = begin('b1', { bytes: 24 });
    await settle();
    expect(log).toEqual(['a1', 'a2', 'b1']);
    const b2 = begin('b2', { bytes: 24 });
    a1.end();
    await a1.done;
    await settle();
    expect(log).toEqual(['a1', 'a2', 'b1', 'a3']);
    for (const one of [a2, a3, b1, b2]) one.end();
    await Promise.all([a2.done, a3.done, b1.done, b2.done]);
    expect([log.length, most()]).toEqual([5, 72]);
  });

  it('lets a tenant check one file at a time, and others theirs meanwhile', async () => {
    const { begin, log, settle } = rig();
    const checks = ['a1', 'a2', 'a3'].map((label) => begin(label, { kind: 'check', bytes: 20 }));
    const b1 = begin('b1', { kind: 'check', bytes: 20 });
    await settle();
    expect(log).toEqual(['a1', 'b1']);
    for (const one of [...checks, b1]) {
      one.end();
      await settle();
    }
    expect(log).toEqual(['a1', 'b1', 'a2', 'a3']);
  });

  it('refuses who comes when too many wait, and who has waited too long', async () => {
    const { begin, clock } = rig();
    const first = begin('a0', { kind: 'check', bytes: 20 });
    const waiting = ['a1', 'a2', 'a3', 'a4'].map((label) => begin(label, { kind: 'check', bytes: 20 }).done);
    const busy = { ok: false, error: { code: 'edge_busy', retryAfterMs: 2_000 } };
    expect(await begin('a5', { kind: 'check', bytes: 20 }).done).toMatchObject(busy);
    clock.advance(30_000);
    for (const one of await Promise.all(waiting)) expect(one).toMatchObject(busy);
    first.end();
    expect(await first.done).toEqual(ok('a0'));
  });

  it('forgets who was cut off, and who has gone', async () => {
    const { begin, clock, log, settle } = rig();
    begin('a1', { kind: 'check', bytes: 20 });
    const gone = new AbortController();
    const left = begin('a2', { kind: 'check', bytes: 20, signal: gone.signal });
    gone.abort();
    expect(await left.done).toMatchObject({ ok: false });
    clock.advance(60_001);
    const next = begin('a3', { kind: 'check', bytes: 20 });
    await settle();
    expect(log).toEqual(['a1', 'a3']);
    next.end();
    await next.done;
  });

  it('gives the room back when the work fails', async () => {
    const { gate, begin } = rig();
    const failed = gate.hold({ tenant: 'a', kind: 'check', bytes: 48 }, () => Promise.reject(new Error('x')));
    await expect(failed).rejects.toThrow('x');
    const next = begin('a1', { kind: 'check', bytes: 48 });
    next.end();
    expect(await next.done).toEqual(ok('a1'));
  });
});
