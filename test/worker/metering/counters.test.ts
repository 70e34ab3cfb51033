import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createDoQuotas } from '../../../worker/metering/quota-counter-object.ts';
import { quotasContract } from '../../contracts/metering.ts';
import { createFakeQuotas } from '../../fakes/fake-metering.ts';
import { inOwnRoom, namespaceOf, objectSource, startObjects } from '../platform/object-rig.ts';
import { WAIT_MS } from '../../setup/slow.ts';

let miniflare: Miniflare;

beforeAll(async () => {
  miniflare = await startObjects(
    `export { QuotaCounter } from ${JSON.stringify(objectSource('metering/quota-counter-object.ts'))};`,
    { durableObjects: { QUOTAS: { className: 'QuotaCounter', useSQLite: true } } },
  );
});
afterAll(() => miniflare.dispose());

quotasContract('the fake', async () => createFakeQuotas());
quotasContract('Durable Objects', async () => {
  const namespace = inOwnRoom(await namespaceOf(miniflare, 'QUOTAS'));
  return createDoQuotas({ namespace, timeoutMs: WAIT_MS });
});
