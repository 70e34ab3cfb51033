import { mkdtemp, readdir, readFile, rm, writeFile, mkdir } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findBase } from '../../../cli/local/find-base.ts';
import { parseRepositoryBase } from '../../../cli/local/repository.ts';
import { createOutput } from '../../../cli/output.ts';
import { HUB_COMMIT, startFakeHub, type FakeHub } from '../../fakes/fake-hub.ts';

const WEIGHTS = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7) % 251);
const output = createOutput({ json: true });

let hub: FakeHub;
let env: Record<string, string>;
let cache: string;

beforeEach(async () => {
  hub = await startFakeHub('tiny/base');
  hub.files = new Map<string, Uint8Array>([
    ['config.json', new TextEncoder().encode('{"model_type":"llama"}')],
    ['model.safetensors', WEIGHTS],
    ['pytorch_model.bin', WEIGHTS],
    ['original/consolidated.safetensors', WEIGHTS],
  ]);
  env = { HF_ENDPOINT: hub.url };
  cache = await mkdtemp(path.join(os.tmpdir(), 'graft-hub-'));
});
afterEach(async () => {
  hub.stop();
  await rm(cache, { recursive: true, force: true });
});

const find = (base: string): Promise<string> => findBase({ base, cache, env, output });
const folder = (): string => path.join(cache, 'bases/hf/tiny--base', HUB_COMMIT, 'base');

describe('a base by its repository', () => {
  it('is downloaded once, without unneeded files, and then used offline', async () => {
    expect(await find('hf:tiny/base')).toBe(folder());
    expect(new Uint8Array(await readFile(path.join(folder(), 'model.safetensors')))).toEqual(WEIGHTS);
    expect(hub.asked.some(({ url }) => /pytorch|original/.test(url))).toBe(false);
    hub.asked = [];
    expect(await find('hf:tiny/base')).toBe(folder());
    expect(hub.asked.map(({ url }) => url)).toEqual(['/api/models/tiny/base/revision/main']);
    hub.asked = [];
    expect(await find(`hf:tiny/base@${HUB_COMMIT}`)).toBe(folder());
    env['HF_HUB_OFFLINE'] = '1';
    expect(await find('hf:tiny/base')).toBe(folder());
    expect(hub.asked).toEqual([]);
    delete env['HF_HUB_OFFLINE'];
    env['HF_ENDPOINT'] = 'http://127.0.0.1:1';
    expect(await find('hf:tiny/base')).toBe(folder());
  });

  it('is downloaded completely by several processes at once', async () => {
    await expect(Promise.all([1, 2, 3].map(() => find('hf:tiny/base')))).resolves.toEqual(
      Array.from({ length: 3 }, folder),
    );
    expect(new Uint8Array(await readFile(path.join(folder(), 'model.safetensors')))).toEqual(WEIGHTS);
    expect((await readdir(folder())).filter((name) => name.includes('partial'))).toEqual([]);
  });

  it.each([
    ['broke off', 'partial'],
    // Above the largest process id that Linux and macOS give.
    ['was killed', '4194305-0123abcd.partial'],
  ])('continues a download that %s', async (_, left) => {
    await mkdir(folder(), { recursive: true });
    await writeFile(path.join(folder(), `model.safetensors.${left}`), WEIGHTS.subarray(0, 100_000));
    await find('hf:tiny/base');
    expect(new Uint8Array(await readFile(path.join(folder(), 'model.safetensors')))).toEqual(WEIGHTS);
    const ranges = hub.asked.filter(({ url }) => url.endsWith('model.safetensors')).map(({ range }) => range);
    expect(ranges).toEqual(['bytes=0-0', 'bytes=100000-299999']);
  });

  it.each([500, 503, 429])('is taken as it was fetched while the hub answers %i', async (status) => {
    await find('hf:tiny/base');
    hub.trouble = status;
    expect(await find('hf:tiny/base')).toBe(folder());
    await expect(find('hf:tiny/other')).rejects.toThrow(`the hub answered ${status}`);
  });

  it.each(['', '{"load":'])('is completed where its list was cut at %j', async (half) => {
    await find('hf:tiny/base');
    await writeFile(path.join(folder(), '.fetched.json'), half);
    hub.asked = [];
    expect(await find(`hf:tiny/base@${HUB_COMMIT}`)).toBe(folder());
    expect(hub.asked.some(({ url }) => url.includes('/resolve/'))).toBe(false);
    hub.asked = [];
    expect(await find(`hf:tiny/base@${HUB_COMMIT}`)).toBe(folder());
    expect(hub.asked).toEqual([]);
  });

  it("is discarded with other bytes than the hub's", async () => {
    hub.claimed = '0'.repeat(64);
    await expect(find('hf:tiny/base')).rejects.toThrow(/sha256 of model\.safetensors is not the hub's/);
    hub.claimed = null;
    expect(await find('hf:tiny/base')).toBe(folder());
  });

  it('needs HF_TOKEN, and the error says so', async () => {
    hub.gate = 'hf_secret';
    await expect(find('hf:tiny/base')).rejects.toThrow(/needs a token: set HF_TOKEN/);
    env['HF_TOKEN'] = 'hf_other';
    const refused = await find('hf:tiny/base').catch((error: Error) => error.message);
    expect(refused).toMatch(/HF_TOKEN may not read it/);
    expect(refused).not.toContain('hf_other');
    env['HF_TOKEN'] = 'hf_secret';
    expect(await find('hf:tiny/base')).toBe(folder());
  });

  it('may be one GGUF of several', async () => {
    hub.files = new Map([
      ['a-Q4_0.gguf', new Uint8Array(10)],
      ['a-Q8_0-00001-of-00002.gguf', new Uint8Array(11)],
      ['a-Q8_0-00002-of-00002.gguf', new Uint8Array(12)],
    ]);
    await expect(find('hf:tiny/base')).rejects.toThrow(
      /several GGUF files\. Choose one, as hf:tiny\/base\/a-Q4_0\.gguf/,
    );
    const file = 'a-Q8_0-00001-of-00002.gguf';
    expect(await find(`hf:tiny/base/${file}`)).toBe(path.join(folder(), file));
    expect(await readFile(path.join(folder(), 'a-Q8_0-00002-of-00002.gguf'))).toHaveLength(12);
    await expect(find('hf:tiny/base/b.gguf')).rejects.toThrow(/has no b\.gguf\. Its GGUF files: a-Q4_0/);
  });

  it('reports what is missing', async () => {
    await expect(find('hf:tiny/gone')).rejects.toThrow(/tiny\/gone@main: no such repository or revision/);
    hub.files = new Map([['pytorch_model.bin', WEIGHTS]]);
    await expect(find('hf:tiny/base')).rejects.toThrow(/neither \.safetensors nor \.gguf/);
    env['HF_ENDPOINT'] = 'http://127.0.0.1:1';
    await expect(find('hf:tiny/other')).rejects.toThrow(/the hub cannot be reached/);
    env['HF_HUB_OFFLINE'] = '1';
    await expect(find('hf:tiny/other')).rejects.toThrow(/HF_HUB_OFFLINE is set, and it is not in the cache/);
  });
});

it.each(['hf:', 'hf:a', 'hf:a/../b.gguf', 'hf:a/b@', 'hf:a/b@x..y', 'hf:a/b@c@d', 'hf:../b', 'hf:a/b/c'])(
  '%s is no repository',
  (base) => expect(() => parseRepositoryBase(base)).toThrow(/use hf:/),
);
