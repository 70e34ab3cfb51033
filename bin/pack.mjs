// `npm run packages`: the three packages of this tree, as folders and tarballs in dist/packages. `graft-lora` is the command
// line and the library, without native parts; `graft-lora-origin` is the same command line with origin and edge;
// `graft-lora-runtime` is what graft-lora/browser fetches in a page, 32 MB that nobody else needs. Each has compiled code
// alone, and depends on what that code imports, in the versions of package.json.
import { execFile } from 'node:child_process';
import { cp, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { builtinModules } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { build } from 'esbuild';
import { buildBrowser } from './build-browser.mjs';
import { buildOrigin } from './build-origin.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const run = promisify(execFile);
const manifest = JSON.parse(await readFile(path.join(ROOT, 'package.json'), 'utf8'));

/** What only commands load that need origin or edge: the other package has it. */
const STACK_ONLY = ['esbuild', 'miniflare', 'smol-toml'];
/** Fetched when it is wanted: cli/local/native-runtime.ts says why. Compiled in: bin/build-origin.mjs. */
const NEVER = ['onnxruntime-node', 'onnxruntime-web', 'tsx'];
/** Resolved by name at run time, or run as a program, so that no import says so. */
const RESOLVED = ['@mlc-ai/web-xgrammar', 'wrangler'];
const TEXTS = ['LICENSE', 'NOTICE', 'README.md', 'CHANGELOG.md'];

/** @param {import('esbuild').Metafile[]} metafiles @returns {string[]} names of packages that are imported, sorted. */
function imported(metafiles) {
  const outside = metafiles.flatMap(({ outputs }) =>
    Object.values(outputs).flatMap(({ imports }) => imports.filter(({ external }) => external)),
  );
  const names = outside
    .map(({ path: name }) => name)
    .filter((name) => !/^(node|cloudflare):/.test(name) && !builtinModules.includes(name))
    .map((name) => /^(@[^/]+\/)?[^/]+/.exec(name)?.[0] ?? name);
  return [...new Set(names)].sort();
}

/** @param {string[]} names @returns {Record<string, string>} */
function versionsOf(names) {
  return Object.fromEntries(
    names.map((name) => {
      const version = manifest.dependencies[name];
      if (version === undefined) throw new Error(`${name} is imported and not in "dependencies"`);
      return [name, version];
    }),
  );
}

/** The command line, compiled for a package: nothing is compared with sources there. @param {string} folder */
async function buildCli(folder) {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: { main: 'cli/main.ts' },
    outdir: folder,
    bundle: true,
    splitting: true,
    metafile: true,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    target: 'node20',
    legalComments: 'none',
    logLevel: 'error',
  });
  return metafile;
}

/** @param {string} dist gets the library: ES modules and their types, and the browser's worker. */
async function buildLibrary(dist) {
  const tsc = path.join(ROOT, 'node_modules/typescript/bin/tsc');
  await run(process.execPath, [tsc, '-p', 'tsconfig.library.json', '--outDir', dist], { cwd: ROOT });
  const entry = { adapters: 'adapters/index.ts', protocol: 'protocol/index.ts' };
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: entry,
    outdir: dist,
    bundle: true,
    write: false,
    metafile: true,
    packages: 'external',
    format: 'esm',
    platform: 'neutral',
    logLevel: 'error',
  });
  await buildBrowser(path.join(dist, 'browser'), { page: true });
  return metafile;
}

/** @param {string | undefined} repository its address, https. @returns {object} fields of a package.json. */
function addresses(repository) {
  if (repository === undefined) return {};
  const page = repository.replace(/\.git$/, '');
  return {
    repository: { type: 'git', url: `git+${page}.git` },
    bugs: `${page}/issues`,
    homepage: `${page}#readme`,
  };
}

/** @param {string} folder @param {object} fields over those of the tree's own package.json. */
async function writeManifest(folder, fields) {
  const { name, version, license, type, engines, bin } = manifest;
  const common = { name, version, license, type, engines, bin, ...addresses(manifest.repository) };
  await writeFile(
    path.join(folder, 'package.json'),
    `${JSON.stringify({ ...common, ...fields }, null, 2)}\n`,
  );
}

