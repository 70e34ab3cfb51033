/**
 * The product's own code as programs of a simulated world, bundled once. Their clock, timers, randomness, network and
 * files are those of the life whose event runs (`life-globals.ts`, `disk.ts`); nothing reaches the machine. Evaluating
 * the worker takes 50 ms, so its instances are used again by other isolates: their only state is the app of the last
 * environment.
 */
import * as nodeCrypto from 'node:crypto';
import { createRequire } from 'node:module';
import path from 'node:path';
import { Script } from 'node:vm';
import { build, type Plugin } from 'esbuild';
import { readFile } from 'node:fs/promises';
import { workerBuild } from '../../../bin/worker-build.mjs';
import { mountedModules } from './disk.ts';
import { type Mark, MARKS } from '../marks.ts';
import { COMPILER_MODULE, loadGrammarCompiler, simulatedXGrammar } from './grammar-compiler.ts';
import { forbidden, GLOBAL_NAMES, MARK_GLOBAL, nodeRandom, simulatedGlobals } from './life-globals.ts';
import type { OriginParams, OriginProcess } from './origin-program.ts';
import { grammarTokensOf, loadSimTokenizer } from './sim-tokenizer.ts';

const ROOT = path.join(import.meta.dirname, '../../..');

/** A change of the product's source, by file; for planted bugs. */
export interface Change {
  /** Below the checkout's root. */
  file: string;
  /** Occurs once. */
  find: string;
  replace: string;
}

export interface Programs {
  /** @param at another instance for each isolate that runs at once. */
  worker: (at: number) => Record<string, unknown>;
  origin: { startOrigin: (params: OriginParams) => Promise<OriginProcess> };
}

/** Rows of a kept evaluation that are stored and scored together. */
export const SCORED_ROWS = 2;
/** An origin that is stopped may be so for five minutes: its job begins elsewhere meanwhile. */
export const ORIGIN_LOST_MS = 2 * 60_000;

/** Sizes that would take megabytes to reach, so that rows, results and evaluations have several parts; and a long time. */
const SMALL: readonly Change[] = [
  {
    file: 'protocol/training-jobs.ts',
    find: 'export const ROWS_PART_BYTES = 4 * 1024 ** 2;',
    replace: 'export const ROWS_PART_BYTES = 200;',
  },
  {
    file: 'worker/training/limits.ts',
    find: 'export const RESULT_PART_BYTES = 8 * 1024 ** 2;',
    replace: 'export const RESULT_PART_BYTES = 400;',
  },
  {
    file: 'protocol/admin-api/evaluations.ts',
    find: 'export const SCORED_ROWS = 16;',
    replace: `export const SCORED_ROWS = ${SCORED_ROWS};`,
  },
  {
    file: 'worker/training/limits.ts',
    find: 'export const ORIGIN_LOST_MS = 30 * 60 * SECOND;',
    replace: `export const ORIGIN_LOST_MS = ${ORIGIN_LOST_MS};`,
  },
];

export async function buildPrograms(changes: readonly Change[] = []): Promise<Programs> {
  const plugins = [SHARED_XGRAMMAR, changing([...SMALL, ...changes])];
  await loadGrammarCompiler(grammarTokensOf(loadSimTokenizer()));
  const [worker, origin] = await Promise.all([
    build({ ...workerBuild(ROOT), format: 'cjs', write: false, plugins, sourcemap: 'inline', external: [] }),
    build({
      entryPoints: [path.join(import.meta.dirname, 'origin-program.ts')],
      bundle: true,
      format: 'cjs',
      platform: 'node',
      target: 'node20',
      write: false,
      plugins,
      sourcemap: 'inline',
      define: { 'import.meta.url': '"file:///simulated"' },
      external: [COMPILER_MODULE],
      logLevel: 'error',
    }),
  ]);
  const text = ({ outputFiles }: { outputFiles?: { text: string }[] }): string =>
    outputFiles?.[0]?.text ?? '';
  for (const { mark } of MARKS)
    if (![worker, origin].some((one) => text(one).includes(`${MARK_GLOBAL}("${mark}")`)))
      throw new Error(`the mark ${mark} is in no program: its line must be code that runs there`);
  const evaluate = { worker: programOf('worker', text(worker)), origin: programOf('origin', text(origin)) };
  const workers: Record<string, unknown>[] = [];
  return {
    worker: (at) => (workers[at] ??= evaluate.worker()),
    origin: evaluate.origin() as unknown as Programs['origin'],
  };
}

