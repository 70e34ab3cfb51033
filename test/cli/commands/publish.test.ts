/** What is told of a publication whose request had to be sent again, through the real command's parts and the real app. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, beforeEach, expect, it, vi } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { publishedText } from '../../../cli/commands/publish.ts';
import { createOutput } from '../../../cli/output.ts';
import { publishAdapter } from '../../../cli/publish/publish-adapter.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../../worker/app-harness.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-publish-'));
  await writeFile(path.join(folder, 'a.safetensors'), tinyAdapter({ seed: 1 }).bytes);
});
afterAll(() => rm(folder, { recursive: true, force: true }));

let graft: AppHarness;
beforeEach(async () => {
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  graft = await createAppHarness();
});

/** @param meet what becomes of an answer to `POST /admin/versions`, the first one first. */
async function publish(meet: (answer: Response) => Response | Promise<Response>) {
  let first = true;
  const fetchFn: typeof fetch = async (input, init) => {
    const { pathname, search } = new URL(String(input));
    const answer = await graft.request(pathname + search, {
      method: init?.method ?? 'GET',
      body:
        typeof init?.body === 'string'
          ? (JSON.parse(init.body) as unknown)
          : (init?.body as Uint8Array | undefined),
    });
    if (pathname !== '/admin/versions' || !first) return answer;
    first = false;
    return meet(answer);
  };
  const client = createApiClient({ url: 'http://edge.test', key: graft.adminKey, fetchFn });
  const output = createOutput({ json: false, stdout: new PassThrough(), stderr: new PassThrough() });
  const wish = { given: path.join(folder, 'a.safetensors'), name: 'notes', parent: null, stage: false };
  return publishedText(await publishAdapter({ ...wish, client, output }));
}

it('reports what is live if nothing was repeated, and that nothing changed if it existed', async () => {
  expect(await publish((answer) => answer)).toMatch(/^notes@1 is live \(rank 2, [^)]*\)$/);
  expect(await publish((answer) => answer)).toBe('notes@1 is this adapter already; nothing changed');
});

it('does not claim that nothing changed if the answer that created the version was lost', async () => {
  const lost = () => Promise.reject(new TypeError('fetch failed'));
  expect(await publish(lost)).toMatch(
    /^notes@1 is live \(rank 2, [^)]*\); an earlier attempt of this request may have created it$/,
  );
});

it('reports that it was created when the first attempt was recorded but not served yet', async () => {
  const put = graft.kv.put.bind(graft.kv);
  let failed = false;
  vi.spyOn(graft.kv, 'put').mockImplementation(async (key, ...given) => {
    if (key !== 'name:notes' || failed) return put(key, ...given);
    failed = true;
    throw new Error('KV PUT failed: 500');
  });
  expect(await publish((answer) => answer)).toMatch(/^notes@1 is live \(rank 2, [^)]*\)$/);
  expect(failed).toBe(true);
});
