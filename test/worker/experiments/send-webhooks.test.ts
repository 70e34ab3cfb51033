/** Webhooks of experiments, from a look to a receiver, on the fakes and in virtual time. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { ExperimentView } from '../../../protocol/admin-api/experiments.ts';
import { WEBHOOK_TRIES } from '../../../worker/webhooks/limits.ts';
import type { ExperimentEvent } from '../../../worker/experiments/ports.ts';
import { StoreUnavailable } from '../../../worker/platform/ports.ts';
import { expectedSignature } from '../../fakes/standard-webhooks.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';

const NAME = 'support/intent';
const MINUTE = 60_000;
const HOOK = 'https://hooks.example.com/graft';
let graft: AppHarness;

interface Got {
  url: string;
  headers: Headers;
  body: string;
}
let got: Got[];
const schedule = () => graft.schedule(() => undefined);
const post = async (path: string, body: object, method = 'POST') => {
  const response = await graft.request(`/admin/experiments${path}`, { body, method });
  return { status: response.status, view: (await response.json()) as ExperimentView };
};
const variants = [
  { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
  { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
];
async function live(more: object = {}) {
  const { view } = await post('', { name: NAME, variants, guardrails: [], webhook: HOOK, ...more });
  await post(`/${view.id}/start`, {});
  return view;
}
/** The treatment is liked by so many of ten, any other by half. */
async function count({ id, document }: ExperimentView, tenths: number, units = 150) {
  const events = document.variants.flatMap(({ key: variant }) =>
    Array.from({ length: units }, (_, i): ExperimentEvent => ({
      ...{ experiment: id, seed: document.seed, variant, unit: `${variant}${i}`, at: 1, shadow: false },
      values: { thumbs: i % 10 < (variant === 'treatment' ? tenths : 5) ? 1 : 0 },
    })),
  );
  await graft.services.tallies.add(id, { id: `b${tenths}`, at: 1, events });
}
const receive = (status: number | null) => {
  graft.application.answer = async (url, init) => {
    got.push({ url, headers: new Headers(init.headers), body: String(init.body) });
    if (status === null) throw new TypeError('connection refused');
    return new Response('whatever', { status });
  };
};

