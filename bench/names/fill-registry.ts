/**
 * A registry of many names, its rows as the product leaves them: some names are published by requests, and the others'
 * rows are copies of theirs with names, digests and times of their own.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { chainText } from '../../protocol/identity.ts';
import { TINY_BASE, tinyAdapter, type TinyAdapter } from '../../test/fakes/tiny-adapters.ts';
import { createD1Stores } from '../../worker/d1-stores.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import { emptyHistogram } from '../../worker/traffic/sum-traffic.ts';
import type { TrafficRow } from '../../worker/traffic/ports.ts';
import { seededRandom } from '../seeded-random.ts';

/** Of each tenant: one in five is stacked on another one. */
export const NAMES_OF_TENANT = 100;
const STACKED_OF_TENANT = NAMES_OF_TENANT / 5;
/** The tenant's last one that is not stacked has the experiment. */
const TESTED_NUMBER = NAMES_OF_TENANT - STACKED_OF_TENANT - 1;
const HOUR_MS = 3_600_000;
const DAY_H = 24;
/** Days of the past: with usage by the hour, with traffic by the hour, and with traffic by the day. */
export const PAST = { usage: 30, hours: 35, days: 400 };
export type Past = typeof PAST;
/** Names for one row of usage an hour, and for two of traffic: 360,000 and a million rows of a million names. */
const NAMES_OF_USAGE_ROW = 2_000;
const NAMES_OF_TRAFFIC_ROW = 3_600;
/** Names for one that was removed in the last week. */
const NAMES_OF_REMOVED = 1_000;

export const tenantOf = (number: number): string => `u${String(number).padStart(5, '0')}`;
/** @param number 0 … 79; the first 20 have a name on top of them, {@link stackedOn}. */
export const nameOf = (tenant: number, number: number): string =>
  `${tenantOf(tenant)}/task-${String(number).padStart(2, '0')}`;
export const stackedOn = (name: string): string => `${name}/stacked`;

const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex');

export interface Asked {
  status: number;
  text: string;
}
/** Asks an edge. @throws Error when the answer is none of `statuses`, by default those of success. */
export type Ask = (
  request: string,
  options?: { key?: string; body?: unknown; statuses?: readonly number[] },
) => Promise<Asked>;

