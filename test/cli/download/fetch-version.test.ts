import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { fetchVersion } from '../../../cli/download/fetch-version.ts';
import { createOutput } from '../../../cli/output.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const PARTS = [1, 2, 3].map((fill) => new Uint8Array(1_000).fill(fill));
const WHOLE = Buffer.concat(PARTS);
const DIGEST = sha256(WHOLE);
const VIEW = {
  ...{ name: 'notes', version: 1, digest: DIGEST, base: 'tiny' },
  chain: [
    {
      ...{ name: 'notes', digest: DIGEST, scale: 1 },
      file: {
        bytes: WHOLE.length,
        parts: PARTS.map((part) => ({ bytes: part.length, sha256: sha256(part) })),
      },
    },
  ],
};

let cache: string;
beforeEach(async () => {
  cache = await mkdtemp(path.join(os.tmpdir(), 'graft-fetch-'));
  vi.stubEnv('GRAFT_CACHE', cache);
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(cache, { recursive: true });
});

/** @param beforePart awaited before a part is sent. */
const fetchNotes = (beforePart: (index: number) => Promise<void> = async () => undefined) => {
  const fetchFn: typeof fetch = async (input) => {
    const part = /\/parts\/(\d+)/.exec(String(input));
    if (part === null) return Response.json(VIEW);
    await beforePart(Number(part[1]));
    return new Response(PARTS[Number(part[1])]);
  };
  const client = createApiClient({ url: 'http://edge', key: 'ga_x', fetchFn });
  const output = createOutput({ json: true });
  return fetchVersion({ client, name: 'notes', version: null, chain: false, output });
};

it('uses the file of a parallel download that finished first', async () => {
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const slow = fetchNotes((index) => (index === 1 ? held : Promise.resolve()));
  const quick = await fetchNotes();
  release();
  const [file] = (await slow).members;
  expect(file?.path).toBe(quick.members[0]?.path);
  expect(sha256(await readFile(file?.path ?? ''))).toBe(DIGEST);
  expect(await readdir(path.join(cache, 'adapters'))).toEqual([`${DIGEST}.safetensors`]);
});

it('is not disturbed by parallel downloads', async () => {
  const all = await Promise.all(Array.from({ length: 4 }, () => fetchNotes()));
  for (const { members } of all) expect(sha256(await readFile(members[0]?.path ?? ''))).toBe(DIGEST);
  expect(await readdir(path.join(cache, 'adapters'))).toEqual([`${DIGEST}.safetensors`]);
});