beforeEach(async () => {
  for (const method of ['log', 'error', 'warn'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
  got = [];
  graft = await createAppHarness();
  receive(200);
  for (let seed = 1; seed <= 2; seed += 1)
    expect((await graft.publish(NAME, tinyAdapter({ seed }), { stage: seed > 1 })).status).toBe(201);
});
afterEach(() => vi.restoreAllMocks());

const typesOf = () => got.map(({ body }) => (JSON.parse(body) as { type: string }).type);

describe('a webhook', () => {
  it('is told of a proposal once, signed with a secret that was shown once', async () => {
    const view = await live();
    expect(view.webhook_secret).toMatch(/^whsec_/);
    const read = await graft.request(`/admin/experiments/${view.id}`);
    expect(await read.json()).not.toHaveProperty('webhook_secret');
    await count(view, 9);
    await schedule();
    graft.clock.advance(MINUTE);
    await schedule();
    expect(got).toHaveLength(1);
    const { url, headers, body } = got[0]!;
    expect(url).toBe(HOOK);
    expect(JSON.parse(body)).toMatchObject({
      type: 'experiment.proposed',
      data: {
        ...{ experiment: view.id, name: NAME, variant: 'treatment' },
        units: { control: 150, treatment: 150 },
      },
    });
    expect(headers.get('webhook-signature')).toBe(expectedSignature(headers, body, view.webhook_secret!));
  });

  it('is told of a rollback, and of an alarm', async () => {
    const view = await live();
    await count(view, 1);
    await schedule();
    expect(typesOf()).toEqual(['experiment.rolled_back']);
    expect(JSON.parse(got[0]!.body)).toMatchObject({
      data: { variant: 'treatment', reason: 'worse', metric: 'thumbs' },
    });
    await post(`/${view.id}/archive`, {});
    await live();
    graft.clock.advance(61 * MINUTE);
    await schedule();
    graft.clock.advance(MINUTE);
    await schedule();
    expect(typesOf()).toEqual(['experiment.rolled_back', 'experiment.alarm']);
    expect(JSON.parse(got[1]!.body)).toMatchObject({ data: { reason: 'no_traffic' } });
  });

  it.each([[500], [404], [302], [null]])(
    'is tried again, later and later, when it says %s',
    async (status) => {
      receive(status);
      const view = await live();
      await count(view, 9);
      await schedule();
      const ids = () => new Set(got.map(({ headers }) => headers.get('webhook-id')));
      for (let tries = 1; tries < WEBHOOK_TRIES; tries += 1) {
        expect(got).toHaveLength(tries);
        const pause = MINUTE * 2 ** (tries - 1);
        graft.clock.advance(pause - 30_000);
        await schedule();
        expect(got).toHaveLength(tries);
        graft.clock.advance(45_000);
        await schedule();
      }
      expect(got).toHaveLength(WEBHOOK_TRIES);
      expect(ids().size).toBe(1);
      graft.clock.advance(MINUTE * 2 ** WEBHOOK_TRIES);
      await schedule();
      expect(got).toHaveLength(WEBHOOK_TRIES);
    },
  );

  it.each([
    ['experiment.dropped', [...variants, { key: 'other', adapter: `${NAME}@3`, weight: 0.2 }]],
    ['experiment.rolled_back', variants],
  ])('is told of what happened, though KV was not told of it at once: %s', async (type, arms) => {
    await graft.publish(NAME, tinyAdapter({ seed: 3 }), { stage: true });
    const weight = 1 / arms.length;
    const view = await live({ variants: arms.map((arm) => ({ ...arm, weight })) });
    await count(view, 1);
    const { pointers } = graft.services;
    vi.spyOn(pointers, 'sync').mockRejectedValueOnce(new StoreUnavailable('KV', new Error('away')));
    await schedule();
    for (let minutes = 0; minutes < 3; minutes += 1) {
      graft.clock.advance(MINUTE);
      await schedule();
    }
    expect(typesOf()).toEqual([type]);
  });

  it('is not told what did not happen, because somebody changed the experiment meanwhile', async () => {
    const view = await live();
    await count(view, 1);
    const { experimentLedger } = graft.services;
    const look = experimentLedger.look.bind(experimentLedger);
    vi.spyOn(experimentLedger, 'look').mockImplementationOnce(async (params) => {
      await post(`/${view.id}/kill`, { killed: true });
      await look(params);
    });
    await schedule();
    expect(got).toEqual([]);
  });

  it('is refused when it leads anywhere but to a public host by https', async () => {
    for (const webhook of [
      'http://example.com/',
      'https://10.0.0.1/',
      'http://127.0.0.1:1/',
      'https://x.local/',
    ]) {
      const made = await post('', { name: NAME, variants, webhook });
      expect(made, webhook).toMatchObject({ status: 400, view: { error: { param: 'webhook' } } });
    }
    const view = await live();
    const { document } = view;
    const change = (webhook: string) =>
      post(`/${view.id}`, { document: { ...document, status: 'running', version: 3, webhook } }, 'PUT');
    expect(await change('https://169.254.169.254/')).toMatchObject({ status: 400 });
    const changed = await change('https://other.example.com/');
    expect(changed.view.webhook_secret).not.toBe(view.webhook_secret);
    expect((await change(HOOK)).status).toBe(409);
  });

  it('that leads to loopback, written down by an edge that allowed it, is not called by one that does not', async () => {
    const local = await createAppHarness({ loopbackCallbacks: true });
    for (let seed = 1; seed <= 2; seed += 1)
      await local.publish(NAME, tinyAdapter({ seed }), { stage: seed > 1 });
    await local.services.outbox.add(
      { id: 'm', source: 'exp_1', url: 'http://127.0.0.1:9/', body: '{}' },
      local.clock.now(),
    );
    graft = await createAppHarness({ beside: local });
    receive(200);
    await schedule();
    expect(got).toEqual([]);
  });
});

describe('a receiver on this machine', () => {
  let server: Server;
  afterEach(() => new Promise((resolve) => server.close(resolve)));

  it('gets the bytes that were signed', async () => {
    const bodies: { body: string; signature: unknown }[] = [];
    server = createServer((request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (text: string) => (body += text));
      request.on('end', () => {
        bodies.push({ body, signature: request.headers['webhook-signature'] });
        response.writeHead(200).end('ok');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    graft = await createAppHarness({ loopbackCallbacks: true });
    graft.application.answer = (url, init) => fetch(url, init);
    for (let seed = 1; seed <= 2; seed += 1)
      await graft.publish(NAME, tinyAdapter({ seed }), { stage: seed > 1 });
    const view = await live({ webhook: `http://127.0.0.1:${port}/hook` });
    await count(view, 9);
    await schedule();
    expect(bodies).toHaveLength(1);
    expect(bodies[0]!.signature).toMatch(/^v1,/);
    expect(JSON.parse(bodies[0]!.body)).toMatchObject({ type: 'experiment.proposed' });
  });
});
