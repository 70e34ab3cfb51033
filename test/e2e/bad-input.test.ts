/** A full queue, an origin that is away, adapters and cache files that are not what they should be. */
import { createHash } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { startEdge } from '../../cli/local/edge.ts';
import { generateApiKey, hashApiKey } from '../../protocol/identity.ts';
import { MAX_BODY_BYTES } from '../../protocol/limits.ts';
import { parseSigningKeys, sign, SIGNATURE_HEADER, type SigningKey } from '../../protocol/signature.ts';
import { TINY_LLAMA } from '../fixtures/tiny-base.ts';
import { ATTENTION, bearer, CHAT, chatBody, textOf, useCanaryStack } from './canary-stack.ts';
import { readBytes, send } from './tiny-stack.ts';

const rig = useCanaryStack('--slots 2 --max-queue 2');
const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');

describe('load', () => {
  it('a full queue: 429 with Retry-After, and the rest is served', async () => {
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => rig.chat({ max_tokens: 300, ignore_eos: true })),
    );
    const refused = answers.filter(({ status }) => status === 429);
    expect(refused.length).toBeGreaterThan(0);
    for (const answer of refused) {
      expect(answer.error).toMatchObject({ code: 'queue_full', type: 'rate_limit_error' });
      expect(Number(answer.headers['retry-after'])).toBeGreaterThanOrEqual(1);
      expect(Number(answer.headers['retry-after-ms'])).toBeGreaterThan(0);
    }
    const served = answers.filter(({ status }) => status !== 429);
    expect(new Set(served.map(textOf)).size).toBe(1);
  });

  it('bad requests beside it do not disturb a row', async () => {
    const long = { max_tokens: 300, ignore_eos: true };
    const alone = textOf(await rig.chat(long));
    const [beside] = await Promise.all([
      rig.chat(long),
      rig.post('{'),
      rig.chat({ model: 'secret/none' }),
      rig.chat({ messages: [{ role: 'user', content: 'x'.repeat(TINY_LLAMA.context) }] }),
      rig.chat({}, { key: generateApiKey('gk') }),
      rig.post('x'.repeat(MAX_BODY_BYTES + 1)),
    ]);
    expect(textOf(beside)).toBe(alone);
  });

  it('an origin that is down: 503 with Retry-After', async () => {
    const key = generateApiKey('gk');
    const adminKey = generateApiKey('ga');
    const edge = await startEdge({
      port: 0,
      stateFolder: path.join(rig.stack.folder, 'other-state'),
      bindings: {
        ORIGINS: JSON.stringify([{ id: 'dead', url: 'http://127.0.0.1:9' }]),
        GRAFT_ORIGIN_KEYS: rig.stack.keys.originKeys,
        GRAFT_MAC_KEY: rig.stack.keys.macSecret,
        GRAFT_ADMIN_KEY_SHA256: await hashApiKey(adminKey),
      },
    });
    try {
      const registered = await send(edge.url, '/admin/keys', {
        headers: bearer(adminKey),
        body: JSON.stringify({ hash: await hashApiKey(key), scopes: ['**'] }),
      });
      expect(registered.status).toBe(201);
      // What has no slash could be the base's own id, which only an origin can tell.
      for (const model of ['base', 'some-base']) {
        const answer = await send(edge.url, CHAT, { headers: bearer(key), body: chatBody({ model }) });
        expect([answer.status, answer.error.code]).toEqual([503, 'origin_unavailable']);
        expect(Number(answer.headers['retry-after'])).toBeGreaterThanOrEqual(1);
      }
      const publishing = await send(edge.url, '/admin/versions', {
        headers: bearer(adminKey),
        body: JSON.stringify({ name: 'x', digest: 'a'.repeat(64) }),
      });
      expect(publishing.status).toBe(503);
    } finally {
      await edge.stop();
    }
  });
});

