/** Copying an adapter to an origin: what happens when the origin does not answer. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import { err, ok } from '../../../protocol/api-error.ts';
import type { BlobStore } from '../../../worker/blobs/ports.ts';
import type { OriginFetch } from '../../../worker/origins/connection.ts';
import { TRANSFER_STALL_MS } from '../../../worker/origins/limits.ts';
import { createTransfers } from '../../../worker/origins/transfers.ts';

const DIGEST = 'd'.repeat(64);
const MiB = 1024 * 1024;
const RECORD = { bytes: 2 * MiB, parts: [{ bytes: 2 * MiB, sha256: 'a'.repeat(64) }] };

/** @param hangs paths that the origin never answers. */
function push(hangs: RegExp): { asked: string[]; pushed: Promise<unknown> } {
  const asked: string[] = [];
  const send: OriginFetch = (_origin, call) => {
    asked.push(call.path);
    if (!hangs.test(call.path)) return Promise.resolve(ok(Response.json({ missing_parts: [0] })));
    return new Promise((resolve) =>
      call.signal?.addEventListener('abort', () =>
        resolve(err({ kind: 'unreachable', reason: 'it took too long' })),
      ),
    );
  };
  const blobs = {
    getRecord: () => Promise.resolve(RECORD),
    getPart: () => Promise.resolve(new Response(new Uint8Array(1)).body),
  } as Partial<BlobStore> as BlobStore;
  const transfers = createTransfers({ blobs, send, now: Date.now, sleep: () => Promise.resolve() });
  const pushed = transfers.pushAdapter({ id: 'o1', url: 'http://o1.test' } as never, DIGEST, {
    until: Infinity,
    keepAlive: () => undefined,
  });
  return { asked, pushed };
}

describe('a transfer to an origin that falls silent', () => {
  afterEach(() => void vi.restoreAllMocks());

  /** @returns how long each call may take, ms; they are over at once. */
  function timeouts(): number[] {
    const given: number[] = [];
    vi.spyOn(AbortSignal, 'timeout').mockImplementation((ms) => {
      given.push(ms);
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 1);
      return controller.signal;
    });
    return given;
  }

  it('ends after two attempts to send a part, each with time for its bytes', async () => {
    const given = timeouts();
    const { asked, pushed } = push(/parts/);
    await expect(pushed).resolves.toMatchObject({ ok: false, error: { code: 'adapter_unavailable' } });
    expect(asked.filter((path) => path.includes('/parts/'))).toHaveLength(2);
    expect(given.every((ms) => ms >= TRANSFER_STALL_MS && Number.isInteger(ms))).toBe(true);
    expect(given.at(-1)).toBeGreaterThan(TRANSFER_STALL_MS + 20_000);
  });

  it('ends when the origin does not take the announcement', async () => {
    timeouts();
    const { pushed } = push(/adapters\/d+$/);
    await expect(pushed).resolves.toMatchObject({ ok: false, error: { code: 'adapter_unavailable' } });
  });
});
