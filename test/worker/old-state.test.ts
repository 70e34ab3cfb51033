/**
 * What an edge of before left in D1, KV and its Durable Objects: it is served as it was, and can be changed. The state
 * was made by the version that `test/fixtures/old-state/expected.json` names, with this test's secrets.
 */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { unzipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { startEdge, type Edge } from '../../cli/local/edge.ts';
import { hashApiKey, parseSigningKeys } from '../../protocol/index.ts';
import { startFakeOrigin, type FakeOrigin } from '../fakes/fake-origin.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chat, MAC_KEY, ORIGIN_KEYS } from './edge-harness.ts';

const FIXTURE = path.join(import.meta.dirname, '../fixtures/old-state');
const Expected = z.object({
  adminKey: z.string(),
  keys: z.record(z.string(), z.string()),
  asked: z.array(
    z.object({
      key: z.string(),
      model: z.string(),
      status: z.number(),
      adapter: z.string().nullable(),
      chain: z.string().nullable(),
    }),
  ),
  /** Answers of the admin API, by path. */
  views: z.record(z.string(), z.unknown()),
});

let expected: z.infer<typeof Expected>;
let folder: string;
let origin: FakeOrigin;
let edge: Edge;

const send = (key: string, pathAndQuery: string, init: RequestInit = {}) =>
  fetch(edge.url + pathAndQuery, {
    ...init,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
  });

async function ask(key: string, model: string) {
  const response = await send(expected.keys[key] ?? '', '/v1/chat/completions', {
    method: 'POST',
    body: chat(model),
  });
  await response.text();
  const { status, headers } = response;
  return { key, model, status, adapter: headers.get('x-graft-adapter'), chain: headers.get('x-graft-chain') };
}

beforeAll(async () => {
  expected = Expected.parse(JSON.parse(await readFile(path.join(FIXTURE, 'expected.json'), 'utf8')));
  folder = await mkdtemp(path.join(tmpdir(), 'graft-old-state-'));
  for (const [name, bytes] of Object.entries(
    unzipSync(new Uint8Array(await readFile(path.join(FIXTURE, 'state.zip')))),
  )) {
    if (name.endsWith('/')) continue;
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), bytes);
  }
  origin = await startFakeOrigin({ id: 'o1', keys: parseSigningKeys(ORIGIN_KEYS), base: TINY_BASE });
  edge = await startEdge({
    port: 0,
    stateFolder: folder,
    bindings: {
      ORIGINS: JSON.stringify([{ id: 'o1', url: origin.url }]),
      GRAFT_ORIGIN_KEYS: ORIGIN_KEYS,
      GRAFT_MAC_KEY: MAC_KEY,
      GRAFT_ADMIN_KEY_SHA256: await hashApiKey(expected.adminKey),
    },
    onLog: () => undefined,
  });
}, 60_000);

afterAll(async () => {
  await edge?.stop();
  await origin?.stop();
  await rm(folder, { recursive: true, force: true });
});

describe('a registry of before', () => {
  it('answers every request as it did, from its adapters in KV', async () => {
    expect(expected.asked.length).toBeGreaterThan(6);
    for (const was of expected.asked) expect(await ask(was.key, was.model)).toEqual(was);
  });

  it('shows what it showed', async () => {
    for (const [view, was] of Object.entries(expected.views))
      expect(await (await send(expected.adminKey, view)).json(), view).toMatchObject(was as object);
  });

  it('goes on: a version is published, taken back and retired, keys are made and revoked, repair finds nothing', async () => {
    const admin = async (method: string, to: string, body?: object) => {
      const response = await send(expected.adminKey, to, {
        method,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      expect([to, response.ok ? 'ok' : text]).toEqual([to, 'ok']);
      return (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    };
    const { bytes, digest } = tinyAdapter({ seed: 9 });
    const sent = await fetch(`${edge.url}/admin/blobs/${digest}/parts/0`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${expected.adminKey}` },
      body: new Uint8Array(bytes),
    });
    expect(sent.status).toBe(200);
    await admin('POST', `/admin/blobs/${digest}`, {
      bytes: bytes.length,
      parts: [{ bytes: bytes.length, sha256: digest }],
    });
    const published = await admin('POST', '/admin/versions', { name: 'support', digest, owner: 'acme' });
    expect(published).toMatchObject({ version: 4 });
    expect((await ask('acme', 'support@4')).status).toBe(200);
    await admin('POST', '/admin/rollback', { name: 'support' });
    await admin('POST', '/admin/retire', { name: 'support', version: 4 });
    expect((await ask('acme', 'support@4')).status).toBe(404);
    const made = await admin('POST', '/admin/keys', { tenant: 'acme' });
    await admin('DELETE', `/admin/keys/${String(made['id'])}`);
    let cursor: unknown;
    do {
      const page = await admin('POST', '/admin/repair', cursor === undefined ? {} : { cursor });
      expect(page).toMatchObject({ mended: [] });
      expect(page['damaged'] ?? []).toEqual([]);
      ({ cursor } = page);
    } while (cursor !== null);
  });
});
