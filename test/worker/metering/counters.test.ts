import type { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createD1Pins } from '../../../worker/origins/d1-origins.ts';
import { createD1Usage } from '../../../worker/metering/d1-usage.ts';
import { createDoQuotas } from '../../../worker/metering/quota-counter-object.ts';
import { quotasContract, usageLedgerContract } from '../../contracts/metering.ts';
import { pinLedgerContract } from '../../contracts/pins.ts';
import { createFakeQuotas, createFakeUsage } from '../../fakes/fake-metering.ts';
import { createFakePins } from '../../fakes/fake-pins.ts';
import { inOwnRoom, namespaceOf, objectSource, startObjects } from '../platform/object-rig.ts';
import { openRealDatabase } from '../platform/real-database.ts';
import { WAIT_MS } from '../../setup/slow.ts';

let miniflare: Miniflare;

beforeAll(async () => {
  miniflare = await startObjects(
    `export { QuotaCounter } from ${JSON.stringify(objectSource('metering/quota-counter-object.ts'))};`,
    { durableObjects: { QUOTAS: { className: 'QuotaCounter', useSQLite: true } }, d1Databases: ['DB'] },
  );
});
afterAll(() => miniflare.dispose());

quotasContract('the fake', async () => createFakeQuotas());
quotasContract('Durable Objects', async () => {
  const namespace = inOwnRoom(await namespaceOf(miniflare, 'QUOTAS'));
  return createDoQuotas({ namespace, timeoutMs: WAIT_MS });
});

usageLedgerContract('the fake', async () => createFakeUsage());
usageLedgerContract('D1', async () => createD1Usage(await openRealDatabase(miniflare), 86_400_000));

pinLedgerContract('the fake', async () => createFakePins());
pinLedgerContract('D1', async () => createD1Pins(await openRealDatabase(miniflare)));
