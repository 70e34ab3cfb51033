/** Tenants and names that are erased for good, in real workerd: D1, KV, R2, Durable Objects and an origin. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EraseAnswer, type EraseRequest } from '../../../protocol/admin-api/erasures.ts';
import { ROWS_PART_BYTES } from '../../../protocol/training-jobs.ts';
import { parseSigningKeys } from '../../../protocol/signature.ts';
import { type FakeOrigin, startFakeOrigin } from '../../fakes/fake-origin.ts';
import { TINY_BASE, tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { shardOf } from '../../../worker/gathering/parts.ts';
import { rowOf } from '../../../worker/traffic/sum-traffic.ts';
import { ended } from '../../contracts/sample-rows.ts';
import { chat, ORIGIN_KEYS, startTestEdge, type TestEdge } from '../edge-harness.ts';
import { rowsForm } from '../training/row-forms.ts';
import { everything, gatherersOf, saying } from './everything.ts';

let graft: TestEdge;
const keys: Record<string, string> = {};
const json = (body: unknown): RequestInit => ({
  method: 'POST',
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(body),
});
const post = async (path: string, body: unknown, key = graft.adminKey) => {
  const response = await graft.admin(path, { ...json(body), key });
  const text = await response.text();
  if (!response.ok) throw new Error(`${path}: ${response.status} ${text}`);
  return JSON.parse(text || 'null') as Record<string, never>;
};
const ask = async (model: string, key: string) => {
  const response = await graft.request('/v1/chat/completions', { ...json({}), body: chat(model), key });
  await response.text();
  return response.status;
};
const erasePage = (body: EraseRequest, key = graft.adminKey) =>
  graft.admin('/admin/erase', { ...json(body), key });
/** All pages. @returns their sums. */
async function erase(body: EraseRequest, key = graft.adminKey) {
  const pages: EraseAnswer[] = [];
  for (let cursor: string | null = null; ;) {
    const response = await erasePage({ ...body, cursor }, key);
    const text = await response.text();
    expect([response.status, text]).toEqual([200, expect.any(String)]);
    const page = EraseAnswer.parse(JSON.parse(text));
    pages.push(page);
    if (page.cursor === null) break;
    ({ cursor } = page);
  }
  const erased: Record<string, number> = {};
  for (const page of pages)
    for (const [what, count] of Object.entries(page.erased))
      if (count > 0) erased[what] = (erased[what] ?? 0) + count;
  return {
    first: pages[0]!,
    last: pages.at(-1)!,
    erased,
    unreached: pages.flatMap((page) => page.unreached),
  };
}
/** What was noted while it ran is looked for when its time has come. */
async function settle() {
  const db = await graft.edge.miniflare.getD1Database('DB');
  for (let runs = 0; runs < 20; runs += 1) {
    await db.prepare("UPDATE erasures SET touched_at = 0 WHERE step <> 'planned'").run();
    await graft.edge.runSchedule();
    if ((await db.prepare('SELECT id FROM erasures').all()).results.length === 0) return;
  }
  throw new Error('the erasure does not end');
}
const child = async (name: string, parent: string, seed: number, key: string) => {
  const listed = await graft.admin(`/admin/versions?name=${parent}`, { key });
  const { versions } = (await listed.json()) as { versions: { chain_id: string; live: boolean }[] };
  const adapter = tinyAdapter({ seed, parent: versions.find(({ live }) => live)?.chain_id ?? '' });
  const published = await graft.publish({ name, adapter, parent, key });
  expect([published.status, await published.text()]).toEqual([201, expect.any(String)]);
  return adapter;
};
/** As an isolate notes a request for the name, and one for another; hours and days are there from before. */
let isolates = 0;
async function noteTraffic(tenant: string, name: string) {
  isolates += 1;
  const db = await graft.edge.miniflare.getD1Database(graft.usageBinding);
  for (const step of [3600, 86400])
    await db
      .prepare(
        `INSERT INTO traffic (step, at, tenant, name, key_id, status, code, writer, requests, prompt_tokens, completion_tokens)
         VALUES (?, ?, ?, ?, 'key_x', 200, '', 0, 1, 1, 1)`,
      )
      .bind(step, step * Math.floor(Date.now() / 1_000 / step), tenant, name)
      .run();
  const requests = [name, 'other/name'].map((of) =>
    ended({ at: Date.now(), tenant, key_id: 'key_x', name: of }),
  );
  await (
    await gatherers()
  ).add(shardOf(tenant), {
    ...{ sender: `isolate-${isolates}`, number: 1 },
    usage: [
      {
        ...{ hour: 1, tenant, keyId: 'key_x', name, version: 1, base: 'tiny' },
        ...{ requests: 1, errors: 0, promptTokens: 1, completionTokens: 1 },
      },
    ],
    traffic: requests.slice(0, 1).map(rowOf),
    requests: [{ tenant, requests, leftOut: 0 }],
  });
}
const gatherers = () => gatherersOf(graft);

