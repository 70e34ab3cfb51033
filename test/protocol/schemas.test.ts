import { describe, expect, it } from 'vitest';
import { AdapterManifest, BlobRecord } from '../../protocol/adapter-manifest.ts';
import { MAX_CHAIN, MAX_PART_BYTES, MAX_PARTS } from '../../protocol/limits.ts';
import { BaseInfo, OriginRequest } from '../../protocol/origin-wire.ts';

const digest = 'a'.repeat(64);
const entry = { digest, scale: 1, name: 'medicine', owner: 't' };
const manifest = {
  name: 'medicine',
  version: 1,
  digest,
  chain: [entry],
  chainId: digest,
  owner: 't',
  base: { id: 'b', digest },
  bytes: 10,
  rank: 8,
  createdAt: 0,
};
const part = { bytes: 1, sha256: digest };
const directive = { chain: [], tenant: 't', request_id: 'r', model: 'm' };

/** Each row: schema, a good value, a bad one that differs in one thing. */
describe('schemas hold their limits at the boundary', () => {
  it.each([
    [
      'chain',
      AdapterManifest,
      { ...manifest, chain: Array(MAX_CHAIN).fill(entry) },
      { ...manifest, chain: Array(MAX_CHAIN + 1).fill(entry) },
    ],
    ['empty chain', AdapterManifest, manifest, { ...manifest, chain: [] }],
    ['version', AdapterManifest, manifest, { ...manifest, version: 0 }],
    ['name', AdapterManifest, manifest, { ...manifest, name: 'v1/x' }],
    ['unknown key', AdapterManifest, { ...manifest, experiment: 'e' }, { ...manifest, extra: 1 }],
    ['scale', AdapterManifest, manifest, { ...manifest, chain: [{ ...entry, scale: Infinity }] }],
    [
      'parts',
      BlobRecord,
      { bytes: 1, parts: Array(MAX_PARTS).fill(part) },
      { bytes: 1, parts: Array(MAX_PARTS + 1).fill(part) },
    ],
    ['no parts', BlobRecord, { bytes: 1, parts: [part] }, { bytes: 1, parts: [] }],
    [
      'part size',
      BlobRecord,
      { bytes: 1, parts: [{ ...part, bytes: MAX_PART_BYTES }] },
      { bytes: 1, parts: [{ ...part, bytes: MAX_PART_BYTES + 1 }] },
    ],
    [
      'origin chain',
      OriginRequest,
      { request: {}, graft: directive },
      { request: {}, graft: { ...directive, chain: Array(MAX_CHAIN + 1).fill({ digest, scale: 1 }) } },
    ],
    [
      'budget',
      OriginRequest,
      { request: {}, graft: { ...directive, budget_ms: 1 } },
      { request: {}, graft: { ...directive, budget_ms: 0 } },
    ],
    [
      'base',
      BaseInfo,
      {
        id: 'b',
        digest,
        weights: 'f32',
        context: 1,
        max_rank_sum: 1,
        modules: [{ name: 'm', in: 1, out: 1 }],
      },
      {
        id: 'b',
        digest,
        weights: 'f32',
        context: 1,
        max_rank_sum: 1,
        modules: [{ name: 'm', in: 0, out: 1 }],
      },
    ],
    [
      'base that says its attention',
      BaseInfo,
      {
        id: 'b',
        digest,
        weights: 'f32',
        context: 1,
        max_rank_sum: 1,
        architecture: 'llama',
        attention: { heads: 9, kv_heads: 3 },
        modules: [],
      },
      {
        id: 'b',
        digest,
        weights: 'f32',
        context: 1,
        max_rank_sum: 1,
        attention: { heads: 9 },
        modules: [],
      },
    ],
  ])('%s', (_, schema, good, bad) => {
    expect(schema.safeParse(good).success).toBe(true);
    expect(schema.safeParse(bad).success).toBe(false);
  });
});
