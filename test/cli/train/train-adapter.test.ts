/** `graft train` through the real app, with a program in place of the one that trains. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { parseCanonical, writePeftAdapter } from '../../../adapters/index.ts';
import { createApiClient } from '../../../cli/api-client.ts';
import { CliError } from '../../../cli/cli-error.ts';
import { trainedJson, trainedText } from '../../../cli/commands/train.ts';
import { createOutput } from '../../../cli/output.ts';
import { trainAdapter, type Trained, type TrainWish } from '../../../cli/train/train-adapter.ts';
import { readTrainingRequest, sameCommand } from '../../../cli/train/training-flags.ts';
import type { VersionList } from '../../../protocol/admin-api/versions.ts';
import { VerifyRequest } from '../../../protocol/origin-wire.ts';
import { fakeVerification } from '../../fakes/fake-trials.ts';
import { TINY_BASE, tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { writtenTo } from '../../fixtures/written-to.ts';
import { type AppHarness, createAppHarness } from '../../worker/app-harness.ts';

const PROGRAM = path.join(import.meta.dirname, 'fake-training.mjs');
const BASE_BYTES = 'the bytes of a base';
const SERVED = { ...TINY_BASE, digest: createHash('sha256').update(BASE_BYTES).digest('hex') };
const DEFAULTS = {
  ...{ rank: '2', targets: 'q', epochs: '3', 'least-steps': '60', 'max-length': '1024' },
  ...{ val: '0.1', seed: '0', beta: '0.1' },
};

let folder: string;
let graft: AppHarness;
beforeEach(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-train-'));
  vi.stubEnv('GRAFT_CACHE', path.join(folder, 'cache'));
  await writeFile(path.join(folder, 'Tiny-Base.gguf'), BASE_BYTES);
  await writeFile(path.join(folder, 'rows.jsonl'), '{"prompt":"a","completion":"b"}\n');
  await mkdir(path.join(folder, 'trained'));
  const { modules } = parseCanonical(tinyAdapter({ seed: 5 }).bytes);
  const { configJson, safetensors } = writePeftAdapter({ modules, baseModel: SERVED.id });
  await writeFile(path.join(folder, 'trained/adapter_config.json'), configJson);
  await writeFile(path.join(folder, 'trained/adapter_model.safetensors'), safetensors);
  vi.spyOn(console, 'error').mockReturnValue(undefined);
  graft = await createAppHarness();
  const { answer } = graft.origin;
  graft.origin.answer = (method, where, init, url) => {
    if (where === '/base') return Response.json(SERVED);
    if (!where.endsWith('/verify')) return answer(method, where, init, url);
    const { chain = [], expected } = VerifyRequest.parse(JSON.parse(init.body as string));
    return Response.json(fakeVerification({ base: SERVED, chain, expected }));
  };
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await rm(folder, { recursive: true, force: true });
});

interface Run {
  wish?: Partial<TrainWish>;
  /** What the program does; see fake-training.mjs. */
  plays?: string;
  waits?: string;
  terminal?: boolean;
  /** Called with each line of stderr. */
  onLine?: (line: string, abort: AbortController) => void;
}

/** @returns what it printed, and the arguments that the program got. */
async function train({ wish = {}, plays, waits, terminal = false, onLine }: Run = {}) {
  const stderr = Object.assign(new PassThrough(), { isTTY: terminal });
  const ending = new AbortController();
  const output = createOutput({ json: false, stdout: new PassThrough(), stderr });
  const heard: typeof output = {
    ...output,
    note(line) {
      output.note(line);
      onLine?.(line, ending);
    },
  };
  const record = path.join(folder, 'record.json');
  const fetchFn: typeof fetch = async (input, init) => {
    const { pathname, search } = new URL(String(input));
    return graft.request(pathname + search, {
      method: init?.method ?? 'GET',
      body:
        typeof init?.body === 'string'
          ? (JSON.parse(init.body) as unknown)
          : (init?.body as Uint8Array | undefined),
    });
  };
  const full: TrainWish = {
    rows: path.join(folder, 'rows.jsonl'),
    ...{ validation: null, name: 'alice/notes', parent: null, out: null },
    request: readTrainingRequest(DEFAULTS),
    base: path.join(folder, 'Tiny-Base.gguf'),
    ...{ weights: null, provider: 'auto', threads: null, start: 'new', why: null },
    ...wish,
  };
  const needsServer = full.out === null || full.parent !== null;
  const rawArgs = [
    'rows.jsonl',
    '--name',
    'alice/notes',
    ...(full.start === 'new' ? [] : [`--${full.start}`]),
  ];
  let trained: Trained | null = null;
  let error: CliError | null = null;
  try {
    trained = await trainAdapter({
      wish: full,
      client: needsServer ? createApiClient({ url: 'http://edge.test', key: graft.adminKey, fetchFn }) : null,
      output: heard,
      signal: ending.signal,
      program: [
        PROGRAM,
        ...['--adapter', path.join(folder, 'trained'), '--record', record],
        ...(plays === undefined ? [] : ['--plays', plays]),
        ...(waits === undefined ? [] : ['--waits', waits]),
      ],
      env: process.env,
      again: (flag) => sameCommand(rawArgs, flag),
    });
  } catch (thrown) {
    if (!(thrown instanceof CliError)) throw thrown;
    error = thrown;
  }
  const given = await readFile(record, 'utf8').then(
    (text) => JSON.parse(text) as Record<string, string>,
    () => null,
  );
  return { trained, error, wish: full, shown: writtenTo(stderr), given };
}

