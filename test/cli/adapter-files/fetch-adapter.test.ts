/** Adapters that lie elsewhere: on the hub, behind HTTPS, in a bucket. */
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, stat } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { fetchAdapter } from '../../../cli/adapter-files/fetch-adapter.ts';
import { createOutput } from '../../../cli/output.ts';
import { HUB_COMMIT, startFakeHub, type FakeHub } from '../../fakes/fake-hub.ts';

const WEIGHTS = Uint8Array.from({ length: 300_000 }, (_, i) => (i * 7) % 251);
const CONFIG = new TextEncoder().encode('{"peft_type":"LORA"}');
const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const output = createOutput({ json: true });

let cache: string;
let env: Record<string, string>;
beforeEach(async () => {
  cache = await mkdtemp(path.join(os.tmpdir(), 'graft-adapters-'));
  env = { GRAFT_CACHE: cache };
});
afterEach(() => rm(cache, { recursive: true, force: true }));

const fetched = (given: string): Promise<string> => fetchAdapter(given, { env, output });
/** By name. */
const contents = async (folder: string): Promise<Record<string, string>> =>
  Object.fromEntries(
    await Promise.all(
      (await readdir(folder))
        .filter((name) => !/^\.|\.etag$/.test(name))
        .sort()
        .map(async (name) => [name, sha256(await readFile(path.join(folder, name)))] as const),
    ),
  );

it('a path stays as it is', async () => {
  expect(await fetched('out/notes')).toBe('out/notes');
});

describe('of a repository of the hub', () => {
  let hub: FakeHub;
  beforeEach(async () => {
    hub = await startFakeHub('alice/notes');
    env['HF_ENDPOINT'] = hub.url;
  });
  afterEach(() => hub.stop());
  const adapter = (folder = ''): [string, Uint8Array][] => [
    [`${folder}adapter_config.json`, CONFIG],
    [`${folder}adapter_model.safetensors`, WEIGHTS],
  ];

  it('its folder is fetched, and nothing else; the note says of which commit', async () => {
    hub.files = new Map([...adapter(), ['README.md', CONFIG], ['optimizer.pt', WEIGHTS]]);
    const notes = vi.spyOn(output, 'note');
    const folder = await fetched('hf:alice/notes');
    expect(await contents(folder)).toEqual({
      'adapter_config.json': sha256(CONFIG),
      'adapter_model.safetensors': sha256(WEIGHTS),
    });
    expect(notes.mock.calls.join()).toContain(`alice/notes at main is commit ${HUB_COMMIT}`);
    notes.mockClear();
    expect(await fetched(`hf:alice/notes@${HUB_COMMIT}`)).toBe(folder);
    expect(notes).not.toHaveBeenCalled();
    notes.mockRestore();
  });

  it('the only folder with an adapter is meant; of several one is named', async () => {
    hub.files = new Map(adapter('last/'));
    expect(path.basename(await fetched('hf:alice/notes'))).toBe('last');
    hub.files = new Map([...adapter('first/'), ...adapter('second/'), ['notes.gguf', WEIGHTS]]);
    await rm(cache, { recursive: true });
    await expect(fetched('hf:alice/notes')).rejects.toThrow(
      'Choose one of hf:alice/notes/first, hf:alice/notes/second, hf:alice/notes/notes.gguf.',
    );
    expect(path.basename(await fetched('hf:alice/notes/second'))).toBe('second');
    expect(path.basename(await fetched('hf:alice/notes/notes.gguf'))).toBe('notes.gguf');
  });

  it('what is no adapter, or too large, is refused before it is fetched', async () => {
    hub.files = new Map([['model.safetensors', WEIGHTS]]);
    await expect(fetched('hf:alice/notes')).rejects.toThrow(/no adapter that PEFT or mlx-lm wrote/);
    await expect(fetched('hf:alice/notes/none.gguf')).rejects.toThrow(/has no none\.gguf/);
    await expect(fetched('hf:alice/../x')).rejects.toThrow(/use hf:/);
    hub.files = new Map([...adapter(), ['adapter_config.json', new Uint8Array(5_000_000)]]);
    await expect(fetched('hf:alice/notes')).rejects.toThrow(/has 5000000 bytes; at most/);
    expect(hub.asked.some(({ url }) => url.includes('/resolve/'))).toBe(false);
    await expect(fetched('hf:bob/notes')).rejects.toMatchObject({ code: 'adapter_unavailable' });
  });
});

