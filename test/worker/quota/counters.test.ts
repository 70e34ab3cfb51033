import path from 'node:path';
import { build } from 'esbuild';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll } from 'vitest';
import { createD1Pins } from '../../../worker/stores/d1-pins.ts';
import { createD1Usage } from '../../../worker/stores/d1-usage.ts';
import type { DurableNamespace } from '../../../worker/stores/ask-object.ts';
import { createDoQuotas } from '../../../worker/stores/do-quotas.ts';
import { quotasContract, usageLedgerContract } from '../../contracts/metering.ts';
import { pinLedgerContract } from '../../contracts/pins.ts';
import { createFakeQuotas, createFakeUsage } from '../../fakes/fake-metering.ts';
import { createFakePins } from '../../fakes/fake-pins.ts';
import { openRealDatabase } from '../stores/real-database.ts';

const SOURCE = path.join(import.meta.dirname, '../../../worker/durable/quota-counter.ts');
let miniflare: Miniflare;
let counters = 0;

beforeAll(async () => {
  const { outputFiles } = await build({
    stdin: {
      contents: `export { QuotaCounter } from ${JSON.stringify(SOURCE)}; export default {};`,
      resolveDir: import.meta.dirname,
    },
    bundle: true,
    write: false,
    format: 'esm',
    logLevel: 'silent',
  });
  miniflare = new Miniflare({
    modules: [{ type: 'ESModule', path: 'index.js', contents: outputFiles[0]?.text ?? '' }],
    durableObjects: { QUOTAS: { className: 'QuotaCounter', useSQLite: true } },
    d1Databases: ['DB'],
    compatibilityDate: '2026-05-03',
    cf: false,
  });
  await miniflare.ready;
});
afterAll(() => miniflare.dispose());

quotasContract('the fake', async () => createFakeQuotas());
quotasContract('Durable Objects', async () => {
  const namespace = (await miniflare.getDurableObjectNamespace('QUOTAS')) as unknown as DurableNamespace;
  counters += 1;
  // Objects are kept: each test has its own.
  const room = counters;
  const own: DurableNamespace = {
    idFromName: (name) => namespace.idFromName(`${room} ${name}`),
    get: (id) => namespace.get(id),
  };
  return createDoQuotas({ namespace: own, timeoutMs: 20_000 });
});

usageLedgerContract('the fake', async () => createFakeUsage());
usageLedgerContract('D1', async () => createD1Usage(await openRealDatabase(miniflare), 86_400_000));

pinLedgerContract('the fake', async () => createFakePins());
pinLedgerContract('D1', async () => createD1Pins(await openRealDatabase(miniflare)));
