import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { build, type Plugin } from 'esbuild';
import { Miniflare } from 'miniflare';
import ts from 'typescript';
import { workerBuild } from '../../bin/worker-build.mjs';
import { readWorkerOptions } from '../../cli/local/edge.ts';
import { ROOT } from '../../cli/local/origin-process.ts';
import { LOOPBACK } from '../../cli/local/ports.ts';
import type { Entered } from './node-coverage.ts';

/** Where the worker tells what was entered, and forgets it. */
const ENTERED = '/entered';
const ENTRY = `
import worker from './worker/index.ts';
export * from './worker/index.ts';
export default {
  fetch(request, env, context) {
    if (new URL(request.url).pathname !== '${ENTERED}') return worker.fetch(request, env, context);
    const files = [...globalThis.entered];
    globalThis.entered.clear();
    return Response.json(files);
  },
};`;

/**
 * The edge in workerd, each of its functions noting its file: workerd's inspector has no coverage. Durable Objects run
 * in the same isolate and are among them.
 * @param state another edge's (`.wrangler/state/v3`), which nobody else uses meanwhile.
 * @param bindings secrets and variables, over those of wrangler.toml.
 */
export async function startNotingEdge(
  state: string,
  bindings: Record<string, string>,
): Promise<{ url: string; entered: Entered; stop(): Promise<void> }> {
  const workerOptions = await readWorkerOptions();
  const { entryPoints: _, ...options } = workerBuild(ROOT);
  const bundled = await build({
    ...options,
    stdin: { contents: ENTRY, resolveDir: ROOT },
    plugins: [notingFunctions],
    write: false,
  });
  const miniflare = new Miniflare({
    host: LOOPBACK,
    cf: false,
    kvPersist: path.join(state, 'kv'),
    d1Persist: path.join(state, 'd1'),
    r2Persist: path.join(state, 'r2'),
    durableObjectsPersist: path.join(state, 'do'),
    ...workerOptions,
    bindings: { ...workerOptions.bindings, ...bindings },
    modules: [{ type: 'ESModule', path: 'index.js', contents: bundled.outputFiles[0]?.text ?? '' }],
  } as ConstructorParameters<typeof Miniflare>[0]);
  const url = (await miniflare.ready).href.replace(/\/$/, '');
  return {
    url,
    entered: async () => (await (await fetch(url + ENTERED)).json()) as string[],
    stop: () => miniflare.dispose(),
  };
}

const notingFunctions: Plugin = {
  name: 'noting-functions',
  setup({ onLoad }) {
    onLoad({ filter: /\/(worker|protocol|adapters)\/[^.]*\.ts$/ }, async ({ path: file }) => {
      if (!file.startsWith(`${ROOT}/`) || file.includes('/node_modules/')) return undefined;
      const source = await readFile(file, 'utf8');
      return { contents: noting(source, file.slice(ROOT.length + 1)), loader: 'ts' };
    });
  },
};

/** @returns the source with a note of its file before what each function does. */
function noting(source: string, file: string): string {
  const note = `(globalThis.entered ??= new Set()).add(${JSON.stringify(file)})`;
  const inserts: { at: number; text: string }[] = [];
  const visit = (node: ts.Node): void => {
    const body = ts.isFunctionLike(node) && 'body' in node ? (node.body as ts.Node | undefined) : undefined;
    if (body !== undefined && ts.isBlock(body)) inserts.push({ at: body.getStart() + 1, text: `${note};` });
    else if (body !== undefined)
      inserts.push({ at: body.getStart(), text: `(${note}, ` }, { at: body.end, text: ')' });
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, source, ts.ScriptTarget.Latest, true));
  return inserts
    .sort((a, b) => b.at - a.at)
    .reduce((text, { at, text: more }) => text.slice(0, at) + more + text.slice(at), source);
}
