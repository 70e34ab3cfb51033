/** `graft publish` and `verify` against a whole stack with a tiny base, some through a line that breaks. */
import { readFile, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { createHash } from 'node:crypto';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { packAdapter } from '../../adapters/index.ts';
import { TINY_ADAPTERS, writeTinyAdapter, type TinyAdapter } from '../fixtures/tiny-base.ts';
import { runGraft, startGraft, type Finished } from './graft-process.ts';
import { readBytes, startTinyStack, type TinyStack } from './tiny-stack.ts';

const ROWS = [
  { user: 'hello there', expected: 'general' },
  { prompt: 'one two', expected: 'three' },
  { user: 'hello', system: 'You are short.', expected: 'hi' },
  { prompt: 'four', expected: 'five' },
];

let stack: TinyStack;
let proxy: http.Server;
/** Requests that the line swallows: the connection ends without an answer. */
let cuts: (method: string, target: string) => boolean = () => false;
const seen: string[] = [];

const graft = (...args: string[]) => stack.graft(...args);
/** Through the line that breaks, with keys from the environment. */
const throughProxy = (...args: string[]): Promise<Finished> =>
  runGraft(args, {
    cwd: stack.folder,
    env: { GRAFT_URL: proxyUrl(), GRAFT_ADMIN_KEY: stack.local.adminKey, HOME: stack.folder },
  });
const proxyUrl = (): string => `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
const names = async (): Promise<unknown> => JSON.parse((await graft('ls', '--json')).stdout);

function adapter(name: string, kind = 'attention'): string {
  const folder = path.join(stack.folder, name);
  writeTinyAdapter(folder, TINY_ADAPTERS[kind] as TinyAdapter);
  return folder;
}

beforeAll(async () => {
  stack = await startTinyStack();
  proxy = http.createServer((request, response) => {
    const { method = '', url = '' } = request;
    seen.push(`${method} ${url.split('?')[0]}`);
    if (cuts(method, url)) {
      request.socket.destroy();
      return;
    }
    const { hostname, port } = new URL(stack.local.url);
    const onward = http.request({ hostname, port, method, path: url, headers: request.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 502, answer.headers);
      answer.pipe(response);
    });
    onward.on('error', () => response.destroy());
    request.pipe(onward);
  });
  await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  await writeFile(
    path.join(stack.folder, 'rows.jsonl'),
    ROWS.map((row) => `${JSON.stringify(row)}\n`).join(''),
  );
});
afterAll(async () => {
  proxy.close();
  proxy.closeAllConnections();
  await stack.remove();
});

describe('graft publish --dry-run', () => {
  it('says what would happen and leaves the registry as it is', async () => {
    const folder = adapter('first');
    const before = await names();
    const plan = JSON.parse((await graft('publish', folder, '--name', 'dry', '--dry-run', '--json')).stdout);
    expect(plan).toMatchObject({
      dry_run: true,
      version: 1,
      exists: false,
      checked: true,
      base: 'tiny-base',
      bytes_to_send: plan.bytes,
    });
    expect(await names()).toEqual(before);
    const { code, stdout } = await graft(
      'publish',
      folder,
      '--name',
      'dry',
      '--dry-run',
      '--eval',
      'rows.jsonl',
    );
    expect(code).toBe(0);
    expect(stdout).toMatch(
      /^dry run: dry@1 would be live\nit fits tiny-base \(.*\)\n.* would be sent\n4 rows would/,
    );
    expect(await names()).toEqual(before);
  });

  it('works without a server, and says that nothing was compared', async () => {
    const env = { HOME: stack.folder };
    const away = await runGraft(['publish', adapter('first'), '--name', 'dry', '--dry-run'], {
      cwd: '/',
      env,
    });
    expect(away.code, away.stderr).toBe(0);
    expect(away.stdout).toMatch(
      /^dry run: the adapter can be read .*\nnot checked against the base: no server is known/,
    );
    const dead = { ...env, GRAFT_URL: 'http://127.0.0.1:9', GRAFT_ADMIN_KEY: stack.local.adminKey };
    const refused = await runGraft(['publish', adapter('first'), '--name', 'dry', '--dry-run'], {
      cwd: '/',
      env: dead,
    });
    expect(refused.stdout).toMatch(/not checked against the base: .*no answer from/);
  });

  it('refuses what publishing would refuse', async () => {
    const { code, stderr } = await graft('publish', adapter('first'), '--name', 'tiny-base', '--dry-run');
    expect([code, stderr]).toEqual([5, expect.stringContaining('name_reserved')]);
    expect((await graft('publish', 'nowhere', '--name', 'x', '--dry-run')).code).toBe(2);
  });
});

describe('graft publish', () => {
  it('sends a part again after a cut connection', async () => {
    let left = 1;
    cuts = (method) => method === 'PUT' && left-- > 0;
    const published = await throughProxy('publish', adapter('cut'), '--name', 'cut');
    cuts = () => false;
    expect(published.code, published.stderr).toBe(0);
    expect(published.stderr).toContain('no answer; trying again in 0.5 s');
    expect(published.stdout).toMatch(/^cut@1 is live \(rank 8, .*\)\n$/);
  });

  it('says that the same command goes on, and then sends nothing twice', async () => {
    const folder = adapter('later', 'everything');
    cuts = (method, target) => method === 'POST' && target.startsWith('/admin/versions');
    const broken = await throughProxy('publish', folder, '--name', 'later');
    cuts = () => false;
    expect(broken.code).toBe(6);
    expect(broken.stderr).toMatch(
      /error: .*no answer from.* The server has (.*) of \1; run the same command/,
    );
    const again = JSON.parse((await throughProxy('publish', folder, '--name', 'later', '--json')).stdout);
    expect(again).toMatchObject({ version: 1, created: true, sent_bytes: 0 });
  });

  it('is interrupted by Ctrl-C with word of what remains', async () => {
    const folder = adapter('interrupted', 'patterned');
    cuts = (method) => method === 'PUT';
    const running = startGraft(['publish', folder, '--name', 'interrupted'], {
      cwd: stack.folder,
      env: { GRAFT_URL: proxyUrl(), GRAFT_ADMIN_KEY: stack.local.adminKey, HOME: stack.folder },
    });
    seen.length = 0;
    await expect.poll(() => seen.some((line) => line.startsWith('PUT'))).toBe(true);
    running.child.kill('SIGINT');
    const { code, stderr } = await running.finished;
    cuts = () => false;
    expect([code, stderr]).toEqual([
      130,
      expect.stringMatching(/Interrupted\. The server has .*continue from there\.\n$/),
    ]);
    expect(await names()).not.toContainEqual(expect.objectContaining({ name: 'interrupted' }));
    expect((await throughProxy('publish', folder, '--name', 'interrupted')).code).toBe(0);
  });

  it('takes a packed file, and a version for a name and parent only once', async () => {
    const folder = adapter('packed');
    const files = {
      configJson: new TextDecoder().decode(await readBytes(path.join(folder, 'adapter_config.json'))),
      weights: await readBytes(path.join(folder, 'adapter_model.safetensors')),
    };
    const { bytes, digest } = await packAdapter({ files, baseId: 'tiny-base', parentChainId: null });
    await writeFile(path.join(stack.folder, 'packed.safetensors'), bytes);
    const first = JSON.parse(
      (await graft('publish', 'packed.safetensors', '--name', 'packed', '--json')).stdout,
    );
    expect(first).toMatchObject({ digest, version: 1, created: true });
    const same = await graft('publish', folder, '--name', 'packed');
    expect(same.stdout).toBe('packed@1 is this adapter already; nothing changed\n');
    const half = JSON.parse((await graft('publish', folder, '--name', 'packed', '--bf16', '--json')).stdout);
    expect(half).toMatchObject({ version: 2, created: true });
    expect(half.bytes).toBeLessThan(0.7 * first.bytes);
    const plan = await graft('publish', folder, '--name', 'packed', '--bf16', '--dry-run');
    expect(plan.stdout).toBe('dry run: packed@2 is this adapter already; nothing would change\n');
  });
});

describe('graft publish --eval', () => {
  const rowsHash = async () =>
    createHash('sha256')
      .update(await readFile(path.join(stack.folder, 'rows.jsonl')))
      .digest('hex');

  it('publishes nothing below --min-score, and shows what failed', async () => {
    const args = ['publish', adapter('scored', 'patterned'), '--name', 'scored', '--eval', 'rows.jsonl'];
    const { code, stdout, stderr } = await graft(...args, '--min-score', '0.5');
    expect([code, stdout]).toEqual([5, '']);
    expect(stderr).toMatch(/Nothing was published: score 0 \(0 of 4 rows answered exactly\), mean NLL \d/);
    expect(stderr).toMatch(
      /\n {2}line 1: expected "general"\n {15}got ".+…"\n {2}line 2: expected "three"\n {15}got ".+…"\n {2}line 3: /,
    );
    expect(stderr).toContain('\n  and 1 more\n');
    expect(await names()).not.toContainEqual(expect.objectContaining({ name: 'scored' }));
    const json = await graft(...args, '--min-score', '0.5', '--json');
    expect(JSON.parse(json.stderr)).toMatchObject({ error: { code: 'score_too_low' } });
  });

  it('keeps the score with the version', async () => {
    const args = ['publish', path.join(stack.folder, 'scored'), '--name', 'scored', '--eval', 'rows.jsonl'];
    const published = await graft(...args, '--json');
    expect(published.code, published.stderr).toBe(0);
    const version = JSON.parse(published.stdout);
    expect(version.evaluation).toMatchObject({ rows: 4, exact_match: 0, sha256: await rowsHash() });
    expect(version.evaluation.mean_nll).toBeGreaterThan(0);
    expect(version.score.mean_nll).toBeCloseTo(version.evaluation.mean_nll, 9);
    expect(version.proof.tokens.length).toBeGreaterThan(0);
  });

  it('evaluates a child on top of its parent', async () => {
    const args = ['publish', adapter('child', 'everything'), '--name', 'scored/child', '--parent', 'scored'];
    const { code, stdout, stderr } = await graft(...args, '--eval', 'rows.jsonl', '--min-score', '0');
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(
      /^scored\/child@1 is live \(.*\)\nscore 0 \(0 of 4 rows answered exactly\), mean NLL/,
    );
  });

  it('says which rows are wrong before anything is sent', async () => {
    await writeFile(path.join(stack.folder, 'bad.jsonl'), '{"prompt":"a","expected":"b"}\n{"prompt":"a"}\n');
    seen.length = 0;
    const args = ['publish', adapter('first'), '--name', 'x', '--eval', 'bad.jsonl'];
    const { code, stderr } = await throughProxy(...args);
    expect([code, stderr]).toEqual([2, expect.stringMatching(/bad\.jsonl, line 2: "expected"/)]);
    expect(seen).toEqual([]);
    expect((await graft('publish', adapter('first'), '--name', 'x', '--min-score', '0.5')).code).toBe(2);
    await writeFile(
      path.join(stack.folder, 'long.jsonl'),
      `\n${JSON.stringify({ prompt: 'a'.repeat(2_000), expected: 'b' })}\n`,
    );
    const long = await graft('publish', adapter('first'), '--name', 'x', '--eval', 'long.jsonl');
    expect([long.code, long.stderr]).toEqual([
      2,
      expect.stringContaining('the row of line 2 cannot be evaluated'),
    ]);
  });
});

describe('graft verify', () => {
  it('asks every origin about a version', async () => {
    const { code, stdout, stderr } = await graft('verify', 'packed@1');
    // The name is a folder here too; with its version it is not.
    expect(code, stderr).toBe(0);
    expect(stdout).toMatch(/^packed@1\nORIGIN +OK +KL +REASON\nlocal-[0-9a-f]{8} +yes +0\.0000\n$/);
    const answer = JSON.parse((await graft('verify', 'scored/child', '--json')).stdout);
    expect(answer).toMatchObject({ name: 'scored/child', version: 1, origins: [{ ok: true, reason: null }] });
    expect((await graft('verify', 'nobody/here')).code).toBe(3);
    expect((await graft('verify', 'packed@99')).code).toBe(3);
    expect((await graft('verify', 'No Such File')).code).toBe(2);
  });

  it('checks a folder here', async () => {
    const good = await graft('verify', adapter('first'));
    expect(good.stdout).toMatch(/^OK {2}.*first \(peft, rank 8, .*\)\n {4}it fits tiny-base\n$/);
    const other = path.join(stack.folder, 'other');
    const shape = {
      family: 'llama',
      hidden: 64,
      layers: 2,
      heads: 4,
      kvHeads: 2,
      headDim: 16,
      ffn: 96,
      context: 512,
      tied: true,
    } as const;
    writeTinyAdapter(other, TINY_ADAPTERS['attention'] as TinyAdapter, shape);
    const bad = await graft('verify', other, '--json');
    expect(bad.code).toBe(5);
    expect(JSON.parse(bad.stdout).problems[0]).toMatchObject({ code: 'shape_mismatch' });
    expect(JSON.parse(bad.stderr)).toMatchObject({ error: { code: 'adapter_invalid' } });
    const alone = await runGraft(['verify', path.join(stack.folder, 'first')], {
      cwd: '/',
      env: { HOME: '/nowhere' },
    });
    expect([alone.code, alone.stdout]).toEqual([
      0,
      expect.stringContaining('not checked against a base: no server'),
    ]);
  });
});
