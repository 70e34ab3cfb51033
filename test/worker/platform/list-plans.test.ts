/** What each list asks of D1 is found by an index: SQLite says so itself, in workerd. */
import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { usableRanges } from '../../../worker/access/authenticate.ts';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { createD1GrantLedger } from '../../../worker/access/d1-grants.ts';
import { createD1KeyLedger } from '../../../worker/access/d1-key-ledger.ts';
import { createD1Erasures } from '../../../worker/erasure/d1-erasures.ts';
import type { Erasure } from '../../../worker/erasure/ports.ts';
import { createD1PageUploads } from '../../../worker/publications/d1-page-uploads.ts';
import { createD1Registry } from '../../../worker/registry/d1-registry.ts';
import { createD1TenantLimits } from '../../../worker/metering/d1-tenant-limits.ts';
import { createD1Traffic } from '../../../worker/traffic/d1-traffic.ts';
import { createD1FileNames, createD1OriginHistory } from '../../../worker/origins/d1-origins.ts';
import { createD1Usage } from '../../../worker/metering/d1-usage.ts';
import { NO_CAPS } from '../../contracts/sample-rows.ts';
import { ended, trafficBatch } from '../../contracts/sample-rows.ts';
import { MINUTE } from '../../contracts/sample-rows.ts';
import { keyRow } from '../../contracts/sample-rows.ts';
import { openRealDatabase, startDatabases } from './real-database.ts';
import { recordStatements, scansOf } from './recording-database.ts';

let miniflare: Miniflare;
let db: SqlDatabase;

beforeAll(async () => {
  miniflare = startDatabases();
  db = await openRealDatabase(miniflare);
});
afterAll(() => miniflare.dispose());

const page = { cursor: 'b', limit: 9 };
const rights = {
  tenant: 'me',
  scopes: ['a/**', 'b', '**'],
  grants: [
    { scope: 'c/**', owner: 'you' },
    { scope: 'c/d/**', owner: 'they' },
  ],
};
const windows = [
  { from: '', to: '\u007f', limit: 9 },
  { from: 'a/', to: 'a/\u007f', limit: 9 },
];
const row = { tenant: 'me', scope: 'a', owner: 'you', created_at: 1, created_by: 'x' };
const erasure: Erasure = {
  ...{ id: 1, kind: 'tenant', target: 'me', owner: 'me', usage: false },
  ...{ step: 'rest', place: '', touchedAt: 1, endedAt: null },
};
const line = { id: 'key_1', successors: true, made: true };

const prices = { currency: 'EUR', prompt: 1, completion: 2, bases: { b: { prompt: 3, completion: 4 } } };
const costs = { from: 1, to: 9, limit: 9, prices };
const series = { name: null, keyId: null, from: 0, to: 86400 };

