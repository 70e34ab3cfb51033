/** Builds the console when it is missing or older than its sources. */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import type { Output } from '../output.ts';
import { ROOT } from './origin-process.ts';

/** All sources of the page. */
const SOURCES = [
  ...['dashboard', 'adapters', 'protocol', 'package-lock.json', 'vite.dashboard.config.ts'],
  // graft/browser, which is served beside it.
  ...['browser', 'gpu-origin', 'bin/build-browser.mjs'],
];
/** End of the build's log that is shown when it fails. */
const LAST_CHARACTERS = 2_000;

/**
 * @param root the package's folder.
 * @returns the folder to serve, with `dashboard/index.html`; null without a page, with a note.
 */
export async function buildPage(params: {
  output: Pick<Output, 'note'>;
  signal?: AbortSignal;
  root?: string;
}): Promise<string | null> {
  const { output, root = ROOT } = params;
  const page = path.join(root, 'dist/page');
  const built = await changedAt(path.join(page, 'dashboard/index.html'));
  const sources = await newest(SOURCES.map((name) => path.join(root, name)));
  // A published package contains only the built page.
  if (built > 0 && (built >= sources || !existsSync(path.join(root, 'dashboard')))) return page;
  const vite = findVite(root);
  if (vite === null) {
    const old = built > 0 ? 'its page is older than its sources' : 'its page was not built';
    output.note(
      `the console is not rebuilt: ${old}, and vite is not installed (run 'npm ci' without --omit=dev)`,
    );
    return built > 0 ? page : null;
  }
  output.note('building the console');
  const begun = performance.now();
  await mkdir(page, { recursive: true });
  // Parallel builds do not write into each other's files, and a running server never sees half of them.
  const fresh = await mkdtemp(path.join(root, 'dist/.page-'));
  try {
    await runVite({ ...params, vite, root, folder: path.join(fresh, 'new') });
    await replace(path.join(page, 'dashboard'), path.join(fresh, 'new'), path.join(fresh, 'old'));
  } catch (error) {
    params.signal?.throwIfAborted();
    output.note(`the console is not rebuilt: ${error instanceof Error ? error.message : String(error)}`);
    return built > 0 ? page : null;
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  output.note(`built the console in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  return page;
}

function findVite(root: string): string | null {
  try {
    return path.join(
      path.dirname(createRequire(path.join(root, 'package.json')).resolve('vite/package.json')),
      'bin/vite.js',
    );
  } catch {
    return null;
  }
}

/** A separate process: vite sets environment variables that the origin would inherit. */
function runVite(params: {
  vite: string;
  root: string;
  folder: string;
  signal?: AbortSignal;
}): Promise<void> {
  const { vite, root, folder, signal } = params;
  const args = [vite, 'build', '--config', 'vite.dashboard.config.ts', '--outDir', folder];
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...args, '--logLevel', 'warn'], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'pipe'],
      ...(signal === undefined ? {} : { signal }),
    });
    let said = '';
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => (said = (said + text).slice(-LAST_CHARACTERS)));
    child.once('error', reject);
    child.once('close', (code) =>
      code === 0 ? resolve() : reject(new Error(`its build failed\n${said.trim()}`)),
    );
  });
}

/** The second of two identical builds keeps the first one's result. */
async function replace(folder: string, fresh: string, old: string): Promise<void> {
  await rename(folder, old).catch(() => undefined);
  await rename(fresh, folder).catch((error: unknown) => {
    if (!existsSync(path.join(folder, 'index.html'))) throw error;
  });
}

const changedAt = async (file: string): Promise<number> => (await stat(file).catch(() => null))?.mtimeMs ?? 0;

/** The latest change below these files and folders, unix ms; 0 when none is there. */
async function newest(paths: readonly string[]): Promise<number> {
  const times = await Promise.all(
    paths.map(async (one) => {
      const found = await stat(one).catch(() => null);
      if (found === null) return 0;
      if (!found.isDirectory()) return found.mtimeMs;
      const names = await readdir(one);
      // A folder's own time changes when a file is removed.
      return Math.max(found.mtimeMs, await newest(names.map((name) => path.join(one, name))));
    }),
  );
  return Math.max(0, ...times);
}
