/** Writes to KV that land long after their timeout. */
import { expect, it, vi } from 'vitest';
import { createPointerSync, createRightsSync } from '../../../worker/registry/pointer-writer-object.ts';
import { keyRow } from '../../contracts/sample-rows.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';

it('marks an erased name again if an older write lands on the mark', async () => {
  const clock = new FakeClock();
  const lanes = { intervalMs: 1_000, timeoutMs: 20, now: clock.now, sleep: clock.sleep };
  const inKv: string[] = [];
  const releases: (() => void)[] = [];
  /** Lands when released, long after its timeout. */
  const late = async (what: string) => {
    await new Promise<void>((resolve) => releases.push(resolve));
    inKv.push(what);
  };
  let erased = false;
  const pointers = createPointerSync({
    ...lanes,
    registry: {
      pointerToWrite: async () => ({
        pointer: erased ? { kind: 'none' } : { kind: 'alias', target: 'x' },
        change: null,
      }),
      pointersWritten: async () => undefined,
    },
    names: { put: () => late('name'), remove: async (_, ttl) => void inKv.push(`no name, ${ttl} s`) },
    experiments: { put: async () => undefined },
  });
  const row = keyRow('k', { hash: 'f'.repeat(64), tenant: 'acme' });
  const rights = createRightsSync({
    ...lanes,
    keyLedger: { toWrite: async () => ({ row: erased ? null : row, change: null }) },
    keys: { put: () => late('key'), revoke: async () => void inKv.push('no key') },
    grantLedger: { toWrite: async () => ({ rows: [], refusals: [], change: null }) },
    grants: { put: async () => undefined },
    staleRights: { written: async () => undefined },
  });
  const given = await Promise.allSettled([pointers.sync('a'), rights.syncKey(row.hash)]);
  expect(given.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  expect(releases).toHaveLength(2);
  erased = true;
  await pointers.sync('a', { erased: true });
  await rights.syncKey(row.hash, { mark: true });
  const marks = [...inKv];
  for (const release of releases) release();
  await vi.waitFor(() => expect(inKv).toHaveLength(6));
  expect(inKv.slice(4).sort()).toEqual(marks.sort());
});