/** @returns what asks this edge: `GET /admin/names`, by default with this key. */
export const askerOf =
  (url: string, adminKey: string): Ask =>
  async (request, { key = adminKey, body, statuses = [200, 201, 204] } = {}) => {
    const [method = '', path = ''] = request.split(' ');
    const json = !(body instanceof Uint8Array);
    const response = await fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${key}`,
        // A kept one may have been closed by its server while the machine was busy, which shows too late.
        connection: 'close',
        ...(body !== undefined && json ? { 'content-type': 'application/json' } : {}),
      },
      ...(body === undefined ? {} : { body: json ? JSON.stringify(body) : new Uint8Array(body) }),
    });
    const text = await response.text();
    if (!statuses.includes(response.status))
      throw new Error(`${request} answered ${response.status}: ${text.slice(0, 500)}`);
    return { status: response.status, text };
  };

const CreatedKey = z.object({ key: z.string() });

export async function makeKey(ask: Ask, body: object): Promise<string> {
  return CreatedKey.parse(JSON.parse((await ask('POST /admin/keys', { body })).text)).key;
}

/** Sends a file in one part and publishes it, as `graft publish` does. @returns requests made. */
export async function publish(
  ask: Ask,
  { key, name, adapter, parent }: { key: string; name: string; adapter: TinyAdapter; parent?: string },
): Promise<number> {
  const { bytes, digest } = adapter;
  await ask(`PUT /admin/blobs/${digest}/parts/0`, { key, body: bytes });
  const parts = [{ bytes: bytes.length, sha256: digest }];
  await ask(`POST /admin/blobs/${digest}`, { key, body: { bytes: bytes.length, parts } });
  await ask('POST /admin/versions', {
    key,
    body: { name, digest, ...(parent === undefined ? {} : { parent }) },
  });
  return 3;
}

const Versions = z.object({ versions: z.array(z.object({ chain_id: z.string() })).min(1) });

/** Everything that a tenant of the pattern has. Names of the groups are in the names of the pattern. */
const PATTERN = 'pattern';
const PLAIN = `${PATTERN}/plain`;
/** Has two versions, and an experiment with both. */
const TESTED = `${PATTERN}/tested`;
const GONE = `${PATTERN}/gone`;

async function publishPattern(ask: Ask): Promise<void> {
  const key = await makeKey(ask, { kind: 'admin', tenant: PATTERN });
  await makeKey(ask, { tenant: PATTERN });
  await publish(ask, { key, name: PLAIN, adapter: tinyAdapter({ seed: 1 }) });
  const found = await ask(`GET /admin/versions?name=${PLAIN}`, { key });
  const parent = Versions.parse(JSON.parse(found.text)).versions[0]?.chain_id ?? '';
  const stacked = stackedOn(PLAIN);
  await publish(ask, { key, name: stacked, adapter: tinyAdapter({ seed: 2, parent }), parent: PLAIN });
  await ask('POST /admin/grants', { key, body: { scope: `${PATTERN}/**`, tenant: `${PATTERN}-guest` } });
  for (const seed of [3, 4]) await publish(ask, { key, name: TESTED, adapter: tinyAdapter({ seed }) });
  const variants = [1, 2].map((version) => ({
    key: version === 1 ? 'control' : 'treatment',
    adapter: `${TESTED}@${version}`,
    weight: 0.5,
  }));
  await ask('POST /admin/experiments', { key, body: { name: TESTED, variants } });
  await publish(ask, { key, name: GONE, adapter: tinyAdapter({ seed: 5 }) });
  await ask('POST /admin/remove', { key, body: { name: GONE } });
}

type Value = string | number | null;
type Group = 'tenant' | 'plain' | 'stacked' | 'tested' | 'gone';
/** Rows of one table and group, to be copied. */
interface PatternRows {
  table: string;
  columns: string[];
  /** One of JSON for each row. */
  rows: string[];
}
interface Pattern {
  groups: Record<Group, PatternRows[]>;
  /** Digests that are each name's own, by where they come from; all others are the tenant's. */
  groupOf: Map<string, Group>;
  /** Of each id of a chain, its members. */
  chains: Map<string, { digest: string; scale: number }[]>;
  baseDigest: string;
}

const OF_TENANTS = /^(keys|grants)$/;
/** What the copies have in the place of the number of a removal, and of its row of history. */
const REMOVAL = '@removal';
const Chain = z.array(z.object({ digest: z.string(), scale: z.number() }));

/** Reads all rows that the pattern's publication has left in a database that was empty. */
async function readPattern(db: SqlDatabase): Promise<Pattern> {
  const query = `SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT GLOB 'sqlite_*' AND name NOT GLOB '_cf*'
    AND name NOT IN ('d1_migrations', 'schema_hash')`;
  const { results: tables } = await db.prepare(query).all<{ name: string }>();
  const all: { table: string; row: Record<string, Value> }[] = [];
  for (const { name: table } of tables) {
    const { results } = await db.prepare(`SELECT * FROM "${table}"`).all<Record<string, Value>>();
    all.push(...results.map((row) => ({ table, row })));
  }
  const versions = all.filter(({ table }) => table === 'versions').map(({ row }) => row);
  const removal = versions.find(({ name }) => name === GONE)?.['removal'] ?? null;
  const pattern: Pattern = {
    groups: { tenant: [], plain: [], stacked: [], tested: [], gone: [] },
    groupOf: new Map(),
    chains: new Map(),
    baseDigest: String(versions[0]?.['base_digest']),
  };
  const names = new Map<Value, Group>([
    [PLAIN, 'plain'],
    [stackedOn(PLAIN), 'stacked'],
    [TESTED, 'tested'],
    [GONE, 'gone'],
  ]);
  for (const row of versions) {
    const group = names.get(row['name'] ?? '');
    if (group === undefined) throw new Error(`a version of ${row['name']} is no part of the pattern`);
    for (const column of ['digest', 'chain_id', 'proof']) pattern.groupOf.set(String(row[column]), group);
    pattern.chains.set(String(row['chain_id']), Chain.parse(JSON.parse(String(row['chain']))));
  }
  for (const { table, row } of all) {
    const name = names.get(row['name'] ?? '') ?? pattern.groupOf.get(String(row['digest']));
    const group = OF_TENANTS.test(table) ? 'tenant' : name;
    if (group === undefined) continue;
    const columns = Object.keys(row);
    const values = columns.map((column): Value | undefined => {
      const value = row[column];
      const isRemoval = removal !== null && value === removal && /^(id|removal)$/.test(column);
      // Every other row of history gets the next number.
      return isRemoval ? REMOVAL : table === 'history' && column === 'id' ? null : value;
    });
    const known = pattern.groups[group].find((rows) => rows.table === table);
    const rows = known ?? { table, columns, rows: [] };
    if (known === undefined) pattern.groups[group].push(rows);
    rows.rows.push(JSON.stringify(values));
  }
  for (const [group, rows] of Object.entries(pattern.groups))
    if (rows.length === 0) throw new Error(`the pattern has no rows of the group ${group}`);
  return pattern;
}

/** Which copy of the pattern. */
interface Copy {
  tenant: string;
  /** The name in the place of the pattern's; of a stacked one, the one below it. */
  name: string;
  /** When it was published, unix ms. */
  at: number;
  removal?: number;
}

const TOKENS = new RegExp(
  [
    `"${REMOVAL}"|${PLAIN}|${TESTED}|${GONE}|${PATTERN}`,
    ...['[0-9a-f]{64}', 'key_[0-9a-f]+', 'exp_[a-z0-9]{16}'],
    // Unix ms.
    '\\b1[6-9]\\d{11}\\b',
  ].join('|'),
  'g',
);

/** @returns what replaces all that is the pattern's own in a JSON text. @param madeAt when the pattern was published. */
function copier({ groupOf, chains, baseDigest }: Pattern, madeAt: number) {
  const digestOf = (digest: string, { tenant, name }: Copy): string => {
    const group = groupOf.get(digest);
    return sha256(`${digest} ${group === undefined ? tenant : name}`);
  };
  const ofToken = (token: string, copy: Copy): string => {
    if (token === PATTERN) return copy.tenant;
    if (token.startsWith(`${PATTERN}/`)) return copy.name;
    if (token === `"${REMOVAL}"`) return String(copy.removal);
    if (/^\d{13}$/.test(token)) return String(Number(token) - madeAt + copy.at);
    if (/^(key|exp)_/.test(token))
      return token.slice(0, 4) + sha256(`${token} ${copy.tenant}`).slice(0, token.length - 4);
    if (token === baseDigest) return token;
    const chain = chains.get(token);
    // As `chainId` of protocol/identity.ts, which waits for Web Crypto.
    return chain === undefined
      ? digestOf(token, copy)
      : sha256(chainText(chain.map(({ digest, scale }) => ({ digest: digestOf(digest, copy), scale }))));
  };
  return (json: string, copy: Copy): string => json.replaceAll(TOKENS, (token) => ofToken(token, copy));
}

/** D1 takes 2,000,000 in one value. */
const MOST_OF_LIST = 1_500_000;
/** Of one transaction: large ones write a page once for many rows. */
const MOST_OF_BATCH = 8_000_000;

/** Collects rows and writes them in large transactions. */
function createWriter(db: SqlDatabase) {
  const waiting = new Map<string, { sql: string; lists: string[][]; bytes: number }>();
  let bytes = 0;
  const flush = async (): Promise<void> => {
    const statements = [...waiting.values()].flatMap(({ sql, lists }) =>
      lists.map((list) => db.prepare(sql).bind(`[${list.join(',')}]`)),
    );
    waiting.clear();
    bytes = 0;
    if (statements.length > 0) await db.batch(statements);
  };
  return {
    flush,
    async add({ table, columns }: PatternRows, row: string): Promise<void> {
      let rows = waiting.get(table);
      if (rows === undefined) {
        const values = columns.map((_, i) => `value ->> ${i}`).join(', ');
        const sql = `INSERT INTO "${table}" (${columns.join(', ')}) SELECT ${values} FROM json_each(?)`;
        rows = { sql, lists: [], bytes: MOST_OF_LIST };
        waiting.set(table, rows);
      }
      if (rows.bytes + row.length >= MOST_OF_LIST) {
        rows.lists.push([]);
        rows.bytes = 0;
      }
      rows.lists.at(-1)?.push(row);
      rows.bytes += row.length;
      bytes += row.length;
      if (bytes >= MOST_OF_BATCH) await flush();
    },
  };
}

/**
 * Publishes the pattern and copies it. @param db empty, of the edge that `ask` asks. @param names a multiple of 100.
 * @param onProgress gets a sentence now and then.
 */
export async function fillRegistry(params: {
  ask: Ask;
  db: SqlDatabase;
  names: number;
  past: Past;
  onProgress: (done: string) => void;
}): Promise<void> {
  const { ask, db, names, past, onProgress } = params;
  const madeAt = Date.now();
  await publishPattern(ask);
  const pattern = await readPattern(db);
  const copy = copier(pattern, madeAt);
  const writer = createWriter(db);
  const add = async (group: Group, which: Copy): Promise<void> => {
    for (const rows of pattern.groups[group])
      for (const row of rows.rows) await writer.add(rows, copy(row, which));
  };
  const tenants = names / NAMES_OF_TENANT;
  const since = madeAt - 30 * DAY_H * HOUR_MS;
  const atOf = (done: number, all: number): number => Math.floor(since + ((madeAt - since) * done) / all);

  for (let tenant = 0; tenant < tenants; tenant += 1)
    await add('tenant', { tenant: tenantOf(tenant), name: nameOf(tenant, 0), at: atOf(tenant, tenants) });
  const plain = Array.from({ length: tenants * (NAMES_OF_TENANT - STACKED_OF_TENANT) }, (_, i) => {
    const tenant = i % tenants;
    return {
      tenant: tenantOf(tenant),
      number: Math.floor(i / tenants),
      name: nameOf(tenant, Math.floor(i / tenants)),
    };
  });
  // Names come in no order, as in a registry that has grown; of files alone, which have no order either, each is behind
  // the one before, so that a transaction does not change every page of their indexes.
  const orderOf = new Map(plain.map((one) => [one, sha256(`order of ${one.name}`)]));
  plain.sort((a, b) => ((orderOf.get(a) ?? '') < (orderOf.get(b) ?? '') ? -1 : 1));
  orderOf.clear();
  let done = 0;
  for (const { tenant, number, name } of plain) {
    const which = { tenant, name, at: atOf(done, names) };
    await add(number === TESTED_NUMBER ? 'tested' : 'plain', which);
    done += 1;
    if (number < STACKED_OF_TENANT) {
      await add('stacked', which);
      done += 1;
    }
  }
  await writer.flush();
  // Behind all numbers of history that were given so far.
  const first = await db.prepare('SELECT MAX(id) AS id FROM history').first<{ id: number }>();
  const removed = Math.ceil(names / NAMES_OF_REMOVED);
  for (let i = 0; i < removed; i += 1) {
    const tenant = tenantOf(Math.floor((i * tenants) / removed));
    const removal = (first?.id ?? 0) + 2 * i + 2;
    await add('gone', {
      tenant,
      name: `${tenant}/gone`,
      at: madeAt - ((i % 6) + 1) * DAY_H * HOUR_MS,
      removal,
    });
  }
  await writer.flush();
  onProgress('names are there');
  await fillCounts({ db, names, past, now: madeAt, onProgress });
}

/** Usage and traffic of the past, by the ledgers to which gatherers write: each hour of some tenants and names. */
async function fillCounts(params: {
  db: SqlDatabase;
  names: number;
  past: Past;
  now: number;
  onProgress: (done: string) => void;
}): Promise<void> {
  const { db, names, past, now, onProgress } = params;
  const { usage, traffic } = createD1Stores(db);
  const random = seededRandom(1);
  const tenants = names / NAMES_OF_TENANT;
  const below = (count: number): number => Math.floor(random() * count);
  const hourNow = Math.floor(now / HOUR_MS);
  /** The tenant of which usage and traffic are asked has some in each hour, as many in a small registry as in a large one. */
  const asked = { tenant: askedTenant(tenants), number: 0 };
  const picks = (count: number) => [
    asked,
    ...Array.from({ length: Math.ceil(count) }, () => ({ tenant: below(tenants), number: below(80) })),
  ];
  for (let day = past.usage; day > 0; day -= 1) {
    const rows = Array.from({ length: DAY_H }, (_, i) => hourNow - day * DAY_H + i).flatMap((hour) =>
      picks(names / NAMES_OF_USAGE_ROW).map(({ tenant, number }) => ({
        ...{ hour, tenant: tenantOf(tenant), keyId: keyOf(tenant), name: nameOf(tenant, number), version: 1 },
        ...{
          base: TINY_BASE.id,
          requests: 1 + below(50),
          errors: 0,
          promptTokens: 5_000,
          completionTokens: 9_000,
        },
      })),
    );
    await usage.add({ id: `batch-${day}`, at: now, rows });
  }
  onProgress('usage is there');
  const sums = (requests: number) => {
    const [ttft, duration] = [emptyHistogram(), emptyHistogram()];
    for (const [i, bucket] of [4, 5, 6].entries()) {
      ttft[bucket] = i + 1;
      duration[bucket + 4] = i + 1;
    }
    return { requests, promptTokens: 100 * requests, completionTokens: 200 * requests, ttft, duration };
  };
  /** In the first hour of each day, and lately in each hour. The schedule sums each day up, and deletes old hours. */
  for (let day = Math.floor(hourNow / DAY_H) - past.days; day * DAY_H < hourNow; day += 1) {
    const until = Math.min(hourNow, (day + 1) * DAY_H);
    for (let hour = day * DAY_H; hour < until; hour += hour < hourNow - past.hours * DAY_H ? DAY_H : 1) {
      const at = hour * 3_600;
      const rowOf = (tenant: string, name: string, keyId: string): TrafficRow => ({
        ...{ at, tenant, name, keyId, status: 200, code: '', ...sums(6) },
      });
      const rows = new Map<string, TrafficRow>();
      const put = (row: TrafficRow) => rows.set(`${row.tenant} ${row.name}`, row);
      put(rowOf('', '', ''));
      for (const { tenant, number } of picks(names / NAMES_OF_TRAFFIC_ROW)) {
        put(rowOf(tenantOf(tenant), '', ''));
        put(rowOf(tenantOf(tenant), nameOf(tenant, number), keyOf(tenant)));
      }
      await traffic.writeHour({ at, writer: 0, rows: [...rows.values()] });
    }
    await traffic.tend((until + 3) * HOUR_MS);
  }
  onProgress('traffic is there');
}

/** Number of the tenant whose lists are read. @param tenants of the registry. */
export const askedTenant = (tenants: number): number => Math.floor(tenants / 2);
/** Of the key that usage and traffic tell of. */
export const keyOf = (tenant: number): string => `key_${sha256(tenantOf(tenant)).slice(0, 16)}`;
