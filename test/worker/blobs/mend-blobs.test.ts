/** Adapters whose bytes were lost or damaged in the store. */
import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { RepairAnswer } from '../../../protocol/admin-api/upkeep.ts';
import { createApiClient } from '../../../cli/api-client.ts';
import { uploadBlob } from '../../../cli/publish/upload-blob.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

/** Longer than what KV may be behind. */
const LATER_MS = 121_000;
const file = tinyAdapter({ seed: 1 });
const { digest } = file;
const bytes = new Uint8Array(file.bytes);
const PART = `blob:${digest}:${digest}`;
const RECORD = `blob:${digest}`;

let graft: AppHarness;
let key: string;
beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
  expect((await graft.publish('notes', file)).status).toBe(201);
  const made = await graft.request('/admin/keys', { body: { tenant: 'default', scopes: [] } });
  ({ key } = (await made.json()) as { key: string });
  graft.clock.advance(LATER_MS);
});

/** An origin that has nothing, and takes what it is sent when it has its hash. */
function emptyOrigin(): { taken: string[] } {
  const origin = { taken: [] as string[], complete: false };
  const { answer } = graft.origin;
  graft.origin.answer = async (method, path, init) => {
    if (method === 'PUT' && path.includes('/parts/')) {
      const body = new Uint8Array(await new Response(init.body as ReadableStream).arrayBuffer());
      const sha256 = createHash('sha256').update(body).digest('hex');
      origin.complete = sha256 === digest;
      origin.taken.push(origin.complete ? 'good' : 'bad');
      return Response.json({}, { status: origin.complete ? 200 : 422 });
    }
    if (method === 'PUT') return Response.json({ missing_parts: [0] }, { status: 202 });
    if (origin.complete) return answer(method, path, init);
    const error = { message: 'x', code: 'adapter_missing', missing: [digest] };
    return Response.json({ error }, { status: 409 });
  };
  return origin;
}

const ask = async () => {
  const body = { model: 'notes', messages: [{ role: 'user', content: 'hi' }] };
  return (await graft.request('/v1/chat/completions', { key, body })).status;
};
const client = () =>
  createApiClient({
    url: '',
    key: graft.adminKey,
    fetchFn: (path, init) =>
      graft.request(path as string, {
        method: init?.method ?? 'GET',
        ...(init?.body == null
          ? {}
          : { body: typeof init.body === 'string' ? (JSON.parse(init.body) as unknown) : init.body }),
      }),
  });
const upload = () => uploadBlob({ client: client(), digest, bytes, retrying: { sleep: graft.clock.sleep } });
const publish = async () => {
  const response = await graft.request('/admin/versions', { body: { name: 'notes', digest } });
  const { error } = (await response.json()) as { error?: { reason?: string } };
  return error?.reason ?? response.status;
};

