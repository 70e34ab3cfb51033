// The command line as JavaScript, in dist/cli: `npm run build` and the first command after a change of its sources
// write it (a quarter of a second); a package carries it and has no sources to compare it with.
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's own folder. */
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const distOf = (root) => path.join(root, 'dist/cli');
const currentOf = (root) => path.join(distOf(root), 'current.json');
/** Only a checkout has it: what is packed cannot change. */
const CHECKOUT_ONLY = 'tsconfig.base.json';
/** A build that another one replaced stays so long: a command that runs still loads its parts from there. */
const KEPT_MS = 24 * 60 * 60 * 1000;

/**
 * @typedef {{ folder: string, inputs: Record<string, [size: number, changedMs: number]> }} Build
 *   `folder` within dist/cli; `inputs`: each source that went into it, from the root.
 */

/**
 * @param {string} [root] the package's folder.
 * @returns the file to import, compiled now if its sources are newer.
 * @throws when a source does not compile; esbuild has said where on stderr.
 */
export async function compiledCli(root = ROOT) {
  const current = await readCurrent(root);
  if (current === null) return compileCli(root);
  const kept = !(await exists(path.join(root, CHECKOUT_ONLY))) || (await isFresh(root, current));
  return kept ? entryOf(root, current) : compileCli(root);
}

/** @returns the new entry. */
export async function compileCli(root = ROOT) {
  const { build } = await import('esbuild');
  await mkdir(distOf(root), { recursive: true });
  // Two commands that compile at once write into folders of their own; the last one's is current.
  const folder = await mkdtemp(path.join(distOf(root), 'build-'));
  try {
    const begun = Date.now();
    const { metafile } = await build({
      absWorkingDir: root,
      entryPoints: ['cli/main.ts'],
      outdir: folder,
      bundle: true,
      splitting: true,
      metafile: true,
      sourcemap: true,
      packages: 'external',
      format: 'esm',
      platform: 'node',
      target: 'node20',
      logLevel: 'error',
    });
    const inputs = await statesOf(root, Object.keys(metafile.inputs));
    // Written while we compiled: whether before or after it was read nobody knows, so the next command compiles again.
    for (const state of Object.values(inputs)) if (state[1] >= begun) state[1] = 0;
    const made = { folder: path.basename(folder), inputs };
    const written = path.join(folder, 'current.json');
    await writeFile(written, JSON.stringify(made));
    await rename(written, currentOf(root));
    await removeOld(root, made.folder);
    return entryOf(root, made);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw error;
  }
}

/** @param {string} root @param {Build} build */
const entryOf = (root, { folder }) => path.join(distOf(root), folder, 'main.js');

/** @param {string} root @returns {Promise<Build | null>} */
async function readCurrent(root) {
  try {
    const current = JSON.parse(await readFile(currentOf(root), 'utf8'));
    return (await exists(entryOf(root, current))) ? current : null;
  } catch {
    return null;
  }
}

/** @param {string} root @param {Build} build */
async function isFresh(root, { inputs }) {
  const now = await statesOf(root, Object.keys(inputs));
  return Object.entries(inputs).every(
    ([file, [size, changed]]) => now[file]?.[0] === size && now[file]?.[1] === changed,
  );
}

/** @param {string} root @param {readonly string[]} files; those that are gone are left out. */
async function statesOf(root, files) {
  const states = await Promise.all(
    files.map(async (file) => {
      const state = await stat(path.join(root, file)).catch(() => null);
      return state === null ? [] : [[file, [state.size, state.mtimeMs]]];
    }),
  );
  return Object.fromEntries(states.flat());
}

/** @param {string} root @param {string} kept */
async function removeOld(root, kept) {
  for (const name of await readdir(distOf(root))) {
    const file = path.join(distOf(root), name);
    if (!name.startsWith('build-') || name === kept) continue;
    const state = await stat(file).catch(() => null);
    if (state !== null && Date.now() - state.mtimeMs > KEPT_MS)
      await rm(file, { recursive: true, force: true });
  }
}

const exists = (file) =>
  stat(file).then(
    () => true,
    () => false,
  );
