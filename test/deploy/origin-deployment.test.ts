/** Dockerfile and systemd unit: what they copy exists, and what they start with is understood. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { readConfig } from '../../gpu-origin/config.ts';
import { DRAIN_MS } from '../../gpu-origin/http/serve.ts';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const read = (file: string): string => readFileSync(path.join(ROOT, file), 'utf8');
/** What operators read. */
const pages = (): string =>
  readdirSync(path.join(ROOT, 'docs/run'))
    .map((page) => read(`docs/run/${page}`))
    .join('\n');
const env = { GRAFT_ORIGIN_KEYS: `k1:${Buffer.alloc(32, 1).toString('base64')}` };
/** What follows `gpu-origin/main.ts` of a command line. */
const flagsOf = (command: string): string[] =>
  (command.split('gpu-origin/main.ts')[1] ?? '').trim().split(/\s+/);

describe('Dockerfile', () => {
  const dockerfile = read('Dockerfile');

  it('copies what is there and what .dockerignore lets through', () => {
    const ignore = read('.dockerignore');
    const sources = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, list]) =>
      (list ?? '').split(' '),
    );
    expect(sources).toContain('gpu-origin');
    for (const source of sources) {
      expect(existsSync(path.join(ROOT, source)), source).toBe(true);
      expect(ignore.split('\n'), source).toContain(`!${source}`);
    }
  });

  it('starts the origin on every address of the container, with the flags of docs/run', () => {
    const entry = JSON.parse(/^ENTRYPOINT (.+)$/m.exec(dockerfile)?.[1] ?? '[]') as string[];
    const given = /^ {2}graft-origin (--base .+)$/m.exec(pages())?.[1] ?? '';
    const config = readConfig([...flagsOf(entry.join(' ')), ...given.split(' ')], env);
    expect(config).toMatchObject({ host: '0.0.0.0', port: 8788, graceMs: 5_000, mode: { kind: 'signed' } });
  });

  it('leaves the origin the packages that it needs', () => {
    const removed = [...dockerfile.matchAll(/node_modules\/([@\w-]+)(?=[ \n])/g)].map(([, name]) => name);
    expect(removed).toContain('wrangler');
    for (const needed of [
      'hono',
      '@hono',
      'koffi',
      '@koromix',
      'onnxruntime-node',
      'onnxruntime-web',
      'prom-client',
      'tsx',
      'esbuild',
      '@esbuild',
      'zod',
    ])
      expect(removed).not.toContain(needed);
  });
});

describe('graft-origin.service', () => {
  const unit = read('deploy/graft-origin.service');
  const value = (name: string): string => new RegExp(`^${name}=(.+)$`, 'm').exec(unit)?.[1] ?? '';

  it('starts a signed origin on loopback, which is given time to drain', () => {
    const config = readConfig(flagsOf(value('ExecStart')), env);
    expect(config).toMatchObject({
      host: '127.0.0.1',
      graceMs: 5_000,
      logSample: 1,
      mode: { kind: 'signed' },
    });
    expect(Number(value('TimeoutStopSec')) * 1_000).toBeGreaterThan(DRAIN_MS);
    expect(pages()).toContain(`--stop-timeout ${value('TimeoutStopSec')}`);
  });
});
