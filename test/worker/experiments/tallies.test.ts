import path from 'node:path';
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createDoTallies } from '../../../worker/stores/do-tallies.ts';
import type { DurableNamespace } from '../../../worker/stores/ask-object.ts';
import { experimentTalliesContract } from '../../contracts/experiment-tallies.ts';
import { createFakeTallies } from '../../fakes/fake-tallies.ts';

const SOURCE = path.join(import.meta.dirname, '../../../worker/durable/experiment-tally.ts');
let miniflare: Miniflare;
let rooms = 0;

beforeAll(async () => {
  const { outputFiles } = await build({
    stdin: {
      contents: `export { ExperimentTally } from ${JSON.stringify(SOURCE)}; export default {};`,
      resolveDir: import.meta.dirname,
    },
    bundle: true,
    write: false,
    format: 'esm',
    logLevel: 'silent',
  });
  miniflare = new Miniflare({
    modules: [{ type: 'ESModule', path: 'index.js', contents: outputFiles[0]?.text ?? '' }],
    durableObjects: { EXPERIMENTS: { className: 'ExperimentTally', useSQLite: true } },
    compatibilityDate: '2026-05-03',
    cf: false,
  });
  await miniflare.ready;
});
afterAll(() => miniflare.dispose());

experimentTalliesContract('the fake', async () => createFakeTallies());
experimentTalliesContract('Durable Objects', async () => {
  const namespace = (await miniflare.getDurableObjectNamespace('EXPERIMENTS')) as unknown as DurableNamespace;
  rooms += 1;
  // Objects are kept: each test has its own.
  const room = rooms;
  const own: DurableNamespace = {
    idFromName: (name) => namespace.idFromName(`${room} ${name}`),
    get: (id) => namespace.get(id),
  };
  return createDoTallies({ namespace: own, timeoutMs: 20_000 });
});
