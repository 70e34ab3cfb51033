/** Files of rows: sent, listed, read and deleted; what is refused; what is left when something ends in between. */
import { beforeEach, describe, expect, it } from 'vitest';
import type { NewKey } from '../../../protocol/admin-api/keys.ts';
import type { FileList, FileObject } from '../../../protocol/files.ts';
import { generateApiKey, hashApiKey, sha256Hex } from '../../../protocol/identity.ts';
import { MAX_FILE_ROWS, MAX_ROWS_FILE_BYTES, ROWS_PART_BYTES } from '../../../protocol/training-jobs.ts';
import { TRAINING_REQUESTS, UNKNOWN_ADMIN_KEYS } from '../../../worker/access/limits.ts';
import { KeyRecord } from '../../../worker/access/ports.ts';
import { MAX_TENANT_ROWS_BYTES, UPLOAD_DEAD_MS } from '../../../worker/training/limits.ts';
import { useD1App } from '../d1-app.ts';
import { formOf, rowsOfBytes } from './row-forms.ts';

const app = useD1App();
let alice: NewKey;
let bob: NewKey;

const makeKey = async (body: object) => (await app.ask('/admin/keys', body)).body as unknown as NewKey;

beforeEach(async () => {
  alice = await makeKey({ tenant: 'alice', train: true });
  bob = await makeKey({ tenant: 'bob', train: true });
});

const ask = async (path: string, key = alice, init: { method?: string } = {}) => {
  const response = await app.graft.request(path, { key: key.key!, ...init });
  const text = await response.text();
  const isJson = response.headers.get('content-type')?.includes('json') === true;
  return { status: response.status, text, body: (isJson ? JSON.parse(text) : null) as never };
};
async function send(parts: Parameters<typeof formOf>[0], key = alice) {
  const response = await app.graft.request('/v1/files', { ...formOf(parts), key: key.key! });
  return { status: response.status, body: (await response.json()) as FileObject & { error: Refusal } };
}
interface Refusal {
  code: string;
  param: string | null;
  message: string;
}
const rows = (text: string, filename = 'rows.jsonl') => ({ name: 'file', filename, text });
const purpose = { name: 'purpose', text: 'fine-tune' };
const stored = async () => (await app.graft.kv.list({ prefix: 'rows:', cursor: null })).keys.length;
const rowsLeft = async () =>
  (await app.db.prepare('SELECT COUNT(*) AS n FROM row_files').first<{ n: number }>())!.n;

