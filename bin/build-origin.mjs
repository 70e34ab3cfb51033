// What a package runs beside the command line, as JavaScript, so that it needs neither TypeScript nor esbuild:
// dist/origin (the origin, the export of bases for browsers, their threads, ONNX Runtime's WebAssembly) and dist/worker
// (the edge as one module). A checkout runs both from its sources.
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { RUNTIME_FILES } from './build-browser.mjs';
import { workerBuild } from './worker-build.mjs';

/** The package's own folder. */
const ROOT = fileURLToPath(new URL('..', import.meta.url));

/**
 * @param {string} dist gets `origin/` and `worker/`.
 * @returns {Promise<{ origin: import('esbuild').Metafile, worker: import('esbuild').Metafile }>}
 */
export async function buildOrigin(dist) {
  const [origin, worker] = [path.join(dist, 'origin'), path.join(dist, 'worker')];
  for (const folder of [origin, worker]) await rm(folder, { recursive: true, force: true });
  const common = { absWorkingDir: ROOT, metafile: true, legalComments: 'none', logLevel: 'error' };
  const builtOrigin = await build({
    ...common,
    entryPoints: {
      main: 'gpu-origin/main.ts',
      'export-web-base': 'gpu-origin/export-web-base.ts',
      train: 'gpu-origin/train.ts',
      // Under the names that the sources start their threads by, beside the chunks that do.
      'start-thread': 'gpu-origin/runtime/web/wasm-thread.ts',
      'start-grammar-thread': 'gpu-origin/grammar/grammar-thread.ts',
    },
    outdir: origin,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    splitting: true,
    sourcemap: true,
    sourcesContent: false,
    packages: 'external',
    format: 'esm',
    platform: 'node',
    target: 'node20',
  });
  const { metafile } = await build({
    ...common,
    ...workerBuild(ROOT),
    outfile: path.join(worker, 'index.js'),
    sourcemap: true,
    sourcesContent: false,
  });
  await copyRuntime(path.join(origin, 'onnxruntime-web'));
  return { origin: builtOrigin.metafile, worker: metafile };
}

/**
 * Two of onnxruntime-web's 143 MB, laid out as in node_modules.
 * @param {string} folder
 */
async function copyRuntime(folder) {
  const { resolve } = createRequire(import.meta.url);
  await mkdir(path.join(folder, 'dist'), { recursive: true });
  for (const name of RUNTIME_FILES)
    await copyFile(resolve(`onnxruntime-web/${name}`), path.join(folder, 'dist', name));
  const manifest = new URL('../package.json', `file://${resolve(`onnxruntime-web/${RUNTIME_FILES[0]}`)}`);
  const { name, version, license } = JSON.parse(await readFile(manifest, 'utf8'));
  await writeFile(path.join(folder, 'package.json'), `${JSON.stringify({ name, version, license })}\n`);
}
