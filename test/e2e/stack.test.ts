/** The whole stack as a user starts it: `graft dev` with a tiny base, publish, ask, re-publish, end. */
import { execFileSync } from 'node:child_process';
import { execFile } from 'node:child_process';
import { access, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { LocalFile } from '../../cli/connection.ts';
import { TINY_ADAPTERS, type TinyAdapter, writeTinyAdapter, writeTinyBase } from '../fixtures/tiny-base.ts';
import { descendants, listeningPorts } from '../security/listening-ports.ts';
import { sendRaw } from '../security/raw-socket.ts';
import { runGraft, startGraft, type GraftProcess } from './graft-process.ts';
import { wranglerKvKey } from './run-wrangler.ts';
import { EXACT_KV } from './tiny-stack.ts';

const MESSAGES = [{ role: 'user' as const, content: 'hello there' }];
const GREEDY = { temperature: 0, max_tokens: 12 };

let folder: string;
let env: Record<string, string>;
let dev: GraftProcess;
let local: LocalFile & { dashboard: string | null };
let openai: OpenAI;

const devArgs = ['dev', '--port', '0', '--origin-port', '0', '--no-examples', '--json', ...EXACT_KV];
const graft = (...args: string[]) => runGraft(args, { cwd: folder, env });
const answers = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = net.connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });

const originPort = async (): Promise<number> => {
  const file = JSON.parse(await readFile(path.join(folder, '.graft/local.json'), 'utf8')) as typeof local;
  return Number(new URL(file.originUrl).port);
};

/** Process id of the workerd that the process `parent` started. */
function workerdOf(parent: number): number {
  const lines = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' }).split('\n');
  const found = lines.find((line) => new RegExp(`^ *\\d+ +${parent} .*workerd.* serve `).test(line));
  return Number(/\d+/.exec(found ?? '')?.[0]);
}

function adapterFolder(name: string, adapter: TinyAdapter): string {
  const target = path.join(folder, name);
  writeTinyAdapter(target, adapter);
  return target;
}

async function greedy(model: string): Promise<string> {
  const answer = await openai.chat.completions.create({ model, messages: MESSAGES, ...GREEDY });
  return answer.choices[0]?.message.content ?? '';
}

beforeAll(async () => {
  folder = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
  writeTinyBase(path.join(folder, 'tiny-base'));
  env = { GRAFT_CACHE: path.join(folder, 'cache') };
  dev = startGraft([...devArgs, '--base', 'tiny-base'], { cwd: folder, env });
  local = JSON.parse((await dev.sees(/^\{.*\}$/m))[0]) as typeof local;
  openai = new OpenAI({ baseURL: `${local.url}/v1`, apiKey: local.key, maxRetries: 0 });
});
afterAll(async () => {
  await dev.killGroup();
  await rm(folder, { recursive: true, force: true, maxRetries: 5 });
});