const versions = async (name: string) =>
  (await (await graft.request(`/admin/versions?name=${name}`)).json()) as VersionList;
const workFolders = (): Promise<string[]> => readdir(path.join(folder, 'cache/training')).catch(() => []);

describe('a training', () => {
  it('ends as a staged version, and leaves nothing in the cache', async () => {
    const { trained, wish, shown, given } = await train();
    expect(trained?.published?.version).toMatchObject({ name: 'alice/notes', version: 1, live: false });
    expect(await versions('alice/notes')).toMatchObject({
      version: null,
      versions: [{ training: trained?.card }],
    });
    expect(await workFolders()).toEqual([]);
    expect(given).toMatchObject({
      ...{ base: path.join(folder, 'Tiny-Base.gguf'), 'base-id': 'tiny-base', 'base-name': 'tiny-base' },
      // As the origin that serves it.
      ...{ weights: 'f32', provider: 'auto', chain: '[]' },
    });
    expect(JSON.parse(given!['settings']!)).toEqual(wish.request);
    expect(shown).toBe(
      [
        'training alice/notes@1 on tiny-base',
        'provider cpu: a fake',
        'Preparing',
        '9 rows to train on (120 tokens, the longest 31), 1 held out, 2 left out: too long for --max-length 1024, or without an answer',
        '6 steps, about 16 s (2.7 s a step), 1.4 GB memory, 28 numbers to train',
        'before training: held out 2.5 (0 of 1 exact)',
        'step 2 of 6: loss 1.5, held out 2 (0 of 1 exact), 11 s left, 310 tok/s',
        'step 4 of 6: loss 0.75, held out 1.25 (0 of 1 exact), 5 s left, 310 tok/s',
        'step 6 of 6: loss 0.5, held out 1 (0 of 1 exact), 0 s left, 310 tok/s',
        '',
      ].join('\n'),
    );
    expect(trainedText(wish, trained!, false)).toMatch(
      /^alice\/notes@1 is staged \(rank 2, [^)]*\)\ntrained on 9 rows [^\n]*held out 1 of 1 exact \(loss 2\.5 → 1\)\n[^\n]*graft run alice\/notes@1 "…"\nmake it live: graft promote alice\/notes@1$/,
    );
    expect(trainedText(wish, trained!, true).split('\n')[0]).toMatch(/^ {2}3 ┤/);
    // A classifier generates no text.
    const { published } = trained!;
    const chain = published!.version.chain.map((entry) => ({ ...entry, classes: 2 }));
    const classifier = { ...published!, version: { ...published!.version, chain } };
    expect(trainedText(wish, { ...trained!, published: classifier }, false)).toContain(
      'try it:       POST /v1/classify {"model": ',
    );
    expect(trainedJson(wish, trained!)).toMatchObject({
      ...{ name: 'alice/notes', version: 1, created: true },
      training: { steps: 6, rows: { trained: 9 } },
    });
  });

  it('draws one bar on a terminal', async () => {
    const { shown } = await train({ terminal: true });
    expect(shown).toContain('step  ██████████  6 of 6  loss 0.5, ');
    expect(shown).not.toContain('step 2 of 6:');
  });

  it('writes a folder with --out, without a server', async () => {
    const out = path.join(folder, 'notes');
    const { trained, wish } = await train({ wish: { name: null, out } });
    expect(trained?.published).toBeNull();
    expect((await readdir(out)).sort()).toEqual([
      ...['adapter_config.json', 'adapter_model.safetensors', 'training.json'],
    ]);
    expect(await workFolders()).toEqual([]);
    expect(trainedText(wish, trained!, false)).toContain(`graft publish ${out} --name <name> --stage`);
    expect(trainedJson(wish, trained!)).toMatchObject({ out, training: { steps: 6 } });
  });

  it('is told the chain of its parent, root first', async () => {
    const root = tinyAdapter({ seed: 1 });
    await graft.publish('medicine', root);
    const [live] = (await versions('medicine')).versions;
    const { trained, given } = await train({ wish: { name: 'medicine/trials', parent: 'medicine' } });
    const file = path.join(folder, 'cache/adapters', `${root.digest}.safetensors`);
    expect(JSON.parse(given!['chain']!)).toEqual([{ digest: root.digest, scale: 1, path: file }]);
    expect(existsSync(file)).toBe(true);
    expect(trained?.published?.version).toMatchObject({ parent: `medicine@${live!.version}`, live: false });
  });
});

