/** Writes to KV that land long after their timeout. */
import { expect, it, vi } from 'vitest';
import { adaptersOf } from '../../../protocol/experiment.ts';
import { createPointerSync, createRightsSync } from '../../../worker/registry/pointer-writer-object.ts';
import type { Pointer } from '../../../worker/registry/ports.ts';
import { experimentRow, keyRow, versionRow } from '../../contracts/sample-rows.ts';
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
    experiments: { put: async () => undefined, remove: async () => undefined },
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

it.each([
  ['none', 'was written late'],
  ['gone', 'was written late'],
  ['version', 'was written late'],
  ['none', 'had been read late'],
  ['version', 'had been read late'],
] as const)(
  'takes an experiment away again that lands after its name has become %s, because it %s',
  async (kind, why) => {
    const clock = new FakeClock();
    const row = versionRow('a', 1);
    const { id, owner, document } = experimentRow('a');
    const versions = adaptersOf(document).map((adapter) => {
      const [name = '', version] = adapter.split('@');
      return versionRow(name, Number(version));
    });
    const experiment = { id, owner, document, versions };
    const version: Pointer = { kind: 'version', row, strict: false, experiment };
    let pointer: Pointer = version;
    const inKv = new Set<string>();
    let land = (): void => undefined;
    let landed = false;
    const late = () => new Promise<void>((resolve) => (land = resolve));
    let reads = 0;
    const pointers = createPointerSync({
      ...{ intervalMs: 10, timeoutMs: 20, now: clock.now, sleep: clock.sleep },
      registry: {
        async pointerToWrite() {
          const read = { pointer, change: null };
          if (why === 'had been read late' && ++reads === 1) await late();
          return read;
        },
        pointersWritten: async () => undefined,
      },
      names: { put: async () => undefined, remove: async () => undefined },
      experiments: {
        async put(entry) {
          if (why === 'was written late') await late();
          inKv.add(entry.id);
          landed = true;
        },
        remove: async (gone) => void inKv.delete(gone),
      },
    });
    await expect(pointers.sync('a')).rejects.toThrow('no answer within 20 ms');
    clock.advance(20);
    pointer = kind === 'version' ? version : { kind };
    land();
    await vi.waitFor(() => expect(landed).toBe(true));
    await vi.waitFor(() => expect([...inKv]).toEqual(kind === 'version' ? [id] : []));
  },
);
