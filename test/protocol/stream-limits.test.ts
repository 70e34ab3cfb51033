import { expect, it } from 'vitest';
import { STREAM_HEARTBEAT_MS, STREAM_STALL_MS } from '../../protocol/limits.ts';
import { LEASE_MS } from '../../worker/metering/limits.ts';
import { ORIGIN_LEASE_MS, STREAM_STALL_CHECK_MS } from '../../worker/origins/limits.ts';

/** What a request whose client has gone is given on Cloudflare, to count what it used. */
const AFTER_CLIENT_MS = 30_000;

it('a stream counts as dead only after two missing signs of life, and soon enough to be counted', () => {
  expect(STREAM_STALL_MS).toBeGreaterThan(2 * STREAM_HEARTBEAT_MS + STREAM_STALL_CHECK_MS);
  const latest = STREAM_STALL_MS + STREAM_STALL_CHECK_MS;
  expect(latest).toBeLessThan(AFTER_CLIENT_MS);
  expect(latest).toBeLessThan(Math.min(ORIGIN_LEASE_MS, LEASE_MS));
});
