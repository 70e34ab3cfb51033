/** Durable Objects in real workerd, without the rest of the edge. */
import path from 'node:path';
import { build } from 'esbuild';
import { Miniflare, type WorkerOptions } from 'miniflare';
import type { DurableNamespace } from '../../../worker/platform/store-calls.ts';

/** @returns the path of a Durable Object's file, such as `registry/pointer-writer-object.ts`, as a script imports it. */
export const objectSource = (file: string): string => path.join(import.meta.dirname, '../../../worker', file);

/** @param script a module that exports the objects' classes. @param options which names the classes' bindings. */
export async function startObjects(
  script: string,
  options: Pick<WorkerOptions, 'durableObjects'> & Record<string, unknown>,
): Promise<Miniflare> {
  const { outputFiles } = await build({
    stdin: { contents: `${script}\nexport default {};`, resolveDir: import.meta.dirname },
    ...{ bundle: true, write: false, format: 'esm', target: 'es2022', logLevel: 'silent' },
  });
  const miniflare = new Miniflare({
    modules: [{ type: 'ESModule', path: 'index.js', contents: outputFiles[0]?.text ?? '' }],
    compatibilityDate: '2026-05-03',
    cf: false,
    ...options,
  });
  await miniflare.ready;
  return miniflare;
}

export const namespaceOf = async (miniflare: Miniflare, binding: string): Promise<DurableNamespace> =>
  (await miniflare.getDurableObjectNamespace(binding)) as unknown as DurableNamespace;

let rooms = 0;
/** Objects are kept: whoever asks gets ones of their own. */
export function inOwnRoom(namespace: DurableNamespace): DurableNamespace {
  rooms += 1;
  const room = rooms;
  return {
    idFromName: (name) => namespace.idFromName(`${room} ${name}`),
    get: (id) => namespace.get(id),
  };
}
