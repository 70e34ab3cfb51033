/** Tenants who send the same file, or say so: none can block, break or squat another's, or find out that it is there. */
import { createHash } from 'node:crypto';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const file = tinyAdapter({ seed: 1 });
const { digest } = file;
const bytes = new Uint8Array(file.bytes);
const junk = Uint8Array.from(bytes, (byte) => byte ^ 0xff);
/** Longer than what KV may be behind, and than its pause between two writes of a key. */
const LATER_MS = 61_000;

const sha256 = (data: Uint8Array): string => createHash('sha256').update(data).digest('hex');
const split = (data: Uint8Array<ArrayBuffer>, ...ends: number[]): Uint8Array<ArrayBuffer>[] =>
  [...ends, data.length].map((end, i) => data.subarray(ends[i - 1] ?? 0, end));
const recordOf = (parts: Uint8Array[]) => ({
  bytes: parts.reduce((sum, part) => sum + part.length, 0),
  parts: parts.map((part) => ({ bytes: part.length, sha256: sha256(part) })),
});

/** What one tenant does with the file, over the admin API. */
async function tenantOf(graft: AppHarness, tenant: string) {
  const made = await graft.request('/admin/keys', { body: { kind: 'admin', tenant } });
  const { key } = (await made.json()) as { key: string };
  const answer = async (response: Response) => ({
    status: response.status,
    body: JSON.parse((await response.text()).replaceAll(tenant, '<tenant>')) as {
      complete?: boolean;
      error?: { reason?: string };
    },
  });
  const ask = async (path: string, init: Parameters<AppHarness['request']>[1] = {}) =>
    answer(await graft.request(path, { key, ...init }));
  const put = async (index: number, part: Uint8Array) =>
    ask(`/admin/blobs/${digest}/parts/${index}`, { method: 'PUT', body: new Uint8Array(part) });
  const close = async (parts: Uint8Array[]) => ask(`/admin/blobs/${digest}`, { body: recordOf(parts) });
  return {
    put,
    close,
    state: () => ask(`/admin/blobs/${digest}`),
    publish: (name = `${tenant}/notes`) => ask('/admin/versions', { body: { name, digest } }),
    async upload(parts: Uint8Array[]) {
      for (const [index, part] of parts.entries()) await put(index, part);
      return close(parts);
    },
  };
}

/** sha256 of the file as an origin would be brought it. */
async function stored(graft: AppHarness): Promise<string> {
  const { blobs } = graft.services;
  const record = await blobs.getRecord(digest);
  const parts = await Promise.all(
    (record?.parts ?? []).map(async ({ sha256 }) => {
      const part = await blobs.getPart(digest, sha256);
      return new Uint8Array(await new Response(part).arrayBuffer());
    }),
  );
  return sha256(Buffer.concat(parts));
}

let graft: AppHarness;
beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  graft = await createAppHarness();
});

