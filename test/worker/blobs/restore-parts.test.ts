/** Bytes that the store has lost come back from an origin that still holds the file. The edge's app and a whole origin. */
import { createHash } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createEdgeAndOrigin, type EdgeAndOrigin } from '../edge-and-origin.ts';

/** Longer than what KV may be behind. */
const LATER_MS = 121_000;
const PART_BYTES = 200;
const file = tinyAdapter({ seed: 1 });
const parts = [0, 200, 400].map((at) => new Uint8Array(file.bytes.subarray(at, at + PART_BYTES)));
const hashes = parts.map((part) => createHash('sha256').update(part).digest('hex'));
const keyOf = (index: number) => `blob:${file.digest}:${hashes[index]}`;

let rig: EdgeAndOrigin;
beforeEach(async () => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  rig = await createEdgeAndOrigin({ ids: ['o1', 'o2'] });
  const path = `/admin/blobs/${file.digest}`;
  for (const [index, body] of parts.entries())
    await rig.edge.request(`${path}/parts/${index}`, { method: 'PUT', body });
  const record = {
    bytes: file.bytes.length,
    parts: parts.map(({ length }, index) => ({ bytes: length, sha256: hashes[index] })),
  };
  expect((await rig.edge.request(path, { body: record })).status).toBe(201);
  const published = await rig.edge.request('/admin/versions', {
    body: { name: 'notes', digest: file.digest },
  });
  expect(published.status).toBe(201);
  rig.edge.clock.advance(LATER_MS);
});
afterEach(() => rig.stop());

const repair = async (dryRun = false) => {
  const response = await rig.edge.request('/admin/repair', { body: { blobs: true, dry_run: dryRun } });
  const { mended } = (await response.json()) as { mended: { id: string; was: string; did: string }[] };
  return mended.map(({ id, was, did }) => `${id}: ${was}, ${did}`);
};
const harm = () => {
  rig.edge.kv.tamper(keyOf(0), () => null);
  rig.edge.kv.tamper(keyOf(2), () => 'x'.repeat(parts[2]!.length));
};
/** Origins without a disk of before: all that they have is brought from the store. */
const servedFromTheStore = async () => {
  const { edge } = rig;
  await rig.stop();
  rig = await createEdgeAndOrigin({ ids: ['o1', 'o2'], edge: { beside: edge } });
  return rig.ask('notes');
};

describe('graft repair --blobs', () => {
  it('takes lost and damaged parts back from an origin, and the file is as it was', async () => {
    harm();
    const before = rig.edge.kv;
    expect(await repair(true)).toEqual(['notes@1: missing, written']);
    expect((await before.list({ prefix: keyOf(0), cursor: null })).keys).toEqual([]);
    expect(await repair()).toEqual(['notes@1: missing, written']);
    // The parts that were lost, and no others, from whichever origin has them.
    const given = rig.sent.filter((line) => line.includes('/file') && line.endsWith(' 200'));
    expect(given).toHaveLength(4);
    rig.edge.clock.advance(LATER_MS);
    expect(await repair()).toEqual([]);
    expect(await servedFromTheStore()).toBe(200);
  });

  it('mends a file that was marked before, for everybody who held it', async () => {
    harm();
    const { answer } = rig.edge.origin;
    rig.edge.origin.answer = () => Promise.reject(new Error('connection refused'));
    expect(await repair()).toEqual(['notes@1: missing, marked']);
    const { blobLedger } = rig.edge.services;
    expect(await blobLedger.holds(file.digest, 'default')).toBe(false);
    rig.edge.origin.answer = answer;
    expect(await repair()).toEqual(['notes@1: missing, written']);
    expect(await blobLedger.holds(file.digest, 'default')).toBe(true);
  });

  it.each<[string, () => Response]>([
    ['other bytes', () => new Response(new Uint8Array(PART_BYTES))],
    ['fewer', () => new Response(new Uint8Array(3))],
    ['more', () => new Response(new Uint8Array(10 * PART_BYTES))],
    ['nothing', () => new Response(null, { status: 404 })],
  ])('writes nothing when origins give %s', async (_, give) => {
    harm();
    const { answer } = rig.edge.origin;
    rig.edge.origin.answer = (method, path, init, url) =>
      path.endsWith('/file') ? give() : answer(method, path, init, url);
    expect(await repair()).toEqual(['notes@1: missing, marked']);
    expect((await rig.edge.kv.list({ prefix: keyOf(0), cursor: null })).keys).toEqual([]);
  });
});