/** As the page's build does (bin/build-browser.mjs), with an instance that is there already. */
const SHARED_XGRAMMAR: Plugin = {
  name: 'shared-xgrammar',
  setup(bundler) {
    bundler.onLoad({ filter: /gpu-origin\/grammar\/xgrammar\.ts$/ }, () => ({
      contents: `export const loadXGrammar = () => require('${COMPILER_MODULE}');`,
      loader: 'js',
    }));
  },
};

function changing(changes: readonly Change[]): Plugin {
  const files = new Map<string, Change[]>();
  for (const change of [...changes, ...MARKS.map(changeOf)])
    files.set(change.file, [...(files.get(change.file) ?? []), change]);
  return {
    name: 'changes',
    setup(bundler) {
      bundler.onLoad({ filter: /\.ts$/ }, async ({ path: where }) => {
        const wanted = files.get(path.relative(ROOT, where));
        if (wanted === undefined) return undefined;
        let text = await readFile(where, 'utf8');
        for (const { file, find, replace } of wanted) {
          if (text.split(find).length !== 2) throw new Error(`${file} does not have this once: ${find}`);
          text = text.replace(find, () => replace);
        }
        return { contents: text, loader: 'ts' };
      });
    },
  };
}

/** Behind the mark's line, counts it. */
const changeOf = ({ mark, file, after, if: condition }: Mark): Change => ({
  file,
  find: `\n${after}\n`,
  replace: `\n${after} ${condition === undefined ? '' : `if (${condition}) `}${MARK_GLOBAL}('${mark}');\n`,
});

function programOf(name: string, code: string): () => Record<string, unknown> {
  // One line before the code, as the source map expects: none.
  const script = new Script(`(function (module, exports, require, ${GLOBAL_NAMES.join(', ')}) {${code}\n})`, {
    filename: `simulated-${name}.js`,
  });
  const run = script.runInThisContext() as (...given: unknown[]) => void;
  return () => {
    const module = { exports: {} as Record<string, unknown> };
    run(module, module.exports, simulatedRequire(), ...simulatedGlobals());
    return module.exports;
  };
}

const real = createRequire(import.meta.url);
/** Computes only. */
const HARMLESS = new Set([
  'path',
  'util',
  'url',
  'events',
  'stream',
  'stream/promises',
  'buffer',
  'string_decoder',
  'assert',
]);
/** Loaded by a library, and never used in a simulated world: each use throws. */
const UNUSED = new Set([
  'http',
  'https',
  'http2',
  'zlib',
  'cluster',
  'v8',
  'net',
  'os',
  'module',
  'worker_threads',
  'process',
]);

/** Node's modules, as programs see them. */
function simulatedRequire(): (name: string) => unknown {
  const files = mountedModules();
  const modules: Record<string, unknown> = {
    fs: files.fs,
    'fs/promises': files.promises,
    crypto: { ...nodeCrypto, ...nodeRandom },
    perf_hooks: {},
    [COMPILER_MODULE]: simulatedXGrammar,
  };
  return (given) => {
    const name = given.replace(/^node:/, '');
    if (name in modules) return modules[name];
    if (HARMLESS.has(name)) return real(given);
    if (UNUSED.has(name)) return unused(name);
    throw new Error(`a simulated program needs ${given}, which is not simulated`);
  };
}

const unused = (name: string): unknown =>
  new Proxy({}, { get: (_target, key) => (typeof key === 'string' ? forbidden(`node:${name}`) : undefined) });
