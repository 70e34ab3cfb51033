/** bin/compiled-cli.mjs: the command line as JavaScript, compiled when its sources changed. */
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { compiledCli } from '../../bin/compiled-cli.mjs';

const ROOT = fileURLToPath(new URL('../../', import.meta.url));
/** Files count as written before the build when they are this old. */
const LONG_AGO = new Date('2026-01-01T00:00:00Z');

let root: string;
beforeEach(async () => {
  root = await mkdtemp(path.join(tmpdir(), 'graft-compiled-'));
  await mkdir(path.join(root, 'cli'));
  await symlink(path.join(ROOT, 'node_modules'), path.join(root, 'node_modules'), 'dir');
  await write('tsconfig.base.json', '{}');
  await write('package.json', '{"type":"module"}');
  await write('cli/words.ts', `export const words: string = 'first';`);
  await write('cli/main.ts', `const { words } = await import('./words.ts'); console.log(words);`);
});
afterEach(() => rm(root, { recursive: true, force: true }));

async function write(name: string, text: string, at = LONG_AGO): Promise<void> {
  await writeFile(path.join(root, name), text);
  await utimes(path.join(root, name), at, at);
}

const says = async (entry: string): Promise<string> =>
  (await promisify(execFile)(process.execPath, [entry])).stdout.trim();

describe('the compiled command line', () => {
  it('is made once, and again when a source of it changed, a lazy one too', async () => {
    const first = await compiledCli(root);
    expect(await says(first)).toBe('first');
    expect(await compiledCli(root)).toBe(first);
    await write('cli/words.ts', `export const words: string = 'second';`, new Date('2026-01-02T00:00:00Z'));
    const second = await compiledCli(root);
    expect(await says(second)).toBe('second');
    // Who runs the old one may still load parts of it.
    expect(await says(first)).toBe('first');
  });

  it('is built again if a source changed during the build', async () => {
    await write('cli/words.ts', `export const words: string = 'first';`, new Date(Date.now() + 60_000));
    const first = await compiledCli(root);
    expect(await compiledCli(root)).not.toBe(first);
  });

  it('is kept in a package, which has no sources', async () => {
    const first = await compiledCli(root);
    await rm(path.join(root, 'tsconfig.base.json'));
    await rm(path.join(root, 'cli'), { recursive: true });
    expect(await compiledCli(root)).toBe(first);
  });

  it('keeps the previous build when a source does not compile', async () => {
    const first = await compiledCli(root);
    await write('cli/words.ts', 'export const = ;', new Date('2026-01-02T00:00:00Z'));
    await expect(compiledCli(root)).rejects.toThrow('Build failed');
    expect((await readdir(path.join(root, 'dist/cli'))).sort()).toEqual(
      [path.basename(path.dirname(first)), 'current.json'].sort(),
    );
  });
});

describe('starting `graft`', () => {
  it('loads neither a command, nor a schema, nor Miniflare', async () => {
    const { metafile } = await build({
      absWorkingDir: ROOT,
      entryPoints: ['cli/main.ts'],
      outdir: 'dist/none',
      bundle: true,
      splitting: true,
      metafile: true,
      write: false,
      packages: 'external',
      format: 'esm',
      platform: 'node',
    });
    const reached = new Set<string>();
    const visit = (output: string): void => {
      if (reached.has(output)) return;
      reached.add(output);
      for (const { path: next, kind, external } of metafile.outputs[output]?.imports ?? [])
        if (kind === 'import-statement') {
          if (external === true) reached.add(next);
          else visit(next);
        }
    };
    visit('dist/none/main.js');
    const packages = [...reached].filter((name) => !name.startsWith('dist/') && !name.startsWith('node:'));
    expect(packages.sort()).toEqual(['ansis', 'citty', 'string-width']);
    const sources = [...reached].flatMap((name) => Object.keys(metafile.outputs[name]?.inputs ?? {}));
    expect(sources.filter((name) => name.startsWith('cli/commands/'))).toEqual([]);
  });
});
