/** The schedule takes a ramp's step, and what D1 says reaches KV: in real workerd, on Miniflare's stores. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ExperimentLooks, ExperimentView } from '../../protocol/admin-api/experiments.ts';
import type { DurableNamespace } from '../../worker/platform/store-calls.ts';
import { createDoTallies } from '../../worker/experiments/tally-object.ts';
import type { ExperimentEvent } from '../../worker/experiments/ports.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { startTestEdge, type TestEdge } from './edge-harness.ts';
import { WAIT_MS } from '../setup/slow.ts';

const NAME = 'ramped';
const UNITS = 200;
let graft: TestEdge;
beforeAll(async () => {
  graft = await startTestEdge();
  for (const seed of [1, 2])
    expect(
      (await graft.publish({ name: NAME, adapter: tinyAdapter({ seed }), stage: seed > 1 })).status,
    ).toBe(201);
});
afterAll(() => graft.stop());

/** @param body none is sent unless given. */
const send = async (method: string, path: string, body?: object): Promise<unknown> => {
  const json = body === undefined ? {} : { body: JSON.stringify(body) };
  const response = await graft.admin(`/admin/${path}`, { method, ...json });
  const text = await response.text();
  expect(response.ok, text).toBe(true);
  return JSON.parse(text);
};
const inKv = async (key: string): Promise<string | null> =>
  (await graft.edge.miniflare.getKVNamespace('ADAPTERS')).get(key);

it('takes a step of the ramp by itself, and tells KV of every step, the end last', async () => {
  const made = await send('POST', 'experiments', {
    name: NAME,
    variants: [
      { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
      { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
    ],
    ramp: { steps: [0.5, 1], hold_minutes: 0, min_units: 100 },
  });
  const { id, document } = ExperimentView.parse(made);
  const path = `experiments/${id}`;
  const read = async () => ExperimentView.parse(await send('GET', path));
  expect(await inKv(`experiment:${id}`)).toBeNull();
  await send('POST', `${path}/start`, {});
  expect((await read()).document).toMatchObject({ status: 'ramping', coverage: 0.5 });
  expect(await inKv(`experiment:${id}`)).toContain('"status":"ramping"');
  expect(await inKv(`name:${NAME}`)).toContain(id);

  const namespace = await graft.edge.miniflare.getDurableObjectNamespace('EXPERIMENTS');
  const tallies = createDoTallies({
    namespace: namespace as unknown as DurableNamespace,
    timeoutMs: WAIT_MS,
  });
  const events = document.variants.flatMap(({ key: variant }) =>
    Array.from({ length: UNITS }, (_, i): ExperimentEvent => ({
      experiment: id,
      seed: document.seed,
      variant,
      unit: `${variant}-${i}`,
      at: Date.now(),
      values: { thumbs: variant === 'control' ? i % 2 : 1, error_rate: 0, left_rate: 0, ttft_ms: 100 + i },
      shadow: false,
    })),
  );
  await tallies.add(id, { id: 'batch', at: Date.now(), events });
  await graft.edge.runSchedule();
  const ramped = await read();
  expect(ramped.document).toMatchObject({ status: 'running', coverage: 1, version: 3 });
  expect(ramped.evaluation).toMatchObject({ units: { control: UNITS, treatment: UNITS }, coverage: 0.5 });
  expect(await inKv(`experiment:${id}`)).toContain('"status":"running"');

  const looked = ExperimentView.parse(await send('POST', `${path}/evaluate`));
  expect(looked.evaluation?.decision).toEqual({ action: 'propose_winner', variant: 'treatment' });
  expect(ExperimentLooks.parse(await send('GET', `${path}/looks`)).looks).toHaveLength(2);
  await send('POST', `${path}/promote`, { why: 'better' });
  expect(await inKv(`name:${NAME}`)).not.toContain(id);
  expect(await inKv(`name:${NAME}`)).toContain('"version":2');
  expect(await inKv(`experiment:${id}`)).toContain('"status":"decided"');
  await send('POST', `${path}/archive`, {});
  const { changes } = (await send('GET', `history?name=${NAME}`)) as {
    changes: { action: string; actor: string }[];
  };
  expect(changes.reverse().map(({ action, actor }) => `${action} ${actor}`)).toEqual([
    'publish bootstrap',
    'stage bootstrap',
    'experiment_create bootstrap',
    'experiment_start bootstrap',
    'experiment_ramp schedule',
    'experiment_promote bootstrap',
    'experiment_archive bootstrap',
  ]);
});
