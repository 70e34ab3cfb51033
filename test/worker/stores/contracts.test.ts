import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { unstable_splitSqlQuery } from 'wrangler';
import { createD1BlobLedger } from '../../../worker/stores/d1-blob-ledger.ts';
import { guardDatabase, type SqlDatabase } from '../../../worker/stores/d1-database.ts';
import { createD1KeyLedger } from '../../../worker/stores/d1-key-ledger.ts';
import { createD1Registry } from '../../../worker/stores/d1-registry.ts';
import { createKvBlobStore } from '../../../worker/stores/kv-blob-store.ts';
import { createKvKeyIndex } from '../../../worker/stores/kv-key-index.ts';
import { createKvNameIndex } from '../../../worker/stores/kv-name-index.ts';
import type { KvNamespace } from '../../../worker/stores/kv-namespace.ts';
import { createSealer } from '../../../worker/stores/sealed-value.ts';
import { blobStoreContract, keyIndexContract, nameIndexContract } from '../../contracts/kv-indexes.ts';
import { kvNamespaceContract } from '../../contracts/kv-namespace.ts';
import { blobLedgerContract, keyLedgerContract } from '../../contracts/ledgers.ts';
import { registryContract } from '../../contracts/registry.ts';
import { FakeClock } from '../../fakes/fake-clock.ts';
import { FakeKv } from '../../fakes/fake-kv.ts';
import { createFakeBlobLedger, createFakeKeyLedger } from '../../fakes/fake-ledgers.ts';
import { createFakeRegistry } from '../../fakes/fake-registry.ts';

const MIGRATIONS = path.join(import.meta.dirname, '../../../migrations');
let miniflare: Miniflare;
const statements: string[] = [];

beforeAll(async () => {
  miniflare = new Miniflare({
    modules: true,
    script: 'export default {}',
    kvNamespaces: ['KV'],
    d1Databases: ['DB'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });
  for (const file of (await readdir(MIGRATIONS)).sort())
    statements.push(...unstable_splitSqlQuery(await readFile(path.join(MIGRATIONS, file), 'utf8')));
});
afterAll(() => miniflare.dispose());

const realKv = async () => (await miniflare.getKVNamespace('KV')) as unknown as KvNamespace;

/** An empty database with the real schema. */
async function realDb(): Promise<SqlDatabase> {
  const db = (await miniflare.getD1Database('DB')) as unknown as SqlDatabase;
  const { results } = await db
    .prepare("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\'")
    .all<{ name: string }>();
  for (const { name } of results) await db.prepare(`DROP TABLE "${name}"`).run();
  await db.batch(statements.map((statement) => db.prepare(statement)));
  return guardDatabase(db);
}

const sealer = createSealer(new Uint8Array(32).fill(1));
const pointer = (kv: KvNamespace, sleep: (ms: number) => Promise<void>) => ({
  kv,
  sealer,
  cacheTtl: 30,
  retryAfterMs: 1_000,
  pacing: { pauseMs: 1_100, tries: 4, sleep },
});
const noSleep = async () => undefined;

function fake() {
  const clock = new FakeClock();
  const kv = new FakeKv(clock.now);
  return { kv, params: pointer(kv, clock.sleep), afterWrite: () => clock.advance(61_000) };
}
const blobs = { cacheTtl: 86_400, retryCacheTtl: 30, timeoutMs: 10_000 };

kvNamespaceContract('the fake', async () => fake().kv);
kvNamespaceContract('Miniflare', realKv);

nameIndexContract('the fake', async () => {
  const { params, afterWrite } = fake();
  return { index: createKvNameIndex(params), afterWrite };
});
nameIndexContract('Miniflare', async () => ({
  index: createKvNameIndex(pointer(await realKv(), noSleep)),
  afterWrite: () => undefined,
}));

keyIndexContract('the fake', async () => {
  const { params, afterWrite } = fake();
  return { index: createKvKeyIndex(params), afterWrite };
});
keyIndexContract('Miniflare', async () => ({
  index: createKvKeyIndex(pointer(await realKv(), noSleep)),
  afterWrite: () => undefined,
}));

blobStoreContract('the fake', async () => createKvBlobStore({ ...fake().params, ...blobs }));
blobStoreContract('Miniflare', async () =>
  createKvBlobStore({ ...pointer(await realKv(), noSleep), ...blobs }),
);

registryContract('the fake', async () => createFakeRegistry());
registryContract('D1', async () => createD1Registry(await realDb()));
blobLedgerContract('the fake', async () => createFakeBlobLedger());
blobLedgerContract('D1', async () => createD1BlobLedger(await realDb()));
keyLedgerContract('the fake', async () => createFakeKeyLedger());
keyLedgerContract('D1', async () => createD1KeyLedger(await realDb()));
