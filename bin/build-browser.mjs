// `npm run build:browser`: graft/browser in dist/browser: the page's module and its types come from tsc, the worker is one
// file, and ONNX Runtime's lie beside it.
import { copyFile, mkdir, readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** The package's own folder. */
const ROOT = fileURLToPath(new URL('..', import.meta.url));
/**
 * Its WebAssembly, without WebGPU and with it; a page fetches one of them. Of those with it the one for browsers whose
 * WebAssembly cannot wait for promises has 25.5 MiB, more than a file among Cloudflare's static assets may have.
 */
const RUNTIME_FILES = ['', '.jspi'].flatMap((which) =>
  ['mjs', 'wasm'].map((type) => `ort-wasm-simd-threaded${which}.${type}`),
);

/**
 * esbuild leaves out what nobody uses of a module, but not of an object that a module exports: `{ z }` would bring all
 * of zod, its 50 languages among it, 80 KB gzipped.
 * @type {import('esbuild').Plugin}
 */
const ZOD_AS_MODULE = {
  name: 'zod-as-module',
  setup(build) {
    build.onLoad({ filter: /\.ts$/ }, async ({ path: file }) => {
      const source = await readFile(file, 'utf8');
      return {
        contents: source.replace(/^import \{ z \} from 'zod';/m, "import * as z from 'zod';"),
        loader: 'ts',
      };
    });
  },
};

/**
 * @param {string} outdir gets `worker.js`, `index.js` where `page` says so, and `ort/`.
 * @param {{ page?: boolean, runtime?: boolean }} [what] whether the page's module is bundled too, and whether the
 *   runtime's files are copied.
 * @returns {Promise<import('esbuild').Metafile>}
 */
export async function buildBrowser(outdir, { page = false, runtime = true } = {}) {
  const { build } = await import('esbuild');
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: {
      worker: 'browser/worker/main.ts',
      ...(page ? { index: 'browser/index.ts' } : {}),
    },
    outdir,
    bundle: true,
    minify: true,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    legalComments: 'none',
    plugins: [ZOD_AS_MODULE],
    logLevel: 'error',
  });
  if (runtime) await copyRuntime(path.join(outdir, 'ort'));
  return metafile;
}

/** @param {string} folder */
async function copyRuntime(folder) {
  const { resolve } = createRequire(import.meta.url);
  await mkdir(folder, { recursive: true });
  for (const name of RUNTIME_FILES)
    await copyFile(resolve(`onnxruntime-web/${name}`), path.join(folder, name));
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  await buildBrowser(path.join(ROOT, 'dist/browser'), { page: true });