describe('before it starts, a training is refused', () => {
  it('without rows', async () => {
    const { error, given } = await train({ wish: { rows: path.join(folder, 'none.jsonl') } });
    expect(error).toMatchObject({ code: 'rows_missing', exitCode: 2 });
    await writeFile(path.join(folder, 'rows.jsonl'), '');
    expect((await train()).error?.message).toContain('the file is empty');
    expect(given).toBeNull();
  });

  it('on another base than the server’s, with both names', async () => {
    await writeFile(path.join(folder, 'Tiny-Base.gguf'), 'other bytes');
    const { error, given } = await train();
    expect(error).toMatchObject({ code: 'base_mismatch', exitCode: 5 });
    expect(error?.message).toMatch(
      /on the base tiny-base \([0-9a-f]{12}\), but the server has tiny-base \([0-9a-f]{12}\)\. They have the same id/,
    );
    expect(given).toBeNull();
  });

  it('for a name of somebody else', async () => {
    const made = await graft.request('/admin/keys', { body: { tenant: 'alice', kind: 'admin' } });
    const { key } = (await made.json()) as { key: string };
    await graft.publish('alice/notes', tinyAdapter({ seed: 9 }));
    const request = graft.request.bind(graft);
    graft.request = (where, init) => request(where, { key, ...init });
    const { error, given } = await train();
    expect(error?.exitCode).toBe(4);
    expect(given).toBeNull();
  });

  it('with a rank that the chain has no room for', async () => {
    const { error, given } = await train({
      wish: { request: { ...readTrainingRequest(DEFAULTS), rank: 256, alpha: 512 } },
    });
    expect(error).toBeNull();
    await graft.publish('medicine', tinyAdapter({ seed: 1 }));
    const over = await train({
      wish: {
        ...{ name: 'medicine/trials', parent: 'medicine' },
        request: { ...readTrainingRequest(DEFAULTS), rank: 256, alpha: 512 },
      },
    });
    expect(over.error).toMatchObject({ code: 'adapter_invalid', exitCode: 5 });
    expect(given).not.toBeNull();
  });

  it('on a parent that has no live version', async () => {
    const { error } = await train({ wish: { parent: 'medicine' } });
    expect(error).toMatchObject({ code: 'model_not_found', exitCode: 3 });
  });
});