describe('a file that several tenants send', () => {
  it('is not blocked by junk under its digest, and holding it needs its bytes', async () => {
    const [alice, bob] = [await tenantOf(graft, 'alice'), await tenantOf(graft, 'bob')];
    expect((await bob.put(0, junk)).status).toBe(200);
    expect((await alice.put(0, bytes)).status).toBe(200);
    expect(await bob.close([junk])).toMatchObject({
      status: 422,
      body: { error: { reason: 'digest_mismatch' } },
    });
    expect(await bob.close([bytes])).toMatchObject({
      status: 422,
      body: { error: { reason: 'part_mismatch' } },
    });
    expect((await bob.state()).body.complete).toBe(false);
    expect(await bob.publish()).toMatchObject({ status: 422, body: { error: { reason: 'blob_missing' } } });
    expect((await alice.close([bytes])).status).toBe(201);
    expect((await alice.publish()).status).toBe(201);
    expect((await bob.put(0, junk)).status).toBe(200);
    expect(await stored(graft)).toBe(digest);
  });

  it('stays whole when junk comes in at any moment of its completion', async () => {
    const at = { call: 0, of: 0 };
    let intrude = async (): Promise<unknown> => undefined;
    const wrap = <P extends object>(port: P): P =>
      new Proxy(port, {
        get(target, property) {
          const value: unknown = Reflect.get(target, property);
          if (typeof value !== 'function') return value;
          return async (...args: unknown[]) => {
            if ((at.call += 1) === at.of) await intrude();
            return (await Reflect.apply(value, target, args)) as unknown;
          };
        },
      });
    let total = 1;
    for (let of = 1; of <= total; of += 1) {
      graft = await createAppHarness();
      const bob = await tenantOf(graft, 'bob');
      const beside = await createAppHarness({ beside: graft, wrap });
      const alice = await tenantOf(beside, 'alice');
      const parts = split(bytes, 300);
      for (const [index, part] of parts.entries()) await alice.put(index, part);
      graft.clock.advance(LATER_MS);
      intrude = async () => {
        for (const [index, part] of split(junk, 300).entries()) await bob.put(index, part);
      };
      Object.assign(at, { call: 0, of });
      expect((await alice.close(parts)).status, `before call ${of}`).toBe(201);
      total = at.call;
      graft.clock.advance(LATER_MS);
      expect(await stored(graft), `before call ${of}`).toBe(digest);
      expect((await alice.publish()).status, `before call ${of}`).toBe(201);
    }
    expect(total).toBeGreaterThan(5);
  });

  it('is taken in any parts that make it, also when somebody has completed it in odd ones', async () => {
    const [alice, bob] = [await tenantOf(graft, 'alice'), await tenantOf(graft, 'bob')];
    expect((await bob.upload(split(bytes, 1, 100))).status).toBe(201);
    graft.clock.advance(LATER_MS);
    expect((await alice.upload([bytes])).status).toBe(201);
    expect((await alice.publish()).status).toBe(201);
    expect((await bob.publish()).status).toBe(201);
    graft.clock.advance(LATER_MS);
    expect(await stored(graft)).toBe(digest);
    // Fewer parts are better, more are not.
    expect((await graft.services.blobs.getRecord(digest))?.parts).toHaveLength(1);
    expect((await bob.upload(split(bytes, 7))).status).toBe(200);
    expect((await graft.services.blobs.getRecord(digest))?.parts).toHaveLength(1);
  });

  it('does not show: answers, and the work for them, are the same with and without the others', async () => {
    const play = async (others: 'nobody' | 'junk' | 'whole' | 'other parts') => {
      const calls: string[] = [];
      const wrap = <P extends object>(port: P, name: string): P =>
        new Proxy(port, {
          get(target, property) {
            const value: unknown = Reflect.get(target, property);
            if (typeof value !== 'function') return value;
            return (...args: unknown[]) => {
              calls.push(`${name}.${String(property)} ${typeof args[0] === 'string' ? args[0] : ''}`);
              return Reflect.apply(value, target, args) as unknown;
            };
          },
        });
      const shared = await createAppHarness();
      const bob = await tenantOf(shared, 'bob');
      if (others === 'junk') await bob.put(0, junk);
      if (others === 'whole') await bob.upload([bytes]);
      if (others === 'other parts') await bob.upload(split(bytes, 1, 100));
      shared.clock.advance(LATER_MS);
      const alice = await tenantOf(await createAppHarness({ beside: shared, wrap }), 'alice');
      const parts = split(bytes, 300);
      const answers = [await alice.state(), await alice.close(parts), await alice.publish('x')];
      for (const [index, part] of parts.entries())
        answers.push(await alice.put(index, junk.subarray(index)), await alice.put(index, part));
      answers.push(await alice.state(), await alice.close([bytes]), await alice.close(parts));
      answers.push(await alice.state());
      // Keys are new in each play.
      return { answers, calls: calls.filter((call) => !/key:|^(keyLedger|rights)\./.test(call)) };
    };
    const alone = await play('nobody');
    expect(alone.answers.at(-1)?.body.complete).toBe(true);
    for (const others of ['junk', 'whole', 'other parts'] as const)
      expect(await play(others), others).toEqual(alone);
  });
});
