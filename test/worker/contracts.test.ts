import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createD1BlobLedger } from '../../worker/blobs/d1-blob-ledger.ts';
import { createD1GrantLedger } from '../../worker/access/d1-grants.ts';
import { createD1KeyLedger } from '../../worker/access/d1-key-ledger.ts';
import { createD1TenantLimits } from '../../worker/metering/d1-tenant-limits.ts';
import { createKvGrantIndex, createKvKeyIndex, createKvNameIndex } from '../../worker/registry/kv-indexes.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import type { KvNamespace } from '../../worker/platform/store-calls.ts';
import { createSealer } from '../../worker/platform/kv-cache.ts';
import { grantLedgerContract } from '../contracts/grants.ts';
import { grantIndexContract, keyIndexContract, nameIndexContract } from '../contracts/kv-indexes.ts';
import { kvNamespaceContract } from '../contracts/kv-namespace.ts';
import { blobLedgerContract, keyLedgerContract } from '../contracts/ledgers.ts';
import { tenantLimitsContract } from '../contracts/tenant-limits.ts';
import { FakeClock } from '../fakes/fake-clock.ts';
import { createFakeGrantLedger } from '../fakes/fake-grants.ts';
import { FakeKv } from '../fakes/fake-kv.ts';
import { createFakeBlobLedger } from '../fakes/fake-blob-ledger.ts';
import { createFakeKeyLedger } from '../fakes/fake-ledgers.ts';
import { createFakeTenantLimits } from '../fakes/fake-tenant-limits.ts';
import { migrate, openRealDatabase } from './platform/real-database.ts';

let miniflare: Miniflare;

beforeAll(async () => {
  miniflare = new Miniflare({
    modules: true,
    script: 'export default {}',
    kvNamespaces: ['KV'],
    d1Databases: ['DB', 'OLD'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });
});
afterAll(() => miniflare.dispose());

const realKv = async () => (await miniflare.getKVNamespace('KV')) as unknown as KvNamespace;

const realDb = () => openRealDatabase(miniflare);

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

let settled: () => void = () => undefined;
kvNamespaceContract(
  'the fake',
  async () => {
    const { kv, afterWrite } = fake();
    settled = afterWrite;
    return kv;
  },
  { settled: async () => settled() },
);
kvNamespaceContract('Miniflare', realKv, { listed: 20 });

nameIndexContract('the fake', async () => {
  const { params, afterWrite } = fake();
  return { index: createKvNameIndex(params), afterWrite };
});
nameIndexContract('Miniflare', async () => ({
  index: createKvNameIndex(pointer(await realKv(), noSleep)),
  afterWrite: () => undefined,
}));

grantIndexContract('the fake', async () => {
  const { params, afterWrite } = fake();
  return { index: createKvGrantIndex(params), afterWrite };
});
grantIndexContract('Miniflare', async () => ({
  index: createKvGrantIndex(pointer(await realKv(), noSleep)),
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

blobLedgerContract('the fake', async () => createFakeBlobLedger());
blobLedgerContract('D1', async () => createD1BlobLedger(await realDb()));
keyLedgerContract('the fake', async () => createFakeKeyLedger());
keyLedgerContract('D1', async () => createD1KeyLedger(await realDb()));
grantLedgerContract('the fake', async () => createFakeGrantLedger());
grantLedgerContract('D1', async () => createD1GrantLedger(await realDb()));

tenantLimitsContract('the fake', async () => {
  const tenantLimits = createFakeTenantLimits();
  return { tenantLimits, keyLedger: createFakeKeyLedger(tenantLimits.of) };
});
tenantLimitsContract('D1', async () => {
  const db = await realDb();
  return { tenantLimits: createD1TenantLimits(db), keyLedger: createD1KeyLedger(db) };
});

it('knows which limits of a database from before are the operator’s', async () => {
  const db = (await miniflare.getD1Database('OLD')) as unknown as SqlDatabase;
  await migrate(db, (file) => file < '0012');
  const add = (id: string, by: string, limits: string | null, counter: string | null) =>
    db
      .prepare(
        `INSERT INTO keys (id, hash, kind, tenant, scopes, label, created_at, created_by, limits, counter)
         VALUES (?, ?, 'api', 'alice', '[]', '', 1, ?, ?, ?)`,
      )
      .bind(id, `hash of ${id}`, by, limits, counter);
  const limits = '{"requestsPerMinute":5}';
  await db.batch([
    add('by_root', 'bootstrap', limits, null),
    add('rotated', 'key_9', limits, 'by_root'),
    add('bare', 'bootstrap', null, null),
    add('own', 'key_9', limits, null),
  ]);
  await migrate(db, (file) => file >= '0012');
  const keys = await createD1KeyLedger(db).list('alice');
  expect(keys.map(({ id, limitsFixed }) => [id, limitsFixed])).toEqual([
    ['bare', false],
    ['by_root', true],
    ['own', false],
    ['rotated', true],
  ]);
  expect(keys.map(({ tenantLimits }) => tenantLimits)).toEqual([null, null, null, null]);
});
