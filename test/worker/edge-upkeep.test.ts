/** Repair and collection of garbage in real workerd, on Miniflare's KV and D1. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import type { SqlDatabase } from '../../worker/platform/d1-database.ts';
import { createD1Registry } from '../../worker/registry/d1-registry.ts';
import type { NameRow } from '../../worker/registry/ports.ts';
import { chat, startTestEdge, type TestEdge } from './edge-harness.ts';

const root = tinyAdapter({ seed: 1 });
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
let graft: TestEdge;
beforeAll(async () => {
  graft = await startTestEdge();
  expect((await graft.publish({ name: 'medicine', adapter: root })).status).toBe(201);
});
afterAll(() => graft.stop());

describe('upkeep', () => {
  const run = async (path: string) => {
    const found: unknown[] = [];
    for (let cursor: string | null = null; ;) {
      const response = await graft.admin(path, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ cursor }),
      });
      expect(response.status).toBe(200);
      const page = (await response.json()) as {
        mended?: unknown[];
        files?: unknown[];
        cursor: string | null;
      };
      found.push(...(page.mended ?? page.files ?? []));
      if (page.cursor === null) return found;
      cursor = page.cursor;
    }
  };

  it('writes again what KV has lost, and takes away what nobody knows', async () => {
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    expect(await run('/admin/repair')).toEqual([]);
    const genuine = (await kv.get('name:medicine')) as string;
    await kv.delete('name:medicine');
    await kv.put('name:nobody/knows', genuine);
    expect(await run('/admin/repair')).toEqual([
      { kind: 'name', id: 'medicine', was: 'missing', did: 'written' },
      { kind: 'name', id: 'nobody/knows', was: 'unknown', did: 'removed' },
    ]);
    expect(await kv.get('name:medicine')).toBe(genuine);
    expect(await run('/admin/repair')).toEqual([]);
  });

  it('takes away an experiment that nobody knows, once', async () => {
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    await kv.put('experiment:exp_000000000000000b', 'of a database that was put back');
    expect(await run('/admin/repair')).toEqual([
      { kind: 'experiment', id: 'exp_000000000000000b', was: 'unknown', did: 'removed' },
    ]);
    expect(await kv.get('experiment:exp_000000000000000b')).toContain('"gone":true');
    expect(await run('/admin/repair')).toEqual([]);
  });

  it('marks and deletes an upload that never became a version, and nothing else', async () => {
    const kv = await graft.edge.miniflare.getKVNamespace('ADAPTERS');
    const db = await graft.edge.miniflare.getD1Database('DB');
    const left = tinyAdapter({ seed: 12, rank: 3 });
    expect((await graft.upload(left, { partBytes: 500 })).status).toBe(201);
    const ofLeft = async () => (await kv.list({ prefix: `blob:${left.digest}` })).keys.length;
    const parts = Math.ceil(left.bytes.length / 500);
    expect(await ofLeft()).toBe(parts + 1);
    await db.prepare('UPDATE stored_files SET touched_at = 0').run();
    const marked = (await run('/admin/gc')) as { digest: string; action: string; bytes: number }[];
    const mine = marked.find(({ digest }) => digest === left.digest);
    expect(mine).toMatchObject({ action: 'marked', bytes: left.bytes.length });
    expect(marked.map(({ digest }) => digest)).not.toContain(root.digest);
    await db.prepare('UPDATE stored_files SET deleting_at = 0 WHERE digest = ?').bind(left.digest).run();
    expect(await run('/admin/gc')).toContainEqual({
      digest: left.digest,
      bytes: left.bytes.length,
      action: 'deleted',
      deletable_at: null,
    });
    expect(await ofLeft()).toBe(0);
    expect((await db.prepare('SELECT * FROM stored_parts').all()).results).toEqual([]);
    // Its record, its part, and the version's proof.
    expect((await kv.list({ prefix: `blob:${root.digest}` })).keys).toHaveLength(3);
  });
});

describe('a change whose edge died between D1 and KV', () => {
  /** What such an edge leaves: the registry's own transaction, and nothing else. */
  const registryOf = async (edge: TestEdge) =>
    createD1Registry((await edge.edge.miniflare.getD1Database('DB')) as unknown as SqlDatabase);

  it('is served once the schedule has come', async () => {
    expect((await graft.publish({ name: 'medicine', adapter: tinyAdapter({ seed: 2 }) })).status).toBe(201);
    const key = await graft.makeKey({ tenant: 'default' });
    const asked = async () => {
      const body = chat('medicine');
      const answer = await graft.request('/v1/chat/completions', { method: 'POST', key, body });
      return answer.headers.get('x-graft-adapter');
    };
    expect(await asked()).toBe('medicine@2');
    const registry = await registryOf(graft);
    const before = (await registry.name('medicine')) as NameRow;
    expect((await registry.flip({ before, to: 1, actor: 'x', at: Date.now() })).ok).toBe(true);
    expect(await asked()).toBe('medicine@2');
    await graft.edge.runSchedule();
    expect(await asked()).toBe('medicine@1');
    // Nobody waits for it to be struck off.
    while ((await registry.stalePointers({ limit: 9, newest: false })).length > 0) await pause();
  });

  it('is served once a fresh edge has had its first request', async () => {
    const fresh = await startTestEdge();
    try {
      const registry = await registryOf(fresh);
      const note = { actor: 'x', at: Date.now(), owner: 'default' };
      expect((await registry.alias({ before: null, name: 'a', target: 'b', ...note })).ok).toBe(true);
      const kv = await fresh.edge.miniflare.getKVNamespace('ADAPTERS');
      expect(await kv.get('name:a')).toBeNull();
      await fresh.request('/healthz');
      while ((await kv.get('name:a')) === null) await pause();
      expect(await kv.get('name:a')).toContain('"alias":"b"');
    } finally {
      await fresh.stop();
    }
  });
});