describe('adapters', () => {
  it('of a base with another shape: 422 with both shapes', async () => {
    const wide = { ...TINY_LLAMA, hidden: 64, heads: 4 };
    const { digest, bytes } = await rig.canonical(rig.adapterFolder('wide', ATTENTION, wide));
    const record = { bytes: bytes.length, parts: [{ bytes: bytes.length, sha256: sha256(bytes) }] };
    expect((await rig.admin(`/admin/blobs/${digest}/parts/0`, bytes, 'PUT')).status).toBe(200);
    expect((await rig.admin(`/admin/blobs/${digest}`, record)).status).toBe(201);
    const answer = await rig.admin('/admin/versions', { name: 'wide', digest });
    expect([answer.status, answer.error.code, answer.error.reason]).toEqual([
      422,
      'adapter_invalid',
      'shape_mismatch',
    ]);
    expect(answer.error.message).toContain('A is [8, 64] and B [64, 8]');
    expect(answer.error.message).toContain('needs A [8, 48] and B [48, 8]');
    expect((await rig.chat({ model: 'wide' })).status).toBe(404);
  });

  it('that are not whole or not what they say they are: 422 at the edge', async () => {
    const { digest, bytes } = await rig.canonical(rig.adapterFolder('cut', { ...ATTENTION, seed: 31 }));
    const tampered = bytes.slice();
    tampered[tampered.length - 1]! ^= 1;
    const put = (data: Uint8Array, query = '') =>
      rig.admin(`/admin/blobs/${digest}/parts/0${query}`, data, 'PUT');
    expect((await put(tampered, `?sha256=${sha256(bytes)}`)).error).toMatchObject({
      code: 'adapter_invalid',
      message: expect.stringContaining('Part 0') as string,
    });
    for (const wrong of [tampered, bytes.subarray(0, -1)]) {
      expect((await put(wrong)).status).toBe(200);
      const record = { bytes: wrong.length, parts: [{ bytes: wrong.length, sha256: sha256(wrong) }] };
      const closed = await rig.admin(`/admin/blobs/${digest}`, record);
      expect([closed.status, closed.error.reason]).toEqual([422, 'digest_mismatch']);
    }
    const unsent = await rig.admin('/admin/versions', { name: 'cut', digest });
    expect([unsent.status, unsent.error.reason]).toEqual([422, 'blob_missing']);
  });

  it('in parts that are truncated or tampered with: refused by the origin with the part’s number', async () => {
    const { digest, bytes } = await rig.canonical(rig.adapterFolder('direct', { ...ATTENTION, seed: 32 }));
    const key = parseSigningKeys(rig.stack.keys.originKeys)[0] as SigningKey;
    const signed = async (
      method: string,
      target: string,
      body: Uint8Array | readonly Uint8Array[],
      hash: string,
    ) => {
      const parts = { originId: rig.stack.keys.originId, method, pathAndQuery: target, bodyHash: hash };
      const signature = await sign(key, parts, Date.now());
      return send(rig.stack.local.originUrl, target, {
        method,
        body,
        headers: { [SIGNATURE_HEADER]: signature },
      });
    };
    const half = bytes.length >> 1;
    const parts = [bytes.subarray(0, half), bytes.subarray(half)];
    const second = parts[1] as Uint8Array<ArrayBuffer>;
    const hash = sha256(second);
    const record = Buffer.from(
      JSON.stringify({
        bytes: bytes.length,
        parts: parts.map((part) => ({ bytes: part.length, sha256: sha256(part) })),
      }),
    );
    expect((await signed('PUT', `/adapters/${digest}`, record, sha256(record))).status).toBe(201);
    const put = (index: number, body: Uint8Array | readonly Uint8Array[], said: string) =>
      signed('PUT', `/adapters/${digest}/parts/${index}`, body, said);

    const tampered = second.slice();
    tampered[10]! ^= 1;
    const refusals: [Uint8Array | readonly Uint8Array[], string][] = [
      [second.subarray(0, -1), 'part_wrong_length'],
      [[second.subarray(0, 5), second.subarray(5, -1)], 'part_too_short'],
      [[second, Uint8Array.of(0)], 'part_too_long'],
      [tampered, 'part_wrong_hash'],
    ];
    for (const [body, reason] of refusals) {
      const { status, error } = await put(1, body, hash);
      expect([status, error.param, error.reason]).toEqual([422, '1', reason]);
      expect(error.message).toContain('Part 1');
    }
    expect((await put(1, tampered, sha256(tampered))).status).toBe(401);
    expect((await put(2, second, hash)).status).toBe(404);
    expect((await put(0, parts[0] as Uint8Array, sha256(parts[0] as Uint8Array))).status).toBe(204);
    expect((await put(1, second, hash)).status).toBe(204);
    expect((await put(1, second, hash)).status).toBe(200);
  });
});

describe('files of the cache', () => {
  it('that are corrupt are replaced at the next start', async () => {
    const graphs = path.join(rig.stack.folder, 'cache/graphs');
    const [built] = await readdir(graphs);
    const file = path.join(graphs, built as string, 'weights.bin');
    const good = await readBytes(file);
    const corrupt = good.slice();
    corrupt[corrupt.length >> 1]! ^= 0x40;
    rig.stack.dev.child.kill('SIGINT');
    expect((await rig.stack.dev.finished).code).toBe(0);
    await writeFile(file, corrupt);
    const adapters = (await readdir(path.join(rig.stack.folder, 'cache'))).find((name) =>
      name.startsWith('adapters-'),
    ) as string;
    const held = (await readdir(path.join(rig.stack.folder, 'cache', adapters))).filter((name) =>
      /^[0-9a-f]{64}$/.test(name),
    );
    expect(held.length).toBeGreaterThan(0);
    for (const name of held)
      await writeFile(path.join(rig.stack.folder, 'cache', adapters, name), 'not an adapter');
    await rig.stack.restart();
    expect(sha256(await readBytes(file))).toBe(sha256(good));
    expect(textOf(await rig.chat())).toBe(rig.text);
  });
});