describe('a file', () => {
  it('is sent, shown, read and deleted', async () => {
    const text = '{"messages":[]}\n\n  \n{"messages":[1]}';
    const sent = await send([rows(text), purpose]);
    const at = Math.floor(app.graft.clock.now() / 1_000);
    expect(sent).toEqual({
      status: 200,
      body: {
        id: expect.stringMatching(/^file-[0-9a-z]{24}$/) as string,
        object: 'file',
        bytes: text.length,
        created_at: at,
        expires_at: at + 30 * 86_400,
        filename: 'rows.jsonl',
        purpose: 'fine-tune',
        status: 'processed',
      },
    });
    const { id } = sent.body;
    expect(await ask(`/v1/files/${id}`)).toMatchObject({ status: 200, body: sent.body });
    expect(await ask(`/v1/files/${id}/content`)).toMatchObject({ status: 200, text });
    const file = await app.graft.stores.rowFiles.get({ id, tenant: 'alice', now: app.graft.clock.now() });
    expect(file).toMatchObject({ lines: 2, parts: 1, sha256: await sha256Hex(text) });
    expect(await ask(`/v1/files/${id}`, alice, { method: 'DELETE' })).toMatchObject({
      status: 200,
      body: { id, object: 'file', deleted: true },
    });
    expect(await ask(`/v1/files/${id}`)).toMatchObject({ status: 404 });
    expect([await stored(), await rowsLeft()]).toEqual([0, 0]);
  });

  it('of several parts comes back as it was sent', async () => {
    const text = rowsOfBytes(2 * ROWS_PART_BYTES + 5);
    const { body } = await send([purpose, rows(text)]);
    expect(await stored()).toBe(3);
    const answer = await app.graft.request(`/v1/files/${body.id}/content`, { key: alice.key! });
    expect(await sha256Hex(new Uint8Array(await answer.arrayBuffer()))).toBe(await sha256Hex(text));
  });

  it('is nobody’s but its tenant’s', async () => {
    const { id } = (await send([rows('{}'), purpose])).body;
    const nowhere = `file-${'0'.repeat(24)}`;
    for (const path of ['', '/content'])
      expect((await ask(`/v1/files/${id}${path}`, bob)).text).toBe(
        (await ask(`/v1/files/${nowhere}${path}`, bob)).text,
      );
    expect(await ask(`/v1/files/${id}`, bob, { method: 'DELETE' })).toMatchObject({ status: 404 });
    expect((await ask('/v1/files', bob)).body).toMatchObject({ data: [], has_more: false });
    expect(await ask(`/v1/files/${id}`)).toMatchObject({ status: 200 });
  });

  it('lies encrypted, and is read at its own place only', async () => {
    const { id } = (await send([rows('{"secret":"canary"}'), purpose])).body;
    const value = await app.graft.kv.get(`rows:${id}:0`, { type: 'text', cacheTtl: 60 });
    expect(value).not.toContain('canary');
    const { rowParts } = app.graft.services;
    expect(await rowParts.get({ tenant: 'alice', file: id, part: 0 })).not.toBeNull();
    expect(await rowParts.get({ tenant: 'bob', file: id, part: 0 })).toBeNull();
    // As somebody who writes KV would move it.
    app.graft.kv.faultOf = (key) => (key === `rows:${id}:0` ? 'foreign' : null);
    const other = (await send([rows('{"other":1}'), purpose])).body;
    expect(await rowParts.get({ tenant: 'alice', file: id, part: 0 })).toBeNull();
    expect(await ask(`/v1/files/${id}/content`)).toMatchObject({ status: 503 });
    expect(await ask(`/v1/files/${other.id}/content`)).toMatchObject({ status: 200 });
  });

  it('expires when it is asked to, and its bytes with it', async () => {
    const more = [
      { name: 'expires_after[anchor]', text: 'created_at' },
      { name: 'expires_after[seconds]', text: '3600' },
    ];
    const { body } = await send([rows('{}'), purpose, ...more]);
    expect(body.expires_at - body.created_at).toBe(3_600);
    app.graft.clock.advance(3_600_000);
    expect(await ask(`/v1/files/${body.id}`)).toMatchObject({ status: 404 });
    await app.graft.schedule(() => undefined);
    expect([await stored(), await rowsLeft()]).toEqual([0, 0]);
  });
});

it('lists files page by page, in both orders, though some are deleted meanwhile', async () => {
  const ids: string[] = [];
  for (let i = 0; i < 5; i += 1) {
    ids.push((await send([rows('{}', `${i}`), purpose])).body.id);
    app.graft.clock.advance(1);
  }
  const page = async (query: string) => (await ask(`/v1/files?${query}`)).body as FileList;
  const first = await page('limit=2');
  expect([first.data.map(({ id }) => id), first.has_more]).toEqual([[ids[4], ids[3]], true]);
  await ask(`/v1/files/${ids[3]}`, alice, { method: 'DELETE' });
  expect((await page(`after=${ids[3]}`)).data.map(({ id }) => id)).toEqual([ids[2], ids[1], ids[0]]);
  expect((await page('order=asc&limit=1')).data.map(({ id }) => id)).toEqual([ids[0]]);
  expect((await page('purpose=batch')).data).toEqual([]);
  for (const wrong of ['limit=0', 'after=x', 'order=up', 'all=1'])
    expect(await ask(`/v1/files?${wrong}`)).toMatchObject({ status: 400 });
});