describe('by its address', () => {
  let server: Server;
  let files: Map<string, Uint8Array>;
  let asked: { url: string; headers: IncomingHttpHeaders }[];
  /** Of what follows. */
  let tagOf: (bytes: Uint8Array) => string | null;
  /** Bytes after which an answer waits for {@link cut}, which breaks its connection. */
  let cutAfter: number;
  let cut: () => void;
  let saysLength: boolean;
  let leadsTo: string | null;
  let url: string;

  beforeEach(async () => {
    files = new Map([
      ['/notes/adapter_config.json', CONFIG],
      ['/notes/adapter_model.safetensors', WEIGHTS],
    ]);
    [asked, cutAfter, saysLength, leadsTo] = [[], Infinity, true, null];
    tagOf = (bytes) => `"${sha256(bytes).slice(0, 8)}"`;
    server = createServer((request, response) => {
      const at = request.url!;
      asked.push({ url: at, headers: request.headers });
      const bytes = files.get(at.split('?')[0]!);
      if (bytes === undefined) return void response.writeHead(404).end();
      if (leadsTo !== null) return void response.writeHead(302, { location: leadsTo }).end();
      const tag = tagOf(bytes);
      if (tag !== null) response.setHeader('etag', tag);
      if (tag !== null && request.headers['if-none-match'] === tag) return void response.writeHead(304).end();
      const { range } = request.headers;
      const from = range !== undefined && request.headers['if-range'] === tag ? Number(/\d+/.exec(range)) : 0;
      if (saysLength) response.setHeader('content-length', bytes.length - from);
      if (from > 0) response.setHeader('content-range', `bytes ${from}-${bytes.length - 1}/${bytes.length}`);
      response.writeHead(from > 0 ? 206 : 200);
      if (bytes.length - from <= cutAfter) return void response.end(bytes.subarray(from));
      response.write(bytes.subarray(from, from + cutAfter), () => (cut = () => response.destroy()));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  });
  afterEach(() => {
    server.closeAllConnections();
    server.close();
  });
  const both = { 'adapter_config.json': sha256(CONFIG), 'adapter_model.safetensors': sha256(WEIGHTS) };

  it('a folder is fetched, and again only what has changed', async () => {
    const folder = await fetched(`${url}/notes/`);
    expect(await contents(folder)).toEqual(both);
    asked = [];
    expect(await fetched(`${url}/notes/`)).toBe(folder);
    expect(asked.map(({ headers }) => headers['if-none-match'])).toEqual([tagOf(CONFIG), tagOf(WEIGHTS)]);
    files.set('/notes/adapter_model.safetensors', CONFIG);
    await fetched(`${url}/notes/`);
    expect((await contents(folder))['adapter_model.safetensors']).toBe(sha256(CONFIG));
    // What is no longer there stays not, either.
    files.delete('/notes/adapter_config.json');
    await fetched(`${url}/notes/`);
    expect(await contents(folder)).toEqual({ 'adapter_model.safetensors': sha256(CONFIG) });
  });

  it('a file comes with the configuration beside it, unless its address is signed', async () => {
    files.set('/notes/a.safetensors', WEIGHTS);
    const file = await fetched(`${url}/notes/a.safetensors`);
    expect(await contents(path.dirname(file))).toEqual({
      'a.safetensors': sha256(WEIGHTS),
      'adapter_config.json': sha256(CONFIG),
    });
    const signed = await fetched(`${url}/notes/a.safetensors?signature=secret`);
    expect(await contents(path.dirname(signed))).toEqual({ 'a.safetensors': sha256(WEIGHTS) });
  });

  /** Ends the download after its first bytes have reached the disk. */
  const interrupted = async (address: string): Promise<unknown> => {
    cutAfter = 100_000;
    const going = fetched(address).catch((error: unknown) => error);
    await vi.waitFor(async () => {
      const names = (await readdir(cache, { recursive: true })).filter((name) => name.endsWith('.partial'));
      const sizes = await Promise.all(names.map(async (name) => (await stat(path.join(cache, name))).size));
      expect(Math.max(0, ...sizes)).toBeGreaterThan(0);
    });
    cut();
    cutAfter = Infinity;
    return going;
  };

  it('an interrupted download goes on', async () => {
    files.set('/b.gguf', WEIGHTS);
    const error = await interrupted(`${url}/b.gguf?signature=secret`);
    expect(error).toMatchObject({
      code: 'adapter_unavailable',
      message: expect.stringMatching(/^(?!.*secret).*the next attempt continues from there/) as string,
    });
    const file = await fetched(`${url}/b.gguf?signature=secret`);
    expect(new Uint8Array(await readFile(file))).toEqual(WEIGHTS);
    expect(asked.map(({ headers }) => headers.range)).toEqual([
      undefined,
      expect.stringMatching(/^bytes=[1-9]\d*-$/),
    ]);
  });

  it('an interrupted download begins anew if the file has changed meanwhile', async () => {
    files.set('/b.gguf', WEIGHTS);
    await interrupted(`${url}/b.gguf`);
    const other = WEIGHTS.toReversed();
    files.set('/b.gguf', other);
    expect(new Uint8Array(await readFile(await fetched(`${url}/b.gguf`)))).toEqual(other);
  });

  it.each([
    ['none', null],
    ['a weak one', 'W/"x"'],
  ])('begins anew where the server gives no entity tag that says the bytes: %s', async (_, tag) => {
    files.set('/b.gguf', WEIGHTS);
    tagOf = () => tag;
    await interrupted(`${url}/b.gguf`);
    expect(new Uint8Array(await readFile(await fetched(`${url}/b.gguf`)))).toEqual(WEIGHTS);
    await fetched(`${url}/b.gguf`);
    expect(asked.map(({ headers }) => headers.range ?? headers['if-none-match'])).toEqual(
      Array(3).fill(undefined),
    );
  });

  it('has the hash that is wanted', async () => {
    files.set('/b.gguf', WEIGHTS);
    await expect(fetched(`${url}/b.gguf#sha256=${'0'.repeat(64)}`)).rejects.toThrow(
      new RegExp(`has sha256 ${sha256(WEIGHTS)}, not 0{64}; it was discarded`),
    );
    await fetched(`${url}/b.gguf#sha256=${sha256(WEIGHTS)}`);
    await expect(fetched(`${url}/b.gguf#v2`)).rejects.toThrow(/only sha256=/);
  });

  it.each([true, false])('is refused when it is too large, said before: %s', async (said) => {
    saysLength = said;
    files.set('/notes/adapter_config.json', new Uint8Array(5_000_000));
    await expect(fetched(`${url}/notes/`)).rejects.toThrow(
      /adapter_config\.json has \d+ bytes; at most 4194304/,
    );
  });

  it('is refused where others could read or change it, or see a password', async () => {
    await expect(fetched('http://example.com/b.gguf')).rejects.toThrow(/use https/);
    await expect(fetched('https://me:secret@example.com/b.gguf')).rejects.toThrow(
      /^https:\/\/example\.com\/b\.gguf: an address with a password/,
    );
    await expect(fetched(`${url}/notes/readme.txt`)).rejects.toThrow(/give a \.safetensors or \.gguf file/);
    for (const missing of ['none', '%zz', '%2F'])
      await expect(fetched(`${url}/${missing}.gguf`)).rejects.toThrow(/there is no such file/);
    await expect(fetched(`${url}/none/`)).rejects.toThrow(/neither adapter_model/);
    files.set('/b.gguf', WEIGHTS);
    leadsTo = `http://127.0.0.2:${(server.address() as AddressInfo).port}/d.gguf`;
    await expect(fetched(`${url}/b.gguf`)).rejects.toMatchObject({ code: 'adapter_unavailable' });
  });

  it('in a bucket is asked for with a signature when there is a key', async () => {
    env['AWS_ENDPOINT_URL'] = url;
    files
      .set('/models/notes/adapter_config.json', CONFIG)
      .set('/models/notes/adapter_model.safetensors', WEIGHTS);
    expect(await contents(await fetched('s3://models/notes/'))).toEqual(both);
    expect(asked.map(({ headers }) => headers.authorization)).toEqual([undefined, undefined]);
    asked = [];
    Object.assign(env, {
      AWS_ACCESS_KEY_ID: 'AKIDEXAMPLE',
      AWS_SECRET_ACCESS_KEY: 'secret',
      AWS_REGION: 'eu-west-1',
    });
    await fetched('s3://models/notes/');
    for (const { headers } of asked)
      expect(headers.authorization).toMatch(
        /^AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE\/\d{8}\/eu-west-1\/s3\/aws4_request/,
      );
    await expect(fetched('s3://models')).rejects.toThrow(/use s3:\/\/<bucket>\/<key>/);
  });
});
