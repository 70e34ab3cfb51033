// `npm run build:browser`: graft-lora/browser in dist/browser: the page's module and its types come from tsc, the worker is one
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
export const RUNTIME_FILES = ['', '.jspi'].flatMap((which) =>
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
 * The compiler of grammars is one script that is no module; each of its instances is to be another run of it. A page's
 * policy lets nobody run a text, so that the script becomes the body of a function.
 * @type {import('esbuild').Plugin}
 */
const XGRAMMAR_AS_FUNCTION = {
  name: 'xgrammar-as-function',
  setup(build) {
    // Asked for in Node alone.
    build.onResolve({ filter: /^(url|module)$/ }, ({ path: name }) => ({ path: name, external: true }));
    build.onLoad({ filter: /gpu-origin\/grammar\/xgrammar\.ts$/ }, async () => {
      const { resolve } = createRequire(import.meta.url);
      const script = await readFile(resolve('@mlc-ai/web-xgrammar'), 'utf8');
      return {
        contents: `export function loadXGrammar(onMessage) {
          const tell = (...words) => onMessage(words.map(String).join(' '));
          const console = { log: tell, warn: tell, error: tell };
          const module = { exports: {} };
          (function (exports) { ${script}
          }).call(globalThis, module.exports);
          return module.exports;
        }`,
        loader: 'js',
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
      'ort/graft-grammar': 'browser/worker/grammar-chunk.ts',
      'ort/graft-training': 'browser/worker/training-chunk.ts',
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
    plugins: [XGRAMMAR_AS_FUNCTION, ZOD_AS_MODULE],
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
