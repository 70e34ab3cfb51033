/** A shadow beside whole answers and streams in real workerd, compared with what the user got. */
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { ExperimentView } from '../../protocol/admin-api/experiments.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { chat, startTestEdge, type TestEdge } from './edge-harness.ts';

const NAME = 'support/intent';
let graft: TestEdge;
let key: string;
let id: string;
beforeAll(async () => {
  graft = await startTestEdge();
  for (const seed of [1, 2]) {
    const adapter = tinyAdapter({ seed });
    expect((await graft.publish({ name: NAME, adapter, owner: 'acme', stage: seed > 1 })).status).toBe(201);
  }
  key = await graft.makeKey({ tenant: 'acme' });
  const variants = [
    { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
    { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
  ];
  const shadow = { adapter: `${NAME}@2`, sample: 1, compare: true };
  // By its own seed, the experiment's id, one run in 128 would deal all eight users to one arm.
  ({ id } = await send('', { name: NAME, variants, shadow, seed: 'both-arms' }));
  expect((await send(`/${id}/start`)).document.shadow).toEqual(shadow);
});
afterAll(() => graft.stop());

const send = async (path: string, body: object = {}) => {
  const response = await graft.admin(`/admin/experiments${path}`, {
    method: 'POST',
    body: JSON.stringify(body),
  });
  return ExperimentView.parse(await response.json());
};
const completions = () => graft.origin.log.completions.length;
const shadowOf = async () => (await send(`/${id}/evaluate`)).evaluation?.shadow ?? {};
const post = (user: string, more: object, signal?: AbortSignal) =>
  graft.request('/v1/chat/completions', {
    ...{ method: 'POST', key, headers: { 'content-type': 'application/json' } },
    body: chat(NAME, { user, ...more }),
    ...(signal === undefined ? {} : { signal }),
  });
/** Until the shadow has been asked for, too: the next request finds at most this one running. */
const shadowed = (before: number) =>
  vi.waitFor(() => expect(completions()).toBe(before + 2), { interval: 5 });

async function ask(user: string, more: object): Promise<{ variant: string | null; text: string }> {
  const before = completions();
  const response = await post(user, more);
  const text = await response.text();
  expect(response.status, text).toBe(200);
  await shadowed(before);
  return { variant: response.headers.get('x-graft-variant'), text };
}

it('is compared with what the user got, which is as it would be without', async () => {
  // The fake origin says which adapter it was asked for, so that the treatment agrees with its own version.
  const told: (string | null)[] = [];
  for (let i = 0; i < 8; i += 1) {
    const stream = i % 2 === 0;
    const { variant, text } = await ask(`user-${i}`, { temperature: 0, stream });
    told.push(variant);
    if (stream) expect(text).toMatch(/^data: [^]*\n\ndata: \[DONE\]\n\n$/);
    expect(text).not.toContain('graft-usage');
  }
  expect(new Set(told)).toEqual(new Set(['control', 'treatment']));
  await ask('by chance', {});
  const seen = await vi.waitFor(
    async () => {
      const figures = await shadowOf();
      expect(figures['error_rate']?.n).toBe(9);
      return figures;
    },
    { interval: 250 },
  );
  const disagreed = told.filter((variant) => variant === 'control').length;
  expect(seen['error_rate']?.mean).toBe(0);
  expect(seen['disagreement']).toEqual({ n: 8, mean: disagreed / 8 });
});

it('holds no stream back, keeps none alive whose client leaves, and is not compared with it', async () => {
  const before = completions();
  const compared = (await shadowOf())['disagreement']?.n;
  const requests = (await shadowOf())['error_rate']?.n ?? 0;
  graft.origin.hold();
  const client = new AbortController();
  const response = await post('user-0', { temperature: 0, stream: true }, client.signal);
  const reader = response.body!.getReader();
  expect(new TextDecoder().decode((await reader.read()).value)).toMatch(/^data: /);
  await shadowed(before);
  const aborted = graft.origin.waitForAbort(NAME);
  client.abort();
  await aborted;
  graft.origin.release();
  await vi.waitFor(async () => expect((await shadowOf())['error_rate']?.n).toBe(requests + 1), {
    interval: 250,
  });
  expect(graft.origin.log.aborted).toEqual([NAME]);
  expect((await shadowOf())['disagreement']?.n).toBe(compared);
});