describe('an adapter whose bytes are lost', () => {
  it.each([
    ['missing', () => null],
    ['damaged', () => 'x'.repeat(bytes.length)],
    ['cut', () => 'x'],
  ])('is mended by publishing it again: %s', async (_, harm) => {
    const origin = emptyOrigin();
    graft.kv.tamper(PART, harm);
    expect(await ask()).toBe(503);
    expect(await upload()).toBe(0);
    expect(await publish()).toBe('blob_damaged');
    expect(await publish()).toBe('blob_missing');
    expect(await upload()).toBe(bytes.length);
    graft.clock.advance(LATER_MS);
    expect(await publish()).toBe(200);
    expect(await ask()).toBe(200);
    expect(origin.taken.at(-1)).toBe('good');
  });

  it('is mended by publishing it again right after it was published, in several parts too', async () => {
    const other = tinyAdapter({ seed: 2 });
    const send = () =>
      uploadBlob({
        ...{ client: client(), digest: other.digest, bytes: new Uint8Array(other.bytes), partBytes: 200 },
        retrying: { sleep: graft.clock.sleep },
      });
    const publishOther = async () => {
      const response = await graft.request('/admin/versions', {
        body: { name: 'other', digest: other.digest },
      });
      const { error } = (await response.json()) as { error?: { reason?: string } };
      return error?.reason ?? response.status;
    };
    await send();
    expect(await publishOther()).toBe(201);
    const parts = (await graft.kv.list({ prefix: `blob:${other.digest}:`, cursor: null })).keys.map(
      ({ name }) => name,
    );
    expect(parts.length).toBeGreaterThan(2);
    for (const part of parts) graft.kv.tamper(part, () => null);
    expect(await publishOther()).toBe('blob_damaged');
    expect(await send()).toBe(other.bytes.length);
    expect(await publishOther()).toBe(200);
  });

  it('is found by a repair that reads no bytes, and left to one that does', async () => {
    const repair = async () => {
      const mended: unknown[] = [];
      for (let cursor: string | null = null; ;) {
        const answer = await graft.request('/admin/repair', { body: { cursor } });
        const page = RepairAnswer.parse(await answer.json());
        mended.push(...page.mended);
        if (page.cursor === null) return mended;
        cursor = page.cursor;
      }
    };
    expect(await repair()).toEqual([]);
    graft.kv.tamper(PART, () => null);
    expect(await repair()).toEqual([{ kind: 'blob', id: 'notes@1', was: 'missing', did: 'left' }]);
  });

  it('is mended in other parts as well', async () => {
    emptyOrigin();
    graft.kv.tamper(PART, () => null);
    expect(await publish()).toBe('blob_damaged');
    const options = { client: client(), digest, bytes, partBytes: 200 };
    await uploadBlob({ ...options, retrying: { sleep: graft.clock.sleep } });
    graft.clock.advance(301_000);
    expect(await publish()).toBe(200);
    const record = await graft.services.blobs.getRecord(digest);
    expect(record?.parts.map((part) => part.bytes)).toEqual([200, 200, 72]);
  });

  it.each([
    ['missing', () => null],
    ['none', () => 'x'],
    ['another', () => JSON.stringify({ bytes: 1, parts: [{ bytes: 1, sha256: 'a'.repeat(64) }] })],
  ])('but for its record, gets it back when it is published again: %s', async (_, harm) => {
    emptyOrigin();
    graft.kv.tamper(RECORD, harm);
    expect(await ask()).toBe(503);
    graft.clock.advance(LATER_MS);
    expect(await publish()).toBe(200);
    graft.clock.advance(LATER_MS);
    expect(await ask()).toBe(200);
  });

  it('is sent again in part when one is lost while it is uploaded', async () => {
    const other = tinyAdapter({ seed: 3 });
    const parts = [other.bytes.subarray(0, 100), other.bytes.subarray(100)];
    const path = `/admin/blobs/${other.digest}`;
    for (const [index, part] of parts.entries())
      await graft.request(`${path}/parts/${index}`, { method: 'PUT', body: new Uint8Array(part) });
    const hashes = parts.map((part) => createHash('sha256').update(part).digest('hex'));
    graft.kv.tamper(`blob:${other.digest}:${hashes[1]}`, () => 'x');
    graft.clock.advance(LATER_MS);
    const options = { client: client(), digest: other.digest, bytes: new Uint8Array(other.bytes) };
    const sent = await uploadBlob({ ...options, partBytes: 100, retrying: { sleep: graft.clock.sleep } });
    // Other parts than before: all but the first.
    expect(sent).toBe(other.bytes.length - 100);
    graft.kv.tamper(`blob:${other.digest}:${hashes[0]}`, () => 'x');
    expect((await graft.publish('other', other)).status).toBe(201);
  });
});

describe('repair of blobs', () => {
  const repair = async (dryRun = false) => {
    const response = await graft.request('/admin/repair', { body: { blobs: true, dry_run: dryRun } });
    const page = (await response.json()) as {
      checked: number;
      mended: { kind: string; id: string; was: string; did: string }[];
      cursor: string | null;
    };
    expect(page).toMatchObject({ step: 'blobs', cursor: null });
    return page.mended.map(({ kind, id, was, did }) => `${kind} ${id}: ${was}, ${did}`);
  };

  it('names what is lost or damaged, by its versions, and has it sent again', async () => {
    expect((await graft.publish('same', file)).status).toBe(201);
    await graft.upload(tinyAdapter({ seed: 2 }));
    expect(await repair()).toEqual([]);
    graft.clock.advance(LATER_MS);
    graft.kv.tamper(PART, () => 'x');
    const expected = ['blob notes@1: damaged, marked', 'blob same@1: damaged, marked'];
    expect(await repair(true)).toEqual(expected);
    expect(await upload()).toBe(0);
    expect(await repair()).toEqual(expected);
    graft.clock.advance(LATER_MS);
    expect(await upload()).toBe(bytes.length);
    graft.clock.advance(LATER_MS);
    expect(await repair()).toEqual([]);
  });

  it('writes records again', async () => {
    const none = tinyAdapter({ seed: 2 });
    await graft.upload(none);
    graft.clock.advance(LATER_MS);
    graft.kv.tamper(RECORD, () => null);
    graft.kv.tamper(`blob:${none.digest}`, () => 'x');
    const expected = ['blob notes@1: missing, written', `blob ${none.digest}: unreadable, written`];
    expect((await repair(true)).sort()).toEqual(expected.sort());
    expect((await repair()).sort()).toEqual(expected);
    graft.clock.advance(LATER_MS);
    expect(await repair()).toEqual([]);
  });
});