const shared = tinyAdapter({ seed: 1 });
const own = tinyAdapter({ seed: 2 });
const bobs = tinyAdapter({ seed: 3 });
const unpublished = tinyAdapter({ seed: 4 });
/** A page has sent it, and not published it. */
const paged = tinyAdapter({ seed: 5 });

async function sendFromPage(name: string, key: string) {
  const { url } = graft.edge;
  const made = await post('/v1/publish-tokens', { name, origin: url }, key);
  const where = `/v1/publications/parts/0?digest=${paged.digest}&sha256=${paged.digest}`;
  const body = new Uint8Array(paged.bytes);
  const headers = { origin: url };
  const sent = await graft.request(where, { method: 'PUT', key: String(made['token']), headers, body });
  expect(sent.status).toBe(200);
}

async function fill() {
  for (const tenant of ['alice', 'bob']) {
    keys[tenant] = await graft.makeAdminKey(tenant);
    keys[`${tenant}-api`] = await graft.makeKey({ tenant, publish: true });
  }
  await post('/admin/rooms', { name: 'alice', tenant: 'alice' });
  await sendFromPage('alice/page', keys['alice-api']!);
  await post('/admin/tenants/limits', { tenant: 'alice', limits: { requests_per_minute: 1_000 } });
  expect((await graft.publish({ name: 'alice/notes', adapter: shared, key: keys['alice']! })).status).toBe(
    201,
  );
  expect((await graft.publish({ name: 'alice/notes', adapter: own, key: keys['alice']! })).status).toBe(201);
  expect((await graft.publish({ name: 'bob/copy', adapter: shared, key: keys['bob']! })).status).toBe(201);
  expect((await graft.publish({ name: 'bob/own', adapter: bobs, key: keys['bob']! })).status).toBe(201);
  expect((await graft.upload(unpublished, { key: keys['alice']!, partBytes: 500 })).status).toBe(201);
  for (const [tenant, name] of [
    ['alice', 'alice/notes'],
    ['bob', 'bob/own'],
  ] as const) {
    const rows = [{ prompt: 'a', expected: 'b' }];
    await post('/admin/evaluations', { name, label: 'holdout', rows }, keys[tenant]);
    await post('/admin/evaluations/score', { name, label: 'holdout' }, keys[tenant]);
  }
  await post('/admin/alias', { name: 'alice/latest', target: 'alice/notes' }, keys['alice']);
  await post('/admin/pins', { name: 'alice/notes' });
  await post('/admin/grants', { scope: 'alice/**', tenant: 'bob' }, keys['alice']);
  await post('/admin/grants', { scope: 'bob/**', tenant: 'alice' }, keys['bob']);
  const made = await post(
    '/admin/experiments',
    {
      name: 'alice/notes',
      variants: [
        { key: 'control', adapter: 'alice/notes@1', weight: 0.5 },
        { key: 'treatment', adapter: 'alice/notes@2', weight: 0.5 },
      ],
    },
    keys['alice'],
  );
  await post(`/admin/experiments/${String(made['id'])}/start`, {}, keys['alice']);
  // No completion: it would be noted while the test looks.
  for (const name of ['alice/notes', 'bob/copy']) await post('/admin/warm', { name });
  await noteTraffic('alice', 'alice/notes');
  await noteTraffic('bob', 'alice/notes');
  await noteTraffic('bob', 'bob/own');
  await (await gatherers()).writeOut();
  const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
  await kv.put('drop-error:alice/notes', '{"code":"x"}');
}

