/** What is told of a publication, through the real command's parts and the real app. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { EXIT } from '../../../cli/cli-error.ts';
import { publishedText } from '../../../cli/commands/publish.ts';
import { createOutput } from '../../../cli/output.ts';
import { publishAdapter, type PublishWish } from '../../../cli/publish/publish-adapter.ts';
import { trainingCard } from '../../contracts/sample-training.ts';
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
async function publish(
  meet: (answer: Response) => Response | Promise<Response>,
  more: Partial<PublishWish> = {},
) {
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
  return publishedText(await publishAdapter({ ...wish, ...more, client, output }));
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

describe('a training card', () => {
  const asItIs = (answer: Response) => answer;
  const card = trainingCard();
  const LINE =
    'trained on 60 rows (sha256 abababababab), 90 steps, loss 2.31 → 0.0421, held out 38 of 40 exact ' +
    '(loss 2.4 → 0.09)';
  const stored = async () => (await graft.services.registry.versions('notes'))[0]?.training;
  const withFile = async (name: string, text: string): Promise<string> => {
    const given = path.join(folder, name);
    await mkdir(given);
    // A canonical file under PEFT's name is read by its contents.
    await writeFile(path.join(given, 'adapter_model.safetensors'), tinyAdapter({ seed: 1 }).bytes);
    await writeFile(path.join(given, 'training.json'), text);
    return given;
  };

  it('in the folder is sent, stored and told', async () => {
    const given = await withFile('good', JSON.stringify(card, null, 2));
    const [first, line, ...rest] = (await publish(asItIs, { given })).split('\n');
    expect(first).toMatch(/^notes@1 is live/);
    expect([line, rest]).toEqual([LINE, []]);
    expect(await stored()).toEqual(card);
    // The same card once more is no news.
    expect(await publish(asItIs, { given })).toBe(
      `notes@1 is this adapter already; nothing changed\n${LINE}`,
    );
    const other = { ...card, scores: null, curve: [], steps: 1 };
    expect(await publish(asItIs, { given, training: other })).toBe(
      'notes@1 is this adapter already; nothing changed\ntrained on 60 rows (sha256 abababababab), 1 step ' +
        '(not kept: the version was there before)',
    );
    expect(await stored()).toEqual(card);
  });

  it('given by the caller stands for the file, also where it is none', async () => {
    const given = await withFile('replaced', 'not read');
    expect(await publish(asItIs, { given, training: null })).not.toContain('trained on');
    expect(await stored()).toBeNull();
  });

  it.each([
    ['not JSON', '{', 'it is not JSON'],
    ['of another shape', '{"epochs":3}', '"rows"'],
    ['too long', ' '.repeat(70_000), 'it has 70000 bytes'],
  ])('that is %s is refused before anything is sent', async (kind, text, problem) => {
    const given = await withFile(kind, text);
    const failed = publish(asItIs, { given });
    await expect(failed).rejects.toMatchObject({ exitCode: EXIT.usage, code: 'training_invalid' });
    await expect(failed).rejects.toThrow(`${given}: training.json is not a training card: ${problem}`);
    await expect(failed).rejects.toThrow('Remove it to publish without a card, or repair it.');
    expect(await graft.services.registry.name('notes')).toBeNull();
  });
});
