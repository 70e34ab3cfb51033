/**
 * deploy/gpu: its form, and its services but Caddy as processes of this machine, with the same arguments but for paths
 * and ports, in front of a vLLM that is a fake. Docker and a GPU are not needed, and nothing here says that it was run.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { FakeVllm } from '../fakes/fake-vllm.ts';
import { TINY_VOCAB, writeTinyBase } from '../fixtures/tiny-base.ts';
import { freePort, runGraft, startGraft, type GraftProcess } from './graft-process.ts';

const FOLDER = path.join(import.meta.dirname, '../../deploy/gpu');
const Service = z.looseObject({
  image: z.string(),
  command: z.array(z.string()).default([]),
  entrypoint: z.array(z.string()).default([]),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  environment: z.record(z.string(), z.string()).default({}),
  depends_on: z.record(z.string(), z.unknown()).default({}),
  network_mode: z.string().optional(),
  read_only: z.literal(true),
  cap_drop: z.tuple([z.literal('ALL')]),
  security_opt: z.tuple([z.literal('no-new-privileges:true')]),
});
const text = readFileSync(path.join(FOLDER, 'compose.yaml'), 'utf8');
const { services, volumes } = z
  .looseObject({ services: z.record(z.string(), Service), volumes: z.record(z.string(), z.null()) })
  .parse(parse(text, { merge: true }));
const service = (name: string) => Service.parse(services[name]);

describe('deploy/gpu/compose.yaml', () => {
  it('names services and volumes that there are, and releases of images', () => {
    expect(Object.keys(services)).toEqual([
      ...['secrets', 'gpu-1', 'vllm', 'origin', 'edge', 'caddy', 'key'],
    ]);
    for (const { depends_on, volumes: mounted, network_mode: network, image } of Object.values(services)) {
      for (const name of Object.keys(depends_on)) expect(services).toHaveProperty(name);
      for (const mount of mounted)
        if (!/^[.$]/.test(mount)) expect(volumes).toHaveProperty(mount.split(':')[0]!);
      if (network !== undefined) expect(services).toHaveProperty(network.replace('service:', ''));
      expect(image).toMatch(/^graft-local$|:v?\d+\.\d+\.\d+$/);
    }
  });

  it('starts only with a host, a base and a key, which have no default', () => {
    const variables = [...text.matchAll(/(?<!\$)\$\{?(\w+)([^}\s]*)/g)].map(([, name, more]) => [name, more]);
    expect(new Set(variables.map(([name]) => name))).toEqual(
      new Set(['GRAFT_HOST', 'GRAFT_BASE', 'GRAFT_ENGINE_KEY']),
    );
    // Compose refuses to start where such a variable is missing or empty.
    for (const [, more] of variables) expect(more).toMatch(/^:\?/);
    expect(text).not.toMatch(/\b(ga|gk)_[A-Za-z0-9]{20}|[A-Za-z0-9+/]{40,}=/);
    expect(service('vllm').environment['VLLM_API_KEY']).toContain('GRAFT_ENGINE_KEY');
  });

  it('opens the ports of TLS alone; vLLM listens on loopback, which only its origin shares', () => {
    const open = Object.entries(services).filter(([, { ports }]) => ports.length > 0);
    expect(open.map(([name, { ports }]) => [name, ports])).toEqual([
      ['caddy', ['80:80', '443:443', '443:443/udp']],
    ]);
    expect(service('vllm').command).toContain('--host=127.0.0.1');
    const shared = Object.entries(services).filter(([, { network_mode: of }]) => of === 'service:gpu-1');
    expect(shared.map(([name]) => name)).toEqual(['vllm', 'origin']);
  });

  it('gives vLLM and its origin the same numbers, base and cache', () => {
    const of = (name: string) => service(name).command.filter((flag) => /^--max-/.test(flag));
    expect(of('vllm')).toEqual(of('origin'));
    const mounted = (name: string) =>
      service(name)
        .volumes.filter((mount) => !mount.startsWith('secrets'))
        .map((mount) => mount.replace(/:ro$/, ''))
        .sort();
    expect(mounted('vllm')).toEqual(mounted('origin'));
  });
});

it('the Caddyfile passes streams on at once, with the variables that compose.yaml sets', () => {
  const caddyfile = readFileSync(path.join(FOLDER, 'Caddyfile'), 'utf8');
  const used = [...caddyfile.matchAll(/\{\$(\w+)\}/g)].map(([, name]) => name);
  expect(used.sort()).toEqual(Object.keys(service('caddy').environment).sort());
  expect(caddyfile).toContain('flush_interval -1');
});

describe('its services as processes', () => {
  const ENGINE_KEY = 'a-key-of-this-test';
  let folder: string;
  let vllm: FakeVllm;
  const running: GraftProcess[] = [];
  const ports = new Map<string, number>();
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-gpu-'));
    writeTinyBase(path.join(folder, 'base'));
    for (const name of ['origin', 'edge']) ports.set(name, await freePort());
    const adapters = { maxLoraRank: 64, apiKey: ENGINE_KEY };
    vllm = new FakeVllm({ vocabSize: TINY_VOCAB, root: '/base', ...adapters });
    await vllm.start();
  });
  afterAll(async () => {
    for (const process of running.reverse()) {
      process.child.kill('SIGTERM');
      await process.finished;
    }
    await vllm.stop();
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  const here = (argument: string): string =>
    argument
      .replace(
        /(^|[=\s])\/(secrets|state|cache|base)\b/g,
        (_, before: string, name: string) => `${before}${path.join(folder, name)}`,
      )
      .replace('0.0.0.0', '127.0.0.1')
      .replace('http://127.0.0.1:8000', vllm.url)
      .replace('//gpu-1:8788', `//127.0.0.1:${ports.get('origin')}`);
  const options = (env: Record<string, string> = {}) => ({
    cwd: folder,
    env: { GRAFT_CACHE: path.join(folder, 'cache'), ...env },
  });
  const start = (name: string, env?: Record<string, string>): GraftProcess => {
    const [verb = '', ...args] = service(name).command.map(here);
    const process = startGraft([verb, '--port', String(ports.get(name)), ...args], options(env));
    running.push(process);
    return process;
  };
  const ofShell = (name: string): string[] =>
    (/graft (.+)$/.exec(service(name).entrypoint.at(-1) ?? '')?.[1] ?? '')
      .split(' ')
      .map((word) => here(word.replaceAll("'", '')));

  it('make secrets, refuse a wrong key of vLLM, give a key, and answer', async () => {
    expect(await runGraft(ofShell('secrets'), options())).toMatchObject({ code: 0 });
    const refused = await start('origin', { GRAFT_ENGINE_KEY: 'another' }).finished;
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('vLLM answered 401')]);
    running.pop();
    await start('origin', { GRAFT_ENGINE_KEY: ENGINE_KEY }).sees(/"event":"ready"/);
    await start('edge').sees(/the edge is on .* in front of gpu-1/);

    const url = `http://127.0.0.1:${ports.get('edge')}`;
    const adminKey = (await readFile(path.join(folder, 'secrets/made/admin-key'), 'utf8')).trim();
    const admin = options({ GRAFT_URL: url, GRAFT_ADMIN_KEY: adminKey });
    const { code, stdout: key } = await runGraft(ofShell('key'), admin);
    expect([code, key]).toEqual([0, expect.stringMatching(/^gk_\S+\n$/)]);
    const ask = (token: string) =>
      fetch(`${url}/v1/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model: 'base', max_tokens: 4, prompt: 'hello' }),
      });
    expect((await ask('')).status).toBe(401);
    expect((await ask(key.trim())).status).toBe(200);
  });
});