describe('a form is refused', () => {
  it.each<[why: string, parts: Parameters<typeof formOf>[0], status: number, param: string | null]>([
    ['without a file', [purpose], 400, 'file'],
    ['with text in the place of a file', [{ name: 'file', text: '{}' }, purpose], 400, 'file'],
    ['with two files', [rows('{}'), rows('{}'), purpose], 400, 'file'],
    ['without a purpose', [rows('{}')], 400, 'purpose'],
    ['with another purpose', [rows('{}'), { name: 'purpose', text: 'batch' }], 400, 'purpose'],
    ['without rows', [rows(' \n\n'), purpose], 400, 'file'],
    ['with too many rows', [rows('1\n'.repeat(MAX_FILE_ROWS + 1)), purpose], 400, 'file'],
    ['with an unknown field', [rows('{}'), purpose, { name: 'x', text: '' }], 400, 'x'],
    [
      'that expires too early',
      [
        rows('{}'),
        purpose,
        { name: 'expires_after[anchor]', text: 'created_at' },
        { name: 'expires_after[seconds]', text: '60' },
      ],
      400,
      'expires_after[seconds]',
    ],
    ['that is too large', [rows('1'.repeat(MAX_ROWS_FILE_BYTES + 1)), purpose], 413, null],
  ])('%s, and nothing of it stays', async (_, parts, status, param) => {
    const refused = await send(parts);
    expect([refused.status, refused.body.error.param]).toEqual([status, param]);
    expect([await stored(), await rowsLeft()]).toEqual([0, 0]);
  });

  it('when it is none', async () => {
    const response = await app.graft.request('/v1/files', { body: { file: 'x' }, key: alice.key! });
    expect([response.status, await response.text()]).toEqual([400, expect.stringContaining('multipart')]);
  });

  it('when the tenant has no room, which others’ files do not take', async () => {
    const full = 'UPDATE row_files SET bytes = ? WHERE tenant = ?';
    await send([rows('{}'), purpose]);
    await app.db.prepare(full).bind(MAX_TENANT_ROWS_BYTES, 'alice').run();
    expect(await send([rows('{}'), purpose])).toMatchObject({
      status: 429,
      body: { error: { code: 'insufficient_quota' } },
    });
    expect((await send([rows('{}'), purpose], bob)).status).toBe(200);
  });
});

describe('the right to train', () => {
  it('is off unless given, to keys of both kinds, and is taken from D1', async () => {
    const plain = await makeKey({ tenant: 'alice' });
    expect(plain.train).toBe(false);
    expect((await send([rows('{}'), purpose], plain)).body.error.code).toBe('insufficient_scope');
    expect(await ask('/v1/files', plain)).toMatchObject({ status: 403 });
    const { value } = (await app.graft.services.keys.get(await hashApiKey(alice.key!))) as { value: object };
    expect(value).not.toHaveProperty('train');
    expect(KeyRecord.safeParse({ ...value, train: true }).success).toBe(false);
  });

  it('is given to an admin key by the bootstrap key alone, and a refusal names the command', async () => {
    const admin = await makeKey({ kind: 'admin', tenant: 'alice' });
    const refused = await send([rows('{}'), purpose], admin);
    expect(refused).toMatchObject({ status: 403, body: { error: { code: 'insufficient_scope' } } });
    expect(refused.body.error.message).toContain(`graft keys change ${admin.id} --train`);
    const change = { id: admin.id, train: true };
    expect((await app.graft.request('/admin/keys/change', { key: admin.key!, body: change })).status).toBe(
      403,
    );
    await app.ask('/admin/keys/change', change);
    const sent = await send([rows('{"a":1}'), purpose], admin);
    expect(sent.status).toBe(200);
    // Both kinds of the tenant's keys have the same files.
    expect((await ask(`/v1/files/${sent.body.id}/content`)).text).toBe('{"a":1}');
    expect((await ask(`/v1/files/${sent.body.id}`, bob)).status).toBe(404);
    await app.ask('/admin/keys/change', { id: admin.id, train: false });
    expect((await ask('/v1/files', admin)).status).toBe(403);
  });

  it('cannot be had with an admin key that is revoked, has expired, or was made up', async () => {
    const admin = await makeKey({ kind: 'admin', tenant: 'alice', train: true, expires_in: 3_600_000 });
    const other = await makeKey({ kind: 'admin', tenant: 'alice', train: true });
    await app.graft.request(`/admin/keys/${other.id}`, { method: 'DELETE' });
    app.graft.clock.advance(3_600_001);
    for (const key of [admin.key!, other.key!, generateApiKey('ga'), 'ga_x'])
      expect((await app.graft.request('/v1/files', { key })).status).toBe(401);
  });

  it('costs a tenant’s admin keys what it costs its API keys, and made-up ones no more than elsewhere', async () => {
    const admin = await makeKey({ kind: 'admin', tenant: 'alice', train: true });
    const statuses = async (times: number, key: () => string) => {
      const counts = new Map<number, number>();
      for (let i = 0; i < times; i += 1) {
        const { status } = await app.graft.request('/v1/files', { key: key() });
        counts.set(status, (counts.get(status) ?? 0) + 1);
      }
      return Object.fromEntries(counts);
    };
    const { burst } = TRAINING_REQUESTS;
    expect(await statuses(burst - 1, () => admin.key!)).toEqual({ 200: burst - 1 });
    // They share them.
    expect(await statuses(2, () => alice.key!)).toEqual({ 200: 1, 429: 1 });
    expect(await statuses(1, () => admin.key!)).toEqual({ 429: 1 });
    expect(await statuses(1, () => bob.key!)).toEqual({ 200: 1 });
    const strangers = await statuses(UNKNOWN_ADMIN_KEYS.burst + 5, () => generateApiKey('ga'));
    expect(Object.keys(strangers)).toEqual(['401', '429']);
  });

  it('opens nothing else of the client API to an admin key', async () => {
    const { key } = await makeKey({ kind: 'admin', tenant: 'alice', train: true });
    for (const path of ['/v1/models', '/v1/models/base'])
      expect((await app.graft.request(path, { key: key! })).status).toBe(401);
    const body = { model: 'base', messages: [{ role: 'user', content: 'hi' }] };
    expect((await app.graft.request('/v1/chat/completions', { key: key!, body })).status).toBe(401);
  });

  it('ends with its key, at once', async () => {
    await send([rows('{}'), purpose]);
    await app.graft.request(`/admin/keys/${alice.id}`, { method: 'DELETE' });
    app.graft.clock.advance(1);
    expect([401, 403]).toContain((await ask('/v1/files')).status);
  });
});

