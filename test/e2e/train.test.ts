/**
 * `graft train` as a process: what it prints, and Ctrl-C, with a program in place of the one that trains; then the whole
 * way to an answer, on a stack with a tiny base.
 */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { parseCanonical, writePeftAdapter } from '../../adapters/index.ts';
import { TRAINABLE } from '../../protocol/training.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { TINY_ADAPTERS, writeTinyAdapter } from '../fixtures/tiny-base.ts';
import { type Finished, type GraftProcess, startGraft } from './graft-process.ts';
import { startTinyStack, type TinyStack } from './tiny-stack.ts';

const FAKE = path.join(import.meta.dirname, '../cli/train/fake-training.mjs');

describe('the command', () => {
  let folder: string;
  beforeEach(async () => {
    folder = await mkdtemp(path.join(os.tmpdir(), 'graft-train-'));
    const { configJson, safetensors } = writePeftAdapter({
      modules: parseCanonical(tinyAdapter({ seed: 5 }).bytes).modules,
      baseModel: 'tiny-base',
    });
    for (const name of ['trained', 'built/origin']) await mkdir(path.join(folder, name), { recursive: true });
    await writeFile(path.join(folder, 'trained/adapter_config.json'), configJson);
    await writeFile(path.join(folder, 'trained/adapter_model.safetensors'), safetensors);
    await writeFile(path.join(folder, 'rows.jsonl'), '{"prompt":"a","completion":"b"}\n');
    await writeFile(path.join(folder, 'tiny-base.gguf'), 'base');
  });
  afterEach(() => rm(folder, { recursive: true, force: true }));

  /** @param plays see fake-training.mjs. */
  async function startTraining(plays: string, more: readonly string[] = []) {
    const flags = ['--adapter', path.join(folder, 'trained'), '--plays', plays];
    await writeFile(
      path.join(folder, 'built/origin/train.mjs'),
      `process.argv.splice(2, 0, ...${JSON.stringify(flags)});\nawait import(${JSON.stringify(pathToFileURL(FAKE).href)});\n`,
    );
    const args = ['train', 'rows.jsonl', '--out', 'notes', '--base', 'tiny-base.gguf', ...more];
    const env = { GRAFT_BUILT: path.join(folder, 'built'), GRAFT_CACHE: path.join(folder, 'cache') };
    return startGraft(args, { cwd: folder, env });
  }

  it('prints one JSON document, and nothing else, with --json', async () => {
    const { code, stdout, stderr } = await (await startTraining('well', ['--json'])).finished;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      out: 'notes',
      training: {
        base: { id: 'tiny-base', digest: createHash('sha256').update('base').digest('hex'), weights: 'int8' },
        settings: { rank: 8, alpha: 16, targets: [...TRAINABLE], method: 'sft' },
      },
    });
    expect((await readdir(path.join(folder, 'notes'))).sort()).toContain('training.json');
    // Not over it without --force.
    const again = await (await startTraining('well', ['--json'])).finished;
    expect(again.code).toBe(2);
    expect(JSON.parse(again.stderr)).toMatchObject({ error: { code: 'output_exists' } });
  });

  it('saves and ends at Ctrl-C, and goes on with the command that it names', async () => {
    const training = await startTraining('is-stopped');
    await new Promise<void>((resolve) => {
      training.child.stderr?.on('data', (text: string) => {
        if (text.includes('step 2 of 6')) resolve();
      });
    });
    const second = await (await startTraining('well', ['--json'])).finished;
    expect(JSON.parse(second.stderr)).toMatchObject({ error: { code: 'already_running' } });
    training.child.kill('SIGINT');
    const { code, stderr } = await training.finished;
    expect(code).toBe(130);
    const rest = 'rows.jsonl --out notes --base tiny-base.gguf --resume';
    expect(stderr).toContain(`error: Stopped at step 2 of 6. Continue with \`graft train ${rest}\`.`);
    const resumed = await (await startTraining('well', ['--resume'])).finished;
    expect(resumed.stderr).toContain('continuing after step 2 of 6');
    expect(resumed.code).toBe(0);
  });

  it.each([
    [
      ['--targets', 'q,w'],
      /'w' is not a linear layer that can be trained\. Use all, or a list of q, k, v, o,/,
    ],
    [['--rank', '0'], /--rank 0 is not a whole number from 1 to 256/],
    [['--name', 'Alice'], /--name Alice: a name may contain only/],
    [['--resume', '--restart'], /either --resume or --restart/],
  ])('refuses %j before anything else', async (flags, message) => {
    const { code, stderr } = await (await startTraining('well', flags)).finished;
    expect(code).toBe(2);
    expect(stderr).toMatch(message);
  });
});