describe('a stopped training', () => {
  const stop = (line: string, ending: AbortController): void => {
    if (line.startsWith('step 2')) ending.abort();
  };

  it('keeps its checkpoint, and continues with --resume', async () => {
    const { error, shown } = await train({ plays: 'is-stopped', onLine: stop });
    expect(error).toMatchObject({ code: 'interrupted', exitCode: 130 });
    expect(error?.message).toBe(
      'Stopped at step 2 of 6. Continue with `graft train rows.jsonl --name alice/notes --resume`.',
    );
    expect(shown).toContain('stopping, and saving a checkpoint');
    const [work] = await workFolders();
    const place = path.join(folder, 'cache/training', work!);
    expect((await stat(place)).mode & 0o777).toBe(0o700);
    expect((await stat(path.join(place, 'checkpoint.safetensors'))).mode & 0o777).toBe(0o600);

    const again = await train();
    expect(again.error).toMatchObject({ code: 'checkpoint_exists', exitCode: 2 });
    expect(again.error?.message).toMatch(/alice\/notes --resume`, or start over with `[^`]* --restart`/);
    // Other settings are another training.
    const other = { ...readTrainingRequest(DEFAULTS), seed: 1 };
    const missing = await train({ wish: { start: 'resume', request: other } });
    expect(missing.error).toMatchObject({ code: 'no_checkpoint', exitCode: 2 });

    const resumed = await train({ wish: { start: 'resume' } });
    expect(resumed.given?.['resume']).toBe(true);
    expect(resumed.shown).toContain('continuing after step 2 of 6, about 11 s');
    expect(resumed.trained?.published?.version.version).toBe(1);
    expect(await workFolders()).toEqual([]);
  });

  it('starts over with --restart', async () => {
    await train({ plays: 'is-stopped', onLine: stop });
    const { trained, shown, given } = await train({ wish: { start: 'restart' } });
    expect(given?.['resume']).toBeUndefined();
    expect(shown).toContain('6 steps, about 16 s');
    expect(trained?.published?.created).toBe(true);
  });
});

describe('a training that fails', () => {
  it('says which line is wrong, and leaves nothing', async () => {
    const { error } = await train({ plays: 'has-no-rows' });
    expect(error).toMatchObject({ code: 'rows_invalid', exitCode: 2 });
    expect(error?.message).toBe(
      'Line 3: no assistant message. Correct the rows, then run `graft train rows.jsonl --name alice/notes` again.',
    );
    expect(await workFolders()).toEqual([]);
  });

  it('says how to go on from the checkpoint', async () => {
    const { error } = await train({ plays: 'runs-out-of-memory' });
    expect(error).toMatchObject({ code: 'out_of_memory', exitCode: 1 });
    expect(error?.message).toMatch(
      /^Not enough memory for a step\. The checkpoint of step 2 is kept\. [^]*continue with `graft train rows\.jsonl --name alice\/notes --resume`/,
    );
    expect(await workFolders()).toHaveLength(1);
  });

  it('tells a kill from a crash', async () => {
    const killed = await train({ plays: 'is-killed' });
    expect(killed.error).toMatchObject({ code: 'out_of_memory', exitCode: 1 });
    expect(killed.error?.message).toMatch(/^The training was ended by SIGKILL\. Most likely the memory/);
    const crashed = await train({ plays: 'crashes' });
    expect(crashed.error).toMatchObject({ code: 'training_failed', exitCode: 1 });
    expect(crashed.error?.message).toMatch(/ended with code 3\.[^]*TypeError: no such tensor$/);
    expect(await workFolders()).toEqual([]);
  });

  it('keeps the adapter when its parent changed meanwhile', async () => {
    await graft.publish('medicine', tinyAdapter({ seed: 1 }));
    const waits = path.join(folder, 'go');
    const { error } = await train({
      wish: { name: 'medicine/trials', parent: 'medicine' },
      waits,
      onLine: (line) => {
        if (!line.startsWith('before training')) return;
        void graft.publish('medicine', tinyAdapter({ seed: 2 })).then(() => writeFile(waits, ''));
      },
    });
    expect(error).toMatchObject({ code: 'parent_changed', exitCode: 5 });
    const [work] = await workFolders();
    const adapter = path.join(folder, 'cache/training', work!, 'adapter');
    expect(await readdir(adapter)).toContain('adapter_model.safetensors');
    expect(error?.message).toContain('`graft promote medicine@1`');
    expect(error?.message).toContain(
      `\`graft publish ${adapter} --name medicine/trials --parent medicine --stage\``,
    );
    expect((await graft.request('/admin/versions?name=medicine/trials')).status).toBe(404);
    // The commands that it names work.
    const promoted = await graft.request('/admin/promote', { body: { name: 'medicine', version: 1 } });
    expect(promoted.status, await promoted.text()).toBe(200);
  });

  it('keeps the adapter when the server is away at the end', async () => {
    const { error } = await train({
      onLine: (line) => {
        if (!line.startsWith('step 6')) return;
        graft.request = () => Promise.resolve(Response.json({ error: { message: 'no' } }, { status: 403 }));
      },
    });
    expect(error?.exitCode).toBe(4);
    expect(error?.message).toMatch(/The adapter is in .*\/adapter; publish it with `graft publish/);
    expect(await workFolders()).toHaveLength(1);
  });
});
