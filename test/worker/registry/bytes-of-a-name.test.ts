/** What names take in D1, with all indexes: the 10 GB of one database bound how many there can be. */
import { expect, it } from 'vitest';
import { createD1Stores } from '../../../worker/d1-stores.ts';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { digestOf, keyRow, versionRow } from '../../contracts/sample-rows.ts';
import { bytesOf, openSqlite } from '../platform/sqlite.ts';

const MOST_OF_NAME = 1_300;
const MOST_OF_VERSION = 1_250;
const NAMES = 4_000;
const OF_TENANT = 100;
/** No divisor of the names: they come in no order, as do their digests. */
const STRIDE = 1_237;
const base = { id: 'tiny-base', digest: digestOf('base') };

interface Registered {
  i: number;
  name: string;
  owner: string;
  version: number;
}

/** Sends a file of one part and publishes it, as `graft publish` does. */
async function publish(
  { registry, blobLedger }: ReturnType<typeof createD1Stores>,
  { i, name, owner, version }: Registered,
  below: Registered | null,
): Promise<void> {
  const fileOf = (of: Registered) => digestOf(`${of.name}@${of.version}`);
  const digest = fileOf({ i, name, owner, version });
  const part = { index: 0, bytes: 5_000_000 + i, sha256: digest };
  const { index: _, ...recorded } = part;
  const at = 1_800_000_000_000 + 1_000 * i;
  await blobLedger.touch({ digest, at });
  await blobLedger.storing({ digest, part, at });
  await blobLedger.addPart({ digest, tenant: owner, part, since: at, at });
  await blobLedger.keep({ digest, sha256s: [digest], at });
  await blobLedger.finish({ digest, record: { bytes: part.bytes, parts: [recorded] }, since: at, at });
  await blobLedger.hold({ digest, tenant: owner, at });
  const proof = digestOf(`proof of ${digest}`);
  await blobLedger.storing({ digest, part: { bytes: 700, sha256: proof }, at });
  const own = { digest, scale: 1, name, owner, rank: 8 };
  const chain =
    below === null ? [own] : [{ digest: fileOf(below), scale: 1, name: below.name, owner, rank: 8 }, own];
  const row = versionRow(name, version, {
    ...{ digest, owner, chain, chainId: digestOf(JSON.stringify(chain)), base, proof },
    parent: below === null ? null : `${below.name}@${below.version}`,
    ...{ bytes: part.bytes, rankSum: 8 * chain.length, createdAt: at, createdBy: keyOf(owner) },
  });
  const before = await registry.name(name);
  const claimant = before === null ? owner : null;
  const published = await registry.publish({ row, stage: false, before, claimant, sentBy: owner });
  expect(published.ok).toBe(true);
  const { change } = await registry.pointerToWrite(name);
  await registry.pointersWritten([{ name, change: change ?? 0 }]);
}

const keyOf = (owner: string): string => `key_${digestOf(owner).slice(0, 16)}`;

const nameOf = (i: number, version: number): Registered => {
  const owner = `u${String(Math.floor(i / OF_TENANT)).padStart(5, '0')}`;
  return { i, owner, name: `${owner}/task-${String(i % OF_TENANT).padStart(2, '0')}`, version };
};

const sizeOf = (db: SqlDatabase): number => bytesOf(db).length;

it(`takes at most ${MOST_OF_NAME} bytes for a name with one version, and ${MOST_OF_VERSION} for another version`, async () => {
  const db = openSqlite();
  const ledgers = createD1Stores(db);
  for (let i = 0; i < NAMES; i += OF_TENANT) {
    const { owner } = nameOf(i, 1);
    await ledgers.keyLedger.add(keyRow(keyOf(owner), { tenant: owner }));
  }
  /** One in five stands on another one, which is there before. */
  const isChild = (i: number) => i % 5 === 4;
  const all = Array.from({ length: NAMES }, (_, k) => (k * STRIDE) % NAMES);
  const inOrder = [...all.filter((i) => !isChild(i)), ...all.filter(isChild)];
  const sizes = [sizeOf(db)];
  for (const version of [1, 2]) {
    for (const i of inOrder)
      await publish(ledgers, nameOf(i, version), isChild(i) ? nameOf(i - 4, version) : null);
    sizes.push(sizeOf(db));
  }
  const [empty = 0, one = 0, two = 0] = sizes;
  const found = { name: (one - empty) / NAMES, version: (two - one) / NAMES };
  expect(found.name).toBeLessThanOrEqual(MOST_OF_NAME);
  expect(found.version).toBeLessThanOrEqual(MOST_OF_VERSION);
});
