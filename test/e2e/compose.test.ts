/**
 * deploy/compose: its form, and its services as processes of this machine, with the same arguments but for paths, ports
 * and the base. Docker itself is not needed, and nothing here says that it was run.
 */
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { writeTinyBase } from '../fixtures/tiny-base.ts';
import { freePort, runGraft, startGraft, type GraftProcess } from './graft-process.ts';

const ROOT = path.join(import.meta.dirname, '../..');
const FOLDER = path.join(ROOT, 'deploy/compose');

const Service = z.looseObject({
  command: z.array(z.string()).optional(),
  entrypoint: z.array(z.string()).optional(),
  ports: z.array(z.string()).default([]),
  volumes: z.array(z.string()).default([]),
  environment: z.record(z.string(), z.string()).default({}),
  depends_on: z.record(z.string(), z.unknown()).default({}),
  read_only: z.boolean(),
  cap_drop: z.array(z.string()),
});
const Compose = z.looseObject({
  services: z.record(z.string(), Service),
  volumes: z.record(z.string(), z.unknown()),
});
const text = readFileSync(path.join(FOLDER, 'compose.yaml'), 'utf8');
const { services, volumes } = Compose.parse(parse(text, { merge: true }));
const service = (name: string) => Service.parse(services[name]);

describe('compose.yaml', () => {
  it('names services, volumes and files that there are', () => {
    expect(Object.keys(services)).toEqual(['secrets', 'origin-1', 'origin-2', 'edge', 'key']);
    for (const { depends_on, volumes: mounted } of Object.values(services)) {
      for (const name of Object.keys(depends_on)) expect(services).toHaveProperty(name);
      for (const mount of mounted) expect(volumes).toHaveProperty(mount.split(':')[0] as string);
    }
    for (const file of ['Dockerfile', 'Dockerfile.dockerignore'])
      expect(existsSync(path.join(FOLDER, file))).toBe(true);
  });

  it('opens one port, on this machine alone, and drops what no service needs', () => {
    expect(Object.values(services).flatMap(({ ports }) => ports)).toEqual(['127.0.0.1:8787:8787']);
    for (const { read_only, cap_drop } of Object.values(services))
      expect([read_only, cap_drop]).toEqual([true, ['ALL']]);
  });

  it('has no secret', () => {
    expect(text).not.toMatch(/\b(ga|gk)_[A-Za-z0-9]{20}|[A-Za-z0-9+/]{40,}=/);
    expect(Object.values(services).flatMap(({ environment }) => Object.keys(environment))).toEqual([
      'GRAFT_URL',
    ]);
  });
});

describe('the Dockerfile', () => {
  const dockerfile = readFileSync(path.join(FOLDER, 'Dockerfile'), 'utf8');

  it('is not root, and makes the folders that services mount', () => {
    expect(dockerfile).toMatch(/^USER node$/m);
    const mounted = new Set(
      Object.values(services).flatMap(({ volumes: all }) =>
        all.map((mount) => mount.split(':')[1] as string),
      ),
    );
    const made = /^RUN mkdir (.+?) &&/m.exec(dockerfile)?.[1]?.split(' ') ?? [];
    expect(made.sort()).toEqual([...mounted].sort());
  });

  it('starts the program that the services’ commands are of', () => {
    expect(dockerfile).toMatch(/^ENTRYPOINT \["graft"\]$/m);
    expect(dockerfile).toMatch(/graft-lora-origin-\*\.tgz/);
  });
});

describe('its services as processes', () => {
  let folder: string;
  const running: GraftProcess[] = [];
  const ports = new Map<string, number>();
  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'graft-compose-'));
    writeTinyBase(path.join(folder, 'tiny'));
    for (const name of ['origin-1', 'origin-2', 'edge']) ports.set(name, await freePort());
  });
  afterAll(async () => {
    for (const process of running.reverse()) {
      process.child.kill('SIGTERM');
      await process.finished;
    }
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
  });

  const here = (argument: string): string =>
    argument
      .replace(
        /(^|[=\s])\/(secrets|state|cache)\b/g,
        (_, before: string, name: string) => `${before}${path.join(folder, name)}`,
      )
      .replace('0.0.0.0', '127.0.0.1')
      .replace(/\/\/(origin-\d):8788/, (_, name: string) => `//127.0.0.1:${ports.get(name)}`);
  const options = () => ({ cwd: folder, env: { GRAFT_CACHE: path.join(folder, 'cache') } });
  const start = (name: string, ...more: string[]): GraftProcess => {
    const args = [...(service(name).command ?? []).map(here), '--port', String(ports.get(name)), ...more];
    const process = startGraft(args, options());
    running.push(process);
    return process;
  };
  /** The `graft …` of a shell's line. */
  const ofShell = (name: string): string[] =>
    (/graft (.+)$/.exec(service(name).entrypoint?.at(-1) ?? '')?.[1] ?? '')
      .split(' ')
      .map((word) => here(word.replaceAll("'", '')));
  const ready = async (name: string): Promise<void> => {
    for (;;) {
      const answer = await fetch(`http://127.0.0.1:${ports.get(name)}/readyz`).catch(() => null);
      if (answer?.status === 200) return;
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  };

  it('make secrets once, start two origins and an edge, give a key, and answer', async () => {
    expect(await runGraft(ofShell('secrets'), options())).toMatchObject({ code: 0 });
    for (const file of ['worker.json', 'origin.env', 'admin-key'])
      expect((await stat(path.join(folder, 'secrets/made', file))).mode & 0o077).toBe(0);

    for (const name of ['origin-1', 'origin-2']) {
      const origin = start(name, '--base', 'tiny');
      await Promise.race([
        ready(name),
        origin.finished.then(({ stderr }) => Promise.reject(new Error(`${name} ended: ${stderr}`))),
      ]);
    }
    const edge = start('edge');
    await edge.sees(/the edge is on .* in front of origin-1, origin-2/);
    const url = `http://127.0.0.1:${ports.get('edge')}`;
    const adminKey = (await readFile(path.join(folder, 'secrets/made/admin-key'), 'utf8')).trim();
    const admin = { cwd: folder, env: { ...options().env, GRAFT_URL: url, GRAFT_ADMIN_KEY: adminKey } };
    const { code, stdout } = await runGraft(ofShell('key'), admin);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/^gk_\S+\n$/)]);

    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${stdout.trim()}`, 'content-type': 'application/json' },
      body: JSON.stringify({ model: 'base', max_tokens: 4, messages: [{ role: 'user', content: 'hi' }] }),
    });
    expect(response.status).toBe(200);
    const ps = await runGraft(['ps'], admin);
    expect(ps.stdout).toMatch(/origin-1[^]*origin-2/);
    expect((await fetch(`${url}/dashboard`)).status).toBe(200);
  });

  it('end in order at SIGTERM, streams first', async () => {
    for (const process of running.splice(0).reverse()) {
      process.child.kill('SIGTERM');
      expect(await process.finished).toMatchObject({ code: 0 });
    }
  });

  it.each([
    ['no secrets', ['edge', '--origin', 'a=http://127.0.0.1:1'], /GRAFT_MAC_KEY.*`graft secrets <folder>`/],
    ['no origins', ['edge', '--secrets', 'secrets/made'], /--origin origin-1=http/],
    ['no file of keys', ['origin', '--origin-id', 'a', '--keys', 'nowhere.env'], /--keys nowhere\.env/],
  ])('say what to do where there are %s', async (_, args, message) => {
    const { code, stderr } = await runGraft(args, options());
    expect([code, stderr]).toEqual([2, expect.stringMatching(message)]);
  });
});