/** @param {string} folder @param {readonly string[]} names of files and folders of the tree. */
async function copy(folder, names) {
  for (const name of names)
    await cp(path.join(ROOT, name), path.join(folder, name), {
      recursive: true,
      filter: (file) => !file.endsWith('tsconfig.json'),
    });
}

/** @param {string} folder @returns {Promise<string>} the tarball's path. */
async function pack(folder) {
  const { stdout } = await run(
    'npm',
    ['pack', '--json', '--ignore-scripts', '--offline', '--pack-destination', path.dirname(folder)],
    { cwd: folder },
  );
  return path.join(path.dirname(folder), JSON.parse(stdout)[0].filename);
}

/**
 * @param {string} out an empty or new folder; gets the packages, each as a folder and a tarball.
 * @param {{ page?: string, tarballs?: boolean }} [params] `page`: the dashboard, built already; built here unless given.
 * @returns {Promise<{ light: string, stack: string, runtime: string }>} the tarballs; the folders where none are wanted.
 */
export async function makePackages(out, { page, tarballs = true } = {}) {
  await rm(out, { recursive: true, force: true });
  const light = path.join(out, 'graft-lora');
  const stack = path.join(out, 'graft-lora-origin');
  const runtime = path.join(out, 'graft-lora-runtime');
  for (const folder of [light, stack]) await mkdir(path.join(folder, 'dist'), { recursive: true });
  const cli = await buildCli(path.join(light, 'dist/cli'));
  await cp(path.join(light, 'dist/cli'), path.join(stack, 'dist/cli'), { recursive: true });
  const library = await buildLibrary(path.join(light, 'dist'));
  await rename(path.join(light, 'dist/browser/ort'), runtime);
  const { origin } = await buildOrigin(path.join(stack, 'dist'));
  if (page === undefined) {
    const vite = path.join(ROOT, 'node_modules/vite/bin/vite.js');
    const flags = ['--outDir', path.join(stack, 'dist/page/dashboard'), '--logLevel', 'warn'];
    await run(process.execPath, [vite, 'build', '--config', 'vite.dashboard.config.ts', ...flags], {
      cwd: ROOT,
    });
  } else await cp(page, path.join(stack, 'dist/page/dashboard'), { recursive: true });

  await copy(light, [...TEXTS, 'bin/graft.mjs']);
  await copy(stack, [
    ...TEXTS,
    'bin/graft.mjs',
    'cli/local/end-with-parent.mjs',
    'migrations',
    'wrangler.toml',
  ]);
  await copy(stack, ['examples/adapters']);
  await writeManifest(light, {
    description: `${manifest.description} The command line and the adapter toolkit; origin and edge are graft-lora-origin.`,
    exports: { ...manifest.exports, './package.json': './package.json' },
    dependencies: versionsOf(imported([cli, library]).filter((name) => !STACK_ONLY.includes(name))),
  });
  await writeManifest(stack, {
    name: 'graft-lora-origin',
    description: `${manifest.description} Origin, edge and command line.`,
    exports: { './package.json': './package.json' },
    dependencies: versionsOf(
      [...new Set([...imported([cli, origin]), ...RESOLVED])]
        .filter((name) => !NEVER.includes(name) && name !== 'esbuild')
        .sort(),
    ),
  });
  await copy(runtime, ['LICENSE', 'NOTICE']);
  await writeManifest(runtime, {
    name: 'graft-lora-runtime',
    description:
      'What graft-lora/browser fetches in a page: ONNX Runtime in WebAssembly, and the compiler of grammars.',
    bin: undefined,
    exports: { './*': './*' },
  });
  if (!tarballs) return { light, stack, runtime };
  return { light: await pack(light), stack: await pack(stack), runtime: await pack(runtime) };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (manifest.repository === undefined)
    console.error('package.json has no "repository": the packages do not say where they come from');
  for (const file of Object.values(await makePackages(path.join(ROOT, 'dist/packages')))) console.log(file);
}
