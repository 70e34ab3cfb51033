import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createDoTallies } from '../../../worker/experiments/tally-object.ts';
import { experimentTalliesContract } from '../../contracts/experiment-tallies.ts';
import { createFakeTallies } from '../../fakes/fake-tallies.ts';
import { inOwnRoom, namespaceOf, objectSource, startObjects } from '../platform/object-rig.ts';
import { WAIT_MS } from '../../setup/slow.ts';

let miniflare: Miniflare;

beforeAll(async () => {
  miniflare = await startObjects(
    `export { ExperimentTally } from ${JSON.stringify(objectSource('experiments/tally-object.ts'))};`,
    { durableObjects: { EXPERIMENTS: { className: 'ExperimentTally', useSQLite: true } } },
  );
});
afterAll(() => miniflare.dispose());

experimentTalliesContract('the fake', async () => createFakeTallies());
experimentTalliesContract('Durable Objects', async () => {
  const namespace = inOwnRoom(await namespaceOf(miniflare, 'EXPERIMENTS'));
  return createDoTallies({ namespace, timeoutMs: WAIT_MS });
});