describe('graft dev', () => {
  it('writes where it is, for its owner alone', async () => {
    const file = path.join(folder, '.graft/local.json');
    // The link is for whoever reads the output, and nobody else.
    const { dashboard, ...written } = local;
    expect(JSON.parse(await readFile(file, 'utf8'))).toEqual(written);
    expect(dashboard).toMatch(/\/dashboard#\/sign-in\/[\w-]{43}$/);
    for (const name of ['local.json', 'keys.json'])
      expect((await stat(path.join(folder, '.graft', name))).mode & 0o777).toBe(0o600);
    for (const name of ['.graft', '.wrangler/state'])
      expect((await stat(path.join(folder, name))).mode & 0o777).toBe(0o700);
  });

  it('has one port that does anything without a signature: the edge', async () => {
    const started = dev.child.pid as number;
    const ports = [started, ...descendants(started)].flatMap(listeningPorts);
    const [edge, origin] = [local.url, local.originUrl].map((url) => Number(new URL(url).port));
    expect(ports).toEqual(expect.arrayContaining([edge, origin]));
    const target = path.join(folder, 'written');
    const up = encodeURIComponent('/..'.repeat(12) + target);
    for (const port of ports) {
      const head = `POST /core/store-temp-file?extension=${up} HTTP/1.1\r\nHost: localhost\r\n`;
      const answer = await sendRaw(`http://127.0.0.1:${port}`, `${head}Content-Length: 4\r\n\r\nevil`);
      expect([port, answer.slice(0, 12)]).toEqual([port, expect.stringMatching(/^$|^HTTP\/1\.1 4/)]);
    }
    await expect(access(target)).rejects.toThrow();
  });

  it('is opened, signed in, again and again', async () => {
    const signIn = (link: string) =>
      fetch(`${local.url}/dashboard/sign-in`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({ token: link.split('/').at(-1) }),
      });
    const printed = await graft('open', '--print');
    expect([printed.code, printed.stderr]).toEqual([0, 'The link signs in once, within five minutes.\n']);
    const link = printed.stdout.trim();
    expect(link).toMatch(/\/dashboard#\/sign-in\/[\w-]{43}$/);
    expect(await (await signIn(link)).json()).toEqual({ admin_key: local.adminKey });
    expect((await signIn(link)).status).toBe(401);

    // A browser's opener that writes down what it is given; one that fails; none.
    const bin = path.join(folder, 'bin');
    const opened = path.join(folder, 'opened');
    await mkdir(bin);
    const opener = (script: string) =>
      writeFile(path.join(bin, 'xdg-open'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    await opener(`printf %s "$1" > '${opened}'`);
    const open = (more: Record<string, string>) =>
      runGraft(['open'], {
        cwd: folder,
        env: { ...env, PATH: `${bin}:${process.env['PATH']}`, DISPLAY: ':0', ...more },
      });
    const page = `${local.url}/dashboard`;
    expect(await open({})).toEqual({ code: 0, stdout: `opened ${page}, signed in\n`, stderr: '' });
    expect((await signIn(await readFile(opened, 'utf8'))).status).toBe(200);
    await opener('exit 3');
    for (const more of [{}, { DISPLAY: '', WAYLAND_DISPLAY: '' }])
      expect((await open(more)).stdout).toContain(`${page}#/sign-in/`);
  });

  it('is not opened where it does not run, and elsewhere without a key in the address', async () => {
    const other = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
    const away = { XDG_CONFIG_HOME: other };
    const nothing = await runGraft(['open'], { cwd: other, env: away });
    expect([nothing.code, nothing.stderr]).toEqual([
      2,
      expect.stringMatching(/^error: Nothing to open: `npm start` .* does not run in this folder/),
    ]);
    const silent = await runGraft(['open'], {
      cwd: other,
      env: { ...away, GRAFT_URL: 'http://127.0.0.1:9' },
    });
    expect([silent.code, silent.stderr]).toEqual([6, expect.stringContaining('no answer from')]);
    const remote = { ...away, GRAFT_URL: local.url, GRAFT_ADMIN_KEY: local.adminKey };
    expect(await runGraft(['open', '--print'], { cwd: other, env: remote })).toEqual({
      ...{ code: 0, stdout: `${local.url}/dashboard\n` },
      stderr: 'The page asks for an admin key (ga_…).\n',
    });
    await rm(other, { recursive: true });
  });

  it('refuses to start twice in one folder, in one line', async () => {
    const { code, stderr } = await graft(
      ...devArgs.filter((flag) => flag !== '--json'),
      '--base',
      'tiny-base',
    );
    expect(code).toBe(1);
    expect(stderr).toMatch(/^starting .*\nerror: .*already runs in this folder \(process \d+\).*\n$/);
  });

  it('says that a port is taken, in one line', async () => {
    const other = await mkdtemp(path.join(os.tmpdir(), 'graft-e2e-'));
    const port = new URL(local.url).port;
    const { code, stderr } = await runGraft(['dev', '--port', port, '--base', folder], { cwd: other, env });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      new RegExp(`^starting .*\\nerror: Port ${port} for the edge is taken.*--port <port>\\.\\n$`),
    );
    await rm(other, { recursive: true });
  });

  it('answers as the base model', async () => {
    const models = await openai.models.list();
    expect(models.data.map((model) => model.id)).toEqual([local.base]);
    expect((await greedy(local.base)).length).toBeGreaterThan(0);
  });
});

describe('publish, run, ls, ps', () => {
  it('publishes an adapter that answers differently from the base', async () => {
    const published = await graft(
      'publish',
      adapterFolder('first', TINY_ADAPTERS['attention'] as TinyAdapter),
      '--name',
      'alice/notes',
      '--json',
    );
    expect(published.stderr).toBe('');
    expect(JSON.parse(published.stdout)).toMatchObject({
      name: 'alice/notes',
      version: 1,
      live: true,
      created: true,
      rank: 8,
    });
    expect(await greedy('alice/notes')).not.toBe(await greedy(local.base));
  });

  it('streams to the example client', async () => {
    const script = fileURLToPath(new URL('../../examples/chat.mjs', import.meta.url));
    const run = promisify(execFile)(process.execPath, [script, 'alice/notes', 'hello there'], {
      cwd: folder,
      env: { PATH: process.env['PATH'] },
    });
    const { stdout, stderr } = await run;
    expect(stderr).toBe('served by alice/notes@1\n');
    const sixtyFour = { model: 'alice/notes', messages: MESSAGES, temperature: 0, max_tokens: 64 };
    const whole = await openai.chat.completions.create(sixtyFour);
    expect(stdout).toBe(`${whole.choices[0]?.message.content}\n`);
  });

  it('changes nothing when the same is published again', async () => {
    const again = await graft('publish', path.join(folder, 'first'), '--name', 'alice/notes', '--json');
    expect(JSON.parse(again.stdout)).toMatchObject({ version: 1, created: false, sent_bytes: 0 });
  });

  it('publishes a child on top of its parent', async () => {
    const child = adapterFolder('child', TINY_ADAPTERS['everything'] as TinyAdapter);
    const published = await graft(
      'publish',
      child,
      '--name',
      'alice/notes/bob',
      '--parent',
      'alice/notes',
      '--json',
    );
    const { chain } = JSON.parse(published.stdout) as { chain: { name: string }[] };
    expect(chain.map(({ name }) => name)).toEqual(['alice/notes', 'alice/notes/bob']);
    const alone = await graft('publish', child, '--name', 'alone', '--json');
    expect(JSON.parse(alone.stdout)).toMatchObject({ version: 1 });
    expect(await greedy('alice/notes/bob')).not.toBe(await greedy('alone'));
  });

  it('serves a new version at the next request, and the old one by its number', async () => {
    const before = await greedy('alice/notes');
    const other = adapterFolder('second', TINY_ADAPTERS['patterned'] as TinyAdapter);
    await graft('publish', other, '--name', 'alice/notes');
    expect(await greedy('alice/notes')).not.toBe(before);
    expect(await greedy('alice/notes@1')).toBe(before);
  });

  it('refuses what does not fit the base, with the reason', async () => {
    const wrong = path.join(folder, 'wrong');
    writeTinyAdapter(wrong, TINY_ADAPTERS['attention'] as TinyAdapter, {
      family: 'llama',
      hidden: 64,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      ffn: 96,
      context: 512,
      tied: true,
    });
    const { code, stderr } = await graft('publish', wrong, '--name', 'wrong');
    expect(code).toBe(5);
    expect(stderr).toContain('shape_mismatch');
    expect((await graft('publish', wrong, '--name', 'Wrong Name')).code).toBe(2);
    expect((await graft('publish', wrong, '--name', 'wrong', '--parnet', 'x')).stderr).toContain(
      'Unknown flag --parnet',
    );
  });

  it('streams an answer, and fails with the documented codes', async () => {
    const said = await graft('run', 'alice/notes', 'hello there', '--temperature', '0', '--max-tokens', '12');
    expect(said).toMatchObject({ code: 0, stdout: `${await greedy('alice/notes')}\n` });
    expect((await graft('run', 'nobody/here', 'hello')).code).toBe(3);
    expect(
      (await runGraft(['run', 'x', 'hello'], { cwd: folder, env: { ...env, GRAFT_KEY: 'gk_wrong' } })).code,
    ).toBe(4);
    expect((await runGraft(['ls'], { cwd: os.tmpdir(), env })).code).toBe(2);
    const away = { ...env, GRAFT_URL: 'http://127.0.0.1:9', GRAFT_ADMIN_KEY: local.adminKey };
    expect((await runGraft(['ls'], { cwd: folder, env: away })).code).toBe(6);
  });

  it('lists names and residents', async () => {
    const names = JSON.parse((await graft('ls', 'alice/', '--json')).stdout) as {
      name: string;
      version: number;
    }[];
    expect(names.map(({ name, version }) => `${name}@${version}`)).toEqual([
      'alice/notes@2',
      'alice/notes/bob@1',
    ]);
    expect((await graft('ls')).stdout).toMatch(/^NAME +LIVE +NEWEST +OWNER\n.*alice\/notes +2 +2 +default/s);
    const { stdout } = await graft('ps');
    expect(stdout).toMatch(
      /^local-[0-9a-f]{8}: tiny-base \(int8, provider cpu, batch-independent to the bit\), \d+ of \d+ rows, adapters .*\nDIGEST +NAME/,
    );
    for (const name of ['alice/notes@1', 'alice/notes@2', 'alice/notes/bob@1', 'alone@1'])
      expect(stdout).toMatch(new RegExp(`^[0-9a-f]{12} +${name} +ready`, 'm'));
  });

  it('takes in what wrangler puts into its KV', async () => {
    const packed = path.join(folder, 'packed.safetensors');
    expect((await graft('pack', path.join(folder, 'first'), '-o', packed)).code).toBe(0);
    const state = path.join(folder, '.wrangler/state');
    await wranglerKvKey(state, ['put', 'drop:bob/notes', '--path', packed]);
    expect(await greedy('bob/notes')).toBe(await greedy('alice/notes@1'));
  });
});

describe('the official client', () => {
  it('streams, with usage at the end', async () => {
    const stream = await openai.chat.completions.create({
      model: 'alice/notes',
      messages: MESSAGES,
      ...GREEDY,
      stream: true,
      stream_options: { include_usage: true },
    });
    let text = '';
    let usage: OpenAI.CompletionUsage | null | undefined;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? '';
      usage = chunk.usage ?? usage;
    }
    expect(text).toBe(await greedy('alice/notes'));
    expect(usage?.total_tokens).toBe((usage?.prompt_tokens ?? 0) + (usage?.completion_tokens ?? 0));
  });

  it('gives every row of a mixed batch what it gets alone', async () => {
    const models = [local.base, 'alice/notes', 'alice/notes/bob', 'alone', 'alice/notes@1'];
    const alone: string[] = [];
    for (const model of models) alone.push(await greedy(model));
    expect(await Promise.all([...models, ...models].map(greedy))).toEqual([...alone, ...alone]);
  });

  it('gets typed errors', async () => {
    await expect(greedy('nobody/here')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const stranger = new OpenAI({ baseURL: `${local.url}/v1`, apiKey: 'gk_wrong', maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
  });
});

describe('the end', () => {
  it('leaves nothing running and no local file, and keeps the registry for the next start', async () => {
    const ports = [local.url, local.originUrl].map((url) => Number(new URL(url).port));
    expect(await Promise.all(ports.map(answers))).toEqual([true, true]);
    dev.child.kill('SIGINT');
    expect((await dev.finished).code).toBe(0);
    expect(await Promise.all(ports.map(answers))).toEqual([false, false]);
    await expect(access(path.join(folder, '.graft/local.json'))).rejects.toThrow();

    dev = startGraft([...devArgs, '--base', 'tiny-base'], { cwd: folder, env });
    const next = JSON.parse((await dev.sees(/^\{.*\}$/m))[0]) as typeof local;
    expect(next.key).toBe(local.key);
    const names = JSON.parse((await graft('ls', '--json')).stdout) as { name: string }[];
    expect(names.map(({ name }) => name)).toEqual(['alice/notes', 'alice/notes/bob', 'alone', 'bob/notes']);
    // The adapters come from the edge or the origin's disk: the memory is new.
    openai = new OpenAI({ baseURL: `${next.url}/v1`, apiKey: next.key, maxRetries: 0 });
    expect((await greedy('alice/notes')).length).toBeGreaterThan(0);
  });

  it('ends, and says why, when the edge ends', async () => {
    const origin = await originPort();
    process.kill(workerdOf(dev.child.pid as number), 'SIGKILL');
    const { code, stderr } = await dev.finished;
    expect([code, stderr]).toEqual([1, expect.stringContaining('the edge (workerd) ended with SIGKILL')]);
    expect(await answers(origin)).toBe(false);
  });

  it('takes origin and edge along even when it is killed', async () => {
    dev = startGraft([...devArgs, '--base', 'tiny-base'], { cwd: folder, env });
    const next = JSON.parse((await dev.sees(/^\{.*\}$/m))[0]) as typeof local;
    const ports = [next.url, next.originUrl].map((url) => Number(new URL(url).port));
    dev.child.kill('SIGKILL');
    for (const port of ports) await expect.poll(() => answers(port)).toBe(false);
  });
});