describe('what is cut off', () => {
  it('is deleted by the schedule, and takes room only until then', async () => {
    const { rowFiles, rowParts } = app.graft.services;
    const at = app.graft.clock.now();
    const id = `file-${'a'.repeat(24)}`;
    await rowFiles.begin({ id, tenant: 'alice', keyId: alice.id, bytes: 9, at, expiresAt: at + 1e9 });
    await rowFiles.grow({ id, parts: 1, at });
    await rowParts.put({ tenant: 'alice', file: id, part: 0 }, new Uint8Array(9), at + 1e9);
    await app.graft.schedule(() => undefined);
    expect([await stored(), await rowsLeft()]).toEqual([1, 1]);
    app.graft.clock.advance(UPLOAD_DEAD_MS);
    await app.graft.schedule(() => undefined);
    expect([await stored(), await rowsLeft()]).toEqual([0, 0]);
  });

  it('by a store that does not delete is deleted later', async () => {
    const { id } = (await send([rows('{}'), purpose])).body;
    const remove = app.graft.kv.delete.bind(app.graft.kv);
    app.graft.kv.delete = () => Promise.reject(new Error('no'));
    expect(await ask(`/v1/files/${id}`, alice, { method: 'DELETE' })).toMatchObject({ status: 200 });
    expect(await ask(`/v1/files/${id}`)).toMatchObject({ status: 404 });
    app.graft.kv.delete = remove;
    app.graft.clock.advance(61_000);
    await app.graft.schedule(() => undefined);
    expect([await stored(), await rowsLeft()]).toEqual([0, 0]);
  });
});

it('erases a tenant’s files, and no other’s', async () => {
  await send([rows(rowsOfBytes(ROWS_PART_BYTES + 1), 'canary'), purpose]);
  await send([rows('{}'), purpose], bob);
  const dry = await app.ask('/admin/erase', { tenant: 'alice', dry_run: true });
  expect(dry.body).toMatchObject({ plan: { row_files: 1 } });
  for (let cursor: unknown = null, page = 0; page === 0 || cursor !== null; page += 1)
    ({ cursor } = (await app.ask('/admin/erase', { tenant: 'alice', cursor })).body);
  expect(await stored()).toBe(1);
  const { results } = await app.db.prepare('SELECT * FROM row_files').all();
  expect(JSON.stringify(results)).not.toMatch(/alice|canary/);
  app.graft.clock.advance(61_000);
  await app.graft.schedule(() => undefined);
  expect(await rowsLeft()).toBe(1);
});

it('takes nothing in for a tenant that is erased meanwhile', async () => {
  const { rowFiles } = app.graft.services;
  const grow = rowFiles.grow.bind(rowFiles);
  rowFiles.grow = async (file) => {
    const grown = await grow(file);
    await rowFiles.erase({ tenant: 'alice', limit: 9, at: file.at });
    return grown;
  };
  expect((await send([rows('{}'), purpose])).status).toBe(404);
  expect(await stored()).toBe(0);
});
