/**
 * What an edge of before left in D1, KV and its Durable Objects: it is served as it was, and can be changed. The state
 * was made by the version that `test/fixtures/old-state/expected.json` names, with this test's secrets.
 */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { unzipSync } from 'fflate';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from './edge-harness.ts';

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
let graft: TestEdge;

async function ask(key: string, model: string) {
  const response = await graft.request('/v1/chat/completions', {
    ...{ method: 'POST', body: chat(model), headers: { 'content-type': 'application/json' } },
    key: expected.keys[key] ?? '',
  });
  await response.text();
  const { status, headers } = response;
  return { key, model, status, adapter: headers.get('x-graft-adapter'), chain: headers.get('x-graft-chain') };
}

async function unpack(folder: string): Promise<void> {
  const files = unzipSync(new Uint8Array(await readFile(path.join(FIXTURE, 'state.zip'))));
  for (const [name, bytes] of Object.entries(files)) {
    if (name.endsWith('/')) continue;
    await mkdir(path.dirname(path.join(folder, name)), { recursive: true });
    await writeFile(path.join(folder, name), bytes);
  }
}

beforeAll(async () => {
  expected = Expected.parse(JSON.parse(await readFile(path.join(FIXTURE, 'expected.json'), 'utf8')));
  graft = await startTestEdge({ adminKey: expected.adminKey, fill: unpack });
});

afterAll(() => graft?.stop());

describe('a registry of before', () => {
  it('answers every request as it did, from its adapters in KV', async () => {
    expect(expected.asked.length).toBeGreaterThan(6);
    for (const was of expected.asked) expect(await ask(was.key, was.model)).toEqual(was);
  });

  it('shows what it showed', async () => {
    for (const [view, was] of Object.entries(expected.views))
      expect(await (await graft.admin(view)).json(), view).toMatchObject(was as object);
  });

  it('goes on: a version is published, taken back and retired, keys are made and revoked, repair finds nothing', async () => {
    const admin = async (method: string, to: string, body?: object) => {
      const response = await graft.admin(to, {
        method,
        headers: { 'content-type': 'application/json' },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
      const text = await response.text();
      expect([to, response.ok ? 'ok' : text]).toEqual([to, 'ok']);
      return (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    };
    const published = await graft.publish({
      name: 'support',
      adapter: tinyAdapter({ seed: 9 }),
      owner: 'acme',
    });
    expect(published.status).toBe(201);
    expect(await published.json()).toMatchObject({ version: 4 });
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