describe.each([
  ['KV', undefined],
  ['R2', 'graft-blobs'],
])('a tenant, its adapters in %s', (_, r2Bucket) => {
  let mine: string[];
  beforeAll(async () => {
    graft = await startTestEdge(r2Bucket === undefined ? {} : { r2Bucket, usageDatabase: 'graft-usage' });
    await fill();
  });
  afterAll(() => graft.stop());
  const all = () => everything(graft, r2Bucket !== undefined);
  const WORDS = ['alice', own.digest, unpublished.digest, paged.digest];

  it('is told before: what would go, what stays, and nothing is changed', async () => {
    const before = await all();
    expect(saying(before, WORDS).length).toBeGreaterThan(30);
    const { first } = await erase({ tenant: 'alice', dry_run: true });
    expect(first).toMatchObject({
      owner: 'alice',
      plan: {
        ...{ names: 1, versions: 2, aliases: 1, pins: 1, experiments: 1, keys: 2, grants: 2, rooms: 1 },
        ...{ files: 3, usage: 0, evaluations: 1 },
      },
      kept: { files: 1, bytes: shared.bytes.length },
      ...{ stops: { versions: 0, experiments: 0 }, cursor: null, settles_at: null },
    });
    expect(await all()).toEqual(before);
  });

  it('is the bootstrap key’s to erase, and so is what it used', async () => {
    expect((await erasePage({ tenant: 'alice' }, keys['alice'])).status).toBe(403);
    expect((await erasePage({ name: 'alice/notes', usage: true }, keys['alice'])).status).toBe(403);
    expect((await erasePage({})).status).toBe(400);
    expect((await erasePage({ tenant: 'alice', name: 'alice' })).status).toBe(400);
    expect((await erasePage({ name: '**' })).status).toBe(400);
  });

  it('is gone at once, and everywhere; others are as they were', async () => {
    mine = saying(await all(), ['bob']).filter((line) => saying([line], WORDS).length === 0);
    const { first, erased, last, unreached } = await erase({
      tenant: 'alice',
      usage: true,
      why: 'asked for it',
    });
    expect(first.plan).toMatchObject({ usage: 1 });
    expect(erased).toMatchObject({
      ...{
        names: 1,
        versions: 2,
        aliases: 1,
        pins: 1,
        experiments: 1,
        keys: 2,
        grants: 2,
        rooms: 1,
        files: 3,
        evaluations: 1,
      },
      ...{ traffic: 9, requests: 3, usage: 1 },
    });
    expect([unreached, last.cursor]).toEqual([[], null]);
    expect(last.settles_at).toBeGreaterThan(Date.now());
    expect(await ask('alice/notes', keys['alice-api']!)).toBe(401);
    expect((await graft.admin('/admin/names', { key: keys['alice']! })).status).toBe(401);
    expect(await ask('alice/notes', keys['bob-api']!)).toBe(404);
    expect(await ask('bob/copy', keys['bob-api']!)).toBe(200);
    await settle();

    const left = await all();
    // Who erased what, when and why; marks that end by themselves; and what others used, which is on their bills.
    const told = saying(left, WORDS);
    expect(told.filter((line) => line.startsWith('D1 history'))).toEqual([
      expect.stringMatching(
        /"name":"\*\*","sequence":-1,.*"actor":"bootstrap","owner":"alice","action":"erase".*"asked for it"/,
      ),
    ]);
    const marks = told.filter((line) => line.startsWith('KV'));
    expect(marks.sort()).toEqual([
      'KV grant:alice: {"grants":[]} (ends)',
      'KV name:alice/latest: {"gone":true} (ends)',
      'KV name:alice/notes: {"gone":true} (ends)',
    ]);
    expect(told.filter((line) => !line.startsWith('KV') && !line.startsWith('D1 history'))).toEqual([
      expect.stringMatching(/^D1 usage: {"tenant":"bob",.*"name":"alice\/notes"/),
    ]);
    // Once at its place, and once more when requests under way have ended.
    const dropped = [own.digest, unpublished.digest, paged.digest].flatMap((digest) => [digest, digest]);
    expect(graft.origin.log.dropped.sort()).toEqual(dropped.sort());
    // Two requests of bob's list are one now; all else of his is there.
    const after = new Set(left);
    expect(mine.filter((line) => !after.has(line) && !/^gatherers |"writer":[1-9]/.test(line))).toEqual([]);
    expect(saying(left, [shared.digest]).length).toBeGreaterThan(3);
  });

  it('is nothing to erase any more', async () => {
    const before = saying(await all(), WORDS);
    const { first } = await erase({ tenant: 'alice', usage: true });
    expect(first).toMatchObject({ plan: { names: 0, keys: 0 }, cursor: null, settles_at: null });
    expect(saying(await all(), WORDS)).toEqual(before);
    // Its name is free again, and its versions begin anew.
    const key = await graft.makeAdminKey('alice');
    const again = await graft.publish({ name: 'alice/notes', adapter: own, key });
    expect(await again.json()).toMatchObject({ version: 1, live: true });
    expect(await ask('alice/notes', await graft.makeKey({ tenant: 'alice' }))).toBe(200);
  });
});

describe.each([
  ['KV', undefined],
  ['R2', 'graft-blobs'],
])('files of rows in %s', (_, r2Bucket) => {
  beforeAll(async () => {
    graft = await startTestEdge(r2Bucket === undefined ? {} : { r2Bucket, usageDatabase: 'graft-usage' });
  });
  afterAll(() => graft.stop());

  const ROW = `${JSON.stringify({ prompt: 'the patient is called Ada', completion: 'x'.repeat(900) })}\n`;
  /** Keys of their parts, which are sealed: of their bytes no text is found. */
  async function parts(): Promise<string[]> {
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    const found: [string, ArrayBuffer | null][] = [];
    for (const { name } of (await kv.list({ prefix: 'rows:' })).keys)
      found.push([name, await kv.get(name, 'arrayBuffer')]);
    if (r2Bucket !== undefined) {
      const bucket = await graft.edge.miniflare.getR2Bucket('BLOBS');
      for (const { key } of (await bucket.list({ prefix: 'rows/' })).objects)
        found.push([key, (await (await bucket.get(key))?.arrayBuffer()) ?? null]);
    }
    for (const [name, bytes] of found) {
      expect(bytes?.byteLength, name).toBeGreaterThan(0);
      expect(Buffer.from(bytes!).includes('is called Ada'), name).toBe(false);
    }
    return found.map(([name]) => name);
  }

  it('leave no byte and no part', async () => {
    const made = await post('/admin/keys', { tenant: 'alice', scopes: ['**'], train: true });
    const key = String(made['key']);
    const ids: string[] = [];
    for (const rows of [ROW, ROW.repeat(Math.ceil(ROWS_PART_BYTES / ROW.length) + 1)]) {
      const sent = await graft.request('/v1/files', { ...rowsForm(rows), key });
      expect(sent.status).toBe(200);
      ids.push(((await sent.json()) as { id: string }).id);
    }
    const stored = await parts();
    expect(stored).toHaveLength(3);
    expect(stored.every((name) => name.startsWith(r2Bucket === undefined ? 'rows:' : 'rows/'))).toBe(true);
    const job = { model: 'base', training_file: ids[0], validation_file: ids[1], suffix: 'alice/notes' };
    const created = await graft.request('/v1/fine_tuning/jobs', { ...json(job), key });
    expect([created.status, await created.text()]).toEqual([200, expect.stringContaining(ids[1]!)]);
    const all = () => everything(graft, r2Bucket !== undefined);
    expect(saying(await all(), ids).length).toBeGreaterThan(3);

    await erase({ tenant: 'alice', usage: true });
    await settle();
    expect(await parts()).toEqual([]);
    expect(saying(await all(), ['is called Ada', 'ftjob-', '"rows.jsonl"'])).toEqual([]);
    // Ids are kept, with nobody's name, until no upload under way can have stored one more part.
    const db = await graft.edge.miniflare.getD1Database('DB');
    await db.prepare('UPDATE row_files SET touched_at = 0').run();
    await graft.edge.runSchedule();
    expect(saying(await all(), ids)).toEqual([]);
  });
});

describe('names', () => {
  let away: { url: string; port: number };
  beforeAll(async () => {
    // One that is configured and does not run yet.
    const found = await startFakeOrigin({ id: 'o2', keys: parseSigningKeys(ORIGIN_KEYS), base: TINY_BASE });
    await found.stop();
    away = { url: found.url, port: Number(new URL(found.url).port) };
    graft = await startTestEdge({ moreOrigins: [{ id: 'o2', url: away.url }] });
    await fill();
  });
  afterAll(() => graft.stop());
  const refusal = async (body: EraseRequest, key?: string) => {
    const response = await erasePage(body, key);
    expect(response.status).toBe(409);
    return ((await response.json()) as { error: { message: string } }).error.message;
  };
  const names = async (tenant: string) => {
    const response = await graft.admin('/admin/names', { key: keys[tenant]! });
    return ((await response.json()) as { names: { name: string }[] }).names.map(({ name }) => name);
  };

  it('that others stand on are told, and stay unless it is said twice', async () => {
    await child('alice/notes/child', 'alice/notes', 11, keys['alice']!);
    await child('alice/other', 'alice/notes/child', 12, keys['alice']!);
    await child('bob/on-alice', 'alice/notes', 13, keys['bob']!);
    const before = await names('alice');
    const name = 'alice/notes';
    expect(await refusal({ name }, keys['alice'])).toMatch(
      /Built on it: alice\/notes\/child@1, alice\/other@1\. Built on it: 1 version of other tenants\./,
    );
    // Below it is not in its way.
    expect(await refusal({ name: `${name}/**`, dry_run: true }, keys['alice'])).toContain(
      'Built on it: alice/other@1. ',
    );
    expect(await names('alice')).toEqual(before);
    // Another tenant's do not exist.
    const nobody = await erase({ name: 'alice/notes', cascade: true }, keys['bob']);
    expect(nobody.first).toMatchObject({ plan: { names: 0 }, settles_at: null });
    expect(await names('alice')).toEqual(before);
  });

  const withOriginBack = async (work: (back: FakeOrigin) => Promise<void>): Promise<void> => {
    const back = await startFakeOrigin({
      ...{ id: 'o2', keys: parseSigningKeys(ORIGIN_KEYS), base: TINY_BASE, port: away.port },
    });
    await work(back).finally(() => back.stop());
  };

  it('go with what stands on them; an origin that is away is told, and does it when it is back', async () => {
    const { first, erased, unreached } = await erase({ name: 'alice/notes', cascade: true }, keys['alice']);
    expect(first).toMatchObject({
      owner: 'alice',
      stops: { versions: 1, experiments: 0 },
      kept: { files: 1 },
    });
    expect(erased).toMatchObject({ names: 3, versions: 4, aliases: 1, experiments: 1, files: 3, traffic: 8 });
    expect(erased).not.toHaveProperty('keys');
    expect(unreached).toEqual([
      { origin: 'o2', files: 3, reason: expect.stringContaining('did not answer') },
    ]);
    expect(await names('alice')).toEqual([]);
    expect(await ask('alice/notes', keys['alice-api']!)).toBe(404);
    expect(await ask('bob/on-alice', keys['bob-api']!)).toBe(404);

    // It is tried again when it is asked for again, and each minute.
    const again = await erase({ name: 'alice/notes' }, keys['alice']);
    expect(again.unreached).toMatchObject([{ origin: 'o2', files: 3 }]);
    await withOriginBack(async (back) => {
      const last = await erase({ name: 'alice/notes' }, keys['alice']);
      expect(last.unreached).toEqual([]);
      expect(back.log.dropped).toHaveLength(3);
      await settle();
      expect(back.log.dropped).toHaveLength(6);
    });
    const left = saying(await everything(graft), ['alice/notes', 'alice/other', own.digest]);
    expect(left.filter((line) => !/^D1 (history|usage)|^KV name:.*\(ends\)$/.test(line))).toEqual([]);
    expect(left.filter((line) => line.startsWith('D1 history'))).toMatchObject([
      expect.stringMatching(/"name":"alice\/notes","sequence":-1,.*"owner":"alice","action":"erase"/),
    ]);
    // What he has made is told as withdrawn, without whose it was.
    const listed = await graft.admin('/admin/versions?name=bob/on-alice', { key: keys['bob']! });
    expect(await listed.json()).toMatchObject({
      versions: [
        { withdrawn_at: expect.any(Number), parent: null, chain: [{ owner: 'erased' }, { owner: 'bob' }] },
      ],
    });
    expect(await ask('bob/copy', keys['bob-api']!)).toBe(200);
  });

  it('of which the asking was cut off are the schedule’s to finish', async () => {
    const begun = EraseAnswer.parse(await (await erasePage({ name: 'bob/own' }, keys['bob'])).json());
    expect(begun.plan).toMatchObject({ names: 1, versions: 1 });
    const db = await graft.edge.miniflare.getD1Database('DB');
    // As if it had got no further than its beginning.
    await db.prepare("UPDATE erasures SET step = 'keys', place = ''").run();
    await db.prepare('UPDATE erasure_items SET gone = 0').run();
    await db.prepare("UPDATE erasure_files SET origins = '[]'").run();
    await withOriginBack(settle);
    const left = saying(await everything(graft), ['bob/own', bobs.digest]);
    expect(left.filter((line) => !/^D1 (history|usage)|^KV name:.*\(ends\)$/.test(line))).toEqual([]);
  });
});