const LISTS: Record<string, (db: SqlDatabase) => Promise<unknown>> = {
  'names of all': (db) => createD1Registry(db).names({ ...page, prefix: 'a', owner: null }),
  'names of one': (db) => createD1Registry(db).names({ ...page, prefix: 'a', owner: 'me' }),
  'names of scopes and grants': (db) =>
    createD1Registry(db).usable({ tenant: 'me', layers: usableRanges(rights, 3), windows }),
  'names of grants': (db) =>
    createD1Registry(db).usable({
      tenant: 'me',
      layers: usableRanges({ ...rights, scopes: ['a/**', 'b'] }, 3),
      windows,
    }),
  pointers: (db) => createD1Registry(db).pointers(page),
  versions: (db) => createD1Registry(db).versions('a'),
  'history of one': (db) => createD1Registry(db).history({ name: null, owner: 'me', before: 9, limit: 9 }),
  'keys of one': (db) => createD1KeyLedger(db).list('me'),
  'keys, a page': (db) => createD1KeyLedger(db).page(page),
  'a key that KV is told of': (db) => createD1KeyLedger(db).toWrite('f'.repeat(64)),
  'keys that limits are written to': (db) => createD1KeyLedger(db).ofTenant({ ...page, tenant: 'me' }),
  'limits of tenants': (db) => createD1TenantLimits(db).list(page),
  'keys that end together': (db) => createD1KeyLedger(db).line({ ...line, after: null, limit: 9 }),
  'keys that were made': (db) => createD1KeyLedger(db).madeBy({ id: 'key_1', at: 1, limit: 9 }),
  'a revocation': (db) => createD1KeyLedger(db).revoke({ ...line, at: 1 }),
  'a change of a key': (db) =>
    createD1KeyLedger(db)
      .change(keyRow('key_1'), keyRow('key_1'))
      .then(() => null),
  'a rotation': (db) =>
    createD1KeyLedger(db).rotate({ row: { ...keyRow('key_2'), replaces: 'key_1' }, expiresAt: 1 }),
  'grants of all': (db) => createD1GrantLedger(db).list({ owner: null, cursor: 'a\nb\nc', limit: 9 }),
  'grants of one': (db) => createD1GrantLedger(db).list({ owner: 'me', cursor: 'a\nb\nc', limit: 9 }),
  'grants held': (db) => createD1GrantLedger(db).heldBy(['me', '*']),
  'grants that KV is told of': (db) => createD1GrantLedger(db).toWrite('me'),
  'grants that open something': (db) => createD1GrantLedger(db).usableBy('me'),
  'a grant': (db) => createD1GrantLedger(db).add(row, NO_CAPS),
  'grants counted': (db) => createD1GrantLedger(db).counts(row),
  'a grant taken back by one': (db) => createD1GrantLedger(db).remove(row),
  'a grant taken back of all': (db) => createD1GrantLedger(db).remove({ tenant: 'me', scope: 'a' }),
  'a refusal that ends': (db) => createD1GrantLedger(db).accept(row),
  'revoked keys that KV is not told of': (db) => createD1Erasures(db).unwrittenKeys(erasure, 9),
  'a tenant that is forgotten': (db) => createD1Erasures(db).forgetTenant(erasure, [1]),
  refusals: (db) => createD1GrantLedger(db).refusedBy('me'),
  'a refusal': (db) => createD1GrantLedger(db).refuse(row, 9),
  'usage of all': (db) => createD1Usage(db, 1).sum({ by: 'key', tenant: null, from: 1, to: 9, limit: 9 }),
  'traffic of all, by the minute': (db) => createD1Traffic(db).read({ ...series, tenant: null, step: 60 }),
  'traffic of one, by the hour': (db) => createD1Traffic(db).read({ ...series, tenant: 'me', step: 3600 }),
  'traffic of a name, by the day': (db) =>
    createD1Traffic(db).read({ ...series, tenant: 'me', name: 'a', step: 86400 }),
  'traffic of a key': (db) =>
    createD1Traffic(db).read({ ...series, tenant: 'me', keyId: 'key_1', step: 300 }),
  'traffic of a name, of all': (db) =>
    createD1Traffic(db).read({ ...series, tenant: null, name: 'a', step: 300 }),
  'traffic that comes': (db) => createD1Traffic(db).add(trafficBatch('a', [ended()])),
  'traffic that is summed up and forgotten': (db) => createD1Traffic(db).tend(ended().at + 10 * 86_400_000),
  'minutes of an origin': (db) =>
    createD1OriginHistory(db).read({ origin: 'o1', from: 0, to: 600, step: 300 }),
  'minutes that come': (db) => createD1OriginHistory(db).note([MINUTE]),
  'minutes that are forgotten': (db) => createD1OriginHistory(db).forget(9),
  'uploads of pages': async (db) => {
    const uploads = createD1PageUploads(db);
    const of = { token: 't', digest: 'd' };
    await uploads.claim({ ...of, tenant: 'me', bytes: 1, most: 3, files: 1, expiresAt: 9 });
    await uploads.claim({ ...of, tenant: 'me', bytes: 9, most: 3, files: 1, expiresAt: 9 });
    const sent = uploads.sentWith(of);
    await sent.add({ index: 0, bytes: 1, sha256: 'a' }, 1);
    await sent.sent();
    await sent.forget(0);
    await uploads.attempt(of);
    await uploads.tend(1);
  },
  'names of what origins hold': (db) => createD1FileNames(db).of(['a', 'b'], 9),
  'requests of one': (db) => createD1Traffic(db).requests({ tenant: 'me', limit: 9 }),
  'requests of all': (db) => createD1Traffic(db).requests({ tenant: null, limit: 9 }),
  'costs of all': (db) => createD1Usage(db, 1).costs({ ...costs, by: 'key', tenant: null }),
  'costs of one': (db) => createD1Usage(db, 1).costs({ ...costs, by: 'version', tenant: 'me' }),
  'usage of one': (db) => createD1Usage(db, 1).sum({ by: 'day', tenant: 'me', from: 1, to: 9, limit: 9 }),
};

it.each(Object.entries(LISTS))('%s', async (_, list) => {
  const recorder = recordStatements(db);
  await list(recorder.db);
  expect(recorder.asked.length).toBeGreaterThan(0);
  for (const asked of recorder.asked) expect([asked.sql, await scansOf(db, asked)]).toEqual([asked.sql, []]);
});