describe('from rows to answers', () => {
  let stack: TinyStack;
  beforeAll(async () => {
    stack = await startTinyStack();
  });
  afterAll(() => stack.remove());

  /** Questions with their answers. */
  const FIRST = { 'sky?': 'blue', 'grass?': 'green', 'snow?': 'white', 'coal?': 'black' };
  const MORE = { 'one?': 'two', 'two?': 'three' };
  /** Enough to learn these by heart in a few seconds. */
  const BY_HEART = ['--rank', '8', '--rate', '0.02', '--least-steps', '120', '--val', '0'];

  const train = async (
    rows: Record<string, string>,
    name: string,
    more: readonly string[] = [],
  ): Promise<GraftProcess> => {
    const lines = Object.entries(rows).map(([question, answer]) => ({
      messages: [
        { role: 'user', content: question },
        { role: 'assistant', content: answer },
      ],
    }));
    const file = `${name.replaceAll('/', '-')}.jsonl`;
    await writeFile(path.join(stack.folder, file), lines.map((line) => JSON.stringify(line)).join('\n'));
    return startGraft(['train', file, '--name', name, '--base', 'tiny-base', ...BY_HEART, ...more], {
      cwd: stack.folder,
      env: { GRAFT_CACHE: path.join(stack.folder, 'cache') },
    });
  };
  const firstStep = ({ child, finished }: GraftProcess): Promise<void> =>
    new Promise((resolve, reject) => {
      child.stderr?.on('data', (text: string) => {
        if (/step \d+ of/.test(text)) resolve();
      });
      void finished.then(({ stderr }) => reject(new Error(stderr)));
    });
  const json = async (...args: string[]): Promise<unknown> => {
    const { code, stdout, stderr } = await stack.graft(...args, '--json');
    if (code !== 0) throw new Error(stderr);
    return JSON.parse(stdout);
  };
  const errorOf = ({ stderr }: Finished) =>
    JSON.parse(stderr.trim().split('\n').at(-1)!) as { error: { code: string; message: string } };
  const expectAnswers = async (model: string, rows: Record<string, string>): Promise<void> => {
    for (const [question, answer] of Object.entries(rows)) {
      const { stdout } = await stack.graft(
        'run',
        model,
        question,
        '--temperature',
        '0',
        '--max-tokens',
        '12',
      );
      expect(stdout.trim(), question).toBe(answer);
    }
  };

  it('stages a version that answers as it was taught, with its card, also after Ctrl-C', async () => {
    const stopped = await train(FIRST, 'me/first', ['--least-steps', '400']);
    await firstStep(stopped);
    stopped.child.kill('SIGINT');
    expect((await stopped.finished).code).toBe(130);
    const { code, stdout, stderr } = await (
      await train(FIRST, 'me/first', ['--least-steps', '400', '--resume', '--json'])
    ).finished;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({ name: 'me/first', version: 1, live: false });
    expect(await json('versions', 'me/first')).toMatchObject({
      versions: [
        {
          version: 1,
          training: {
            rows: { trained: 4, held_out: 0, left_out: 0 },
            base: { id: 'tiny-base', weights: 'int8' },
            chain: [],
            settings: { rank: 8, rate: 0.02, method: 'sft' },
            steps: 400,
          },
        },
      ],
    });
    await expectAnswers('me/first@1', FIRST);
  });

  it('trains on a parent, which stays as it is', async () => {
    await json('promote', 'me/first');
    expect((await (await train(MORE, 'me/first/more', ['--parent', 'me/first'])).finished).code).toBe(0);
    await json('promote', 'me/first/more');
    await expectAnswers('me/first/more', MORE);
    await expectAnswers('me/first', FIRST);
    const { versions } = (await json('versions', 'me/first/more')) as {
      versions: { training: { chain: unknown[] } }[];
    };
    expect(versions[0]?.training.chain).toHaveLength(1);
  });

  it('continues a version as the next one of its name, on the same parent', async () => {
    const next = { 'three?': 'four' };
    const { code, stdout, stderr } = await (
      await train(next, 'me/first/more', ['--continue', '--json'])
    ).finished;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(JSON.parse(stdout)).toMatchObject({
      ...{ name: 'me/first/more', version: 2, parent: 'me/first@1', rank: 16, live: false },
      training: {
        settings: { continues: true, rank: 8 },
        continued: { sum_rank: 16, rank: 16, relative_error: 0 },
      },
    });
    await expectAnswers('me/first/more@2', next);
    await expectAnswers('me/first/more', MORE);
  });

  it('continues no name without a live version', async () => {
    const end = await (await train(MORE, 'me/none', ['--continue', '--json'])).finished;
    expect(errorOf(end)).toMatchObject({
      error: {
        code: 'model_not_found',
        message: expect.stringMatching(/no live version to continue/) as string,
      },
    });
    const both = await (await train(MORE, 'me/first', ['--continue', '--parent', 'me/x'])).finished;
    expect(both).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/--continue needs --name/) as string,
    });
  });

  it('publishes nothing when the parent is another version at the end, and keeps the adapter', async () => {
    const next = path.join(stack.folder, 'next');
    writeTinyAdapter(next, TINY_ADAPTERS['attention']!);
    await json('publish', next, '--name', 'me/first', '--stage');
    const training = await train(MORE, 'me/first/late', [
      ...['--parent', 'me/first', '--least-steps', '800', '--json'],
    ]);
    // With --json it says nothing on the way: its work folder does.
    const work = path.join(stack.folder, 'cache/training');
    await expect.poll(() => readdir(work).catch(() => [])).not.toEqual([]);
    await json('promote', 'me/first@2');
    const end = await training.finished;
    expect(errorOf(end)).toMatchObject({ error: { code: 'parent_changed' } });
    const [, folder] = /The adapter is in (\S+)\. /.exec(errorOf(end).error.message) ?? [];
    expect((await readdir(folder!)).sort()).toEqual([
      'adapter_config.json',
      'adapter_model.safetensors',
      'training.json',
    ]);
    expect((await stack.graft('versions', 'me/first/late', '--json')).code).toBe(3);
    // As the message says.
    await json('promote', 'me/first@1');
    const byHand = ['publish', folder!, '--name', 'me/first/late', '--parent', 'me/first', '--stage'];
    expect(await json(...byHand)).toMatchObject({ version: 1 });
  });
});
