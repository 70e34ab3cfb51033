import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import type { WorkerOptions } from 'miniflare';
import { workerBuild } from '../../bin/worker-build.mjs';
import { LOOPBACK } from './ports.ts';
import { builtFile, fromSources, ROOT } from './origin-process.ts';

/** Bytes of what nobody else on the machine may guess. */
const SECRET_BYTES = 16;

/** The worker as one module: bundled from a checkout's sources, or as a package carries it. */
async function bundleWorker(): Promise<string> {
  if (!fromSources()) return readFile(builtFile('worker/index.js'), 'utf8');
  const { build } = await import('esbuild');
  const result = await build({
    ...workerBuild(ROOT),
    write: false,
    sourcemap: 'inline',
    logLevel: 'silent',
  });
  return result.outputFiles[0]?.text ?? '';
}

const script = (contents: string): WorkerOptions['modules'] => [
  { type: 'ESModule', path: 'index.js', contents },
];

/** Answers at Miniflare's own socket, to whoever finds it. */
const CLOSED = 'export default { fetch: () => new Response(null, { status: 403 }) };';
/**
 * Answers at the edge's socket. It has no other handler: such a socket also takes a connection by which each handler of
 * its worker can be called, `scheduled` among them. `cf` is what the client says there (`MF-CF-Blob`), valid or not.
 */
const DOOR = `export default {
  fetch(request, env) {
    let plain;
    try {
      plain = new Request(request, { cf: {} });
    } catch {
      return new Response(null, { status: 400 });
    }
    return env.GRAFT.fetch(plain);
  },
};`;

/**
 * What reaches the addresses that tenants write down: public ones alone. workerd looks a name up, drops the addresses
 * that are not allowed, and connects to one of those that are left, so that no second answer of a name server counts.
 * @param params.loopback this machine itself is allowed too.
 */
export const callOut = ({ loopback }: { loopback: boolean }) => ({
  network: { allow: ['public', ...(loopback ? ['local'] : [])], tlsOptions: { trustBrowserCas: true } },
});

export interface EdgeWorkers {
  workers: WorkerOptions[];
  /** Name of the worker that has the edge's socket. */
  door: string;
  /** Name of the edge's worker. */
  graft: string;
}

/**
 * The workers that Miniflare is to run. Before its first one it puts a worker of its own, which obeys headers of clients:
 * `MF-Original-URL` for another URL, `MF-Route-Override` for another worker by its name. So the first is a closed one, the
 * others have names that nobody knows, and the edge's socket leads past it.
 * @param options of the edge's worker, less its modules. @param port of the edge's socket; 0 = any free one.
 * @param host of it; loopback unless given.
 */
export async function edgeWorkers(params: {
  options: WorkerOptions;
  port: number;
  host?: string;
}): Promise<EdgeWorkers> {
  const { options, port, host = LOOPBACK } = params;
  const { compatibilityDate } = options;
  const common = compatibilityDate === undefined ? {} : { compatibilityDate };
  const secret = randomBytes(SECRET_BYTES).toString('hex');
  const door = `door-${secret}`;
  const graft = `graft-${secret}`;
  const workers = [
    { ...common, name: 'closed', modules: script(CLOSED) },
    {
      ...common,
      name: door,
      modules: script(DOOR),
      serviceBindings: { GRAFT: graft },
      unsafeDirectSockets: [{ host, port }],
    },
    {
      ...options,
      name: graft,
      // In a header of its requests to origins, instead of the name.
      zone: 'graft.example.com',
      modules: script(await bundleWorker()),
      durableObjects: keepPlaces(options.durableObjects),
    },
  ] as WorkerOptions[];
  return { workers, door, graft };
}

/** Objects lie in the state under their worker's name and class; it was a worker without a name that made them. */
const keepPlaces = (objects: WorkerOptions['durableObjects'] = {}): WorkerOptions['durableObjects'] =>
  Object.fromEntries(
    Object.entries(objects as Record<string, { className: string }>).map(([binding, object]) => [
      binding,
      { ...object, unsafeUniqueKey: `-${object.className}` },
    ]),
  );
