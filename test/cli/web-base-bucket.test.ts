/** wrangler itself, on a bucket of this machine. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createHash } from 'node:crypto';
import os from 'node:os';
import path from 'node:path';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { putWebBase } from '../../cli/commands/base.ts';
import { WEB_BASE_FILES, webBaseManifest, type WebBaseManifest } from '../../protocol/browser-downloads.ts';

const BUCKET = 'web-base';
let folder: string;
let where: string[];
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-bucket-'));
  where = ['--local', '--persist-to', path.join(folder, 'state')];
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** An export of these parts. */
async function exported(...texts: string[]): Promise<WebBaseManifest> {
  const parts = texts.map((text) => ({
    sha256: createHash('sha256').update(text).digest('hex'),
    bytes: text.length,
  }));
  for (const [at, { sha256 }] of parts.entries())
    await writeFile(path.join(folder, `${sha256}.bin`), texts[at]!);
  const place = { offset: 0, bytes: 1 };
  const manifest = webBaseManifest({
    base: { id: 'tiny', digest: '0'.repeat(64), weights: 'int8', context: 8, max_rank_sum: 8, modules: [] },
    files: Object.fromEntries(WEB_BASE_FILES.map((name) => [name, place])) as WebBaseManifest['files'],
    parts,
  });
  await writeFile(path.join(folder, 'base.json'), JSON.stringify(manifest));
  return manifest;
}

const put = async (manifest: WebBaseManifest): Promise<{ put: number; removed: number; steps: number[] }> => {
  const steps: number[] = [];
  const onProgress = (done: number): unknown => steps.push(done);
  const { signal } = new AbortController();
  return { ...(await putWebBase({ bucket: BUCKET, folder, manifest, onProgress, signal, where })), steps };
};

async function inBucket(): Promise<Record<string, string>> {
  const miniflare = new Miniflare({
    ...{ modules: true, script: 'export default {}', r2Buckets: [BUCKET] },
    r2Persist: path.join(folder, 'state/v3/r2'),
  });
  try {
    const bucket = await miniflare.getR2Bucket(BUCKET);
    const { objects } = await bucket.list({ include: ['httpMetadata'] } as never);
    return Object.fromEntries(
      objects.map(({ key, httpMetadata }) => [
        key,
        `${httpMetadata?.contentType}, ${httpMetadata?.cacheControl}`,
      ]),
    );
  } finally {
    await miniflare.dispose();
  }
}

it('uploads missing parts, then the manifest, and removes parts that it no longer names', async () => {
  const first = await exported('one', 'three');
  expect(await put(first)).toEqual({ put: 2, removed: 0, steps: [0, 3, 8] });
  const names = first.parts.map(({ sha256 }) => `base/${sha256}.bin`);
  const part = 'application/octet-stream, public, max-age=31536000, immutable';
  expect(await inBucket()).toEqual({
    ...Object.fromEntries(names.map((name) => [name, part])),
    'base/base.json': 'application/json, no-cache',
  });

  const second = await exported('one', 'other');
  expect(await put(second)).toMatchObject({ put: 1, removed: 1 });
  expect(Object.keys(await inBucket()).sort()).toEqual(
    [...second.parts.map(({ sha256 }) => `base/${sha256}.bin`), 'base/base.json'].sort(),
  );
});

it("repeats wrangler's message", async () => {
  const manifest = await exported('one');
  const { signal } = new AbortController();
  const odd = putWebBase({ bucket: 'B', folder, manifest, onProgress: () => {}, signal, where });
  await expect(odd).rejects.toMatchObject({
    ...{ name: 'CliError', code: 'wrangler_failed' },
    message: expect.stringMatching(
      /^wrangler r2 object get B\/base\/base\.json: The bucket name "B" is invalid\./,
    ),
  });
});
