import { answerTextOf } from '../../../protocol/origin-wire.ts';
import { variantTag } from '../../../worker/experiments/answer-token.ts';
import { SHORT_MEMORY_MS } from '../../../worker/limits.ts';
import { beforeEach, describe, expect, it, vi, type MockInstance } from 'vitest';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import type { FakeTallies } from '../../fakes/fake-tallies.ts';
import { createAppHarness, type AppHarness } from '../app-harness.ts';
import {
  askAs,
  EXPERIMENT,
  labelsOf,
  LATER_MS,
  makeKey,
  NAME,
  startExperiment,
  versionOf,
  writeExperiment,
  type Asking,
} from './experiment-rig.ts';
import { experimentOf, variantsOf } from './sample-experiment.ts';

const SEED = 'support-intent-2';
const NOTE = { 'x-graft-usage': 'prompt=7,completion=5,finish=length' };
/** Of docs/internals/statistics.md: alice gets the treatment. */
const ALICE = 'alice';

let graft: AppHarness;
let key: string;
let keyId: string;
let said: MockInstance;

const ask = (asking: Partial<Asking> = {}) => askAs(graft, { key, user: ALICE, ...asking });
const snapshot = async (seed = SEED) => {
  await graft.settled();
  return graft.services.tallies.snapshot(EXPERIMENT, seed);
};
const events = () =>
  said.mock.calls.flatMap(([line]) => {
    const { event } = JSON.parse(String(line)) as { event?: string };
    return event === undefined ? [] : [event];
  });
/** Fails for every chain that ends in this adapter. */
async function breakAdapter(version: number): Promise<void> {
  const { digest } = await versionOf(graft, version);
  const { answer } = graft.origin;
  graft.origin.answer = (method, path, init, url) => {
    if (!path.startsWith('/v1/')) return answer(method, path, init, url);
    const { graft: asked } = JSON.parse(init.body as string) as { graft: { chain: { digest: string }[] } };
    if (asked.chain.at(-1)?.digest !== digest) return answer(method, path, init, url);
    return Response.json(
      { error: { code: 'adapter_unavailable', message: 'm', type: 'server_error', param: null } },
      { status: 503, headers: { 'retry-after-ms': '10' } },
    );
  };
}

beforeEach(async () => {
  said = vi.spyOn(console, 'error').mockImplementation(() => undefined);
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
  graft = await createAppHarness();
  const { answer } = graft.origin;
  graft.origin.answer = async (method, path, init, url) => {
    const response = await answer(method, path, init, url);
    return path.startsWith('/v1/') ? Response.json(await response.json(), { headers: NOTE }) : response;
  };
  ({ key, id: keyId } = await makeKey(graft, { tenant: 'acme' }));
  await startExperiment(graft);
});

describe('a request by a name that has an experiment', () => {
  it('gets its variant, and says so', async () => {
    const answer = await labelsOf(await ask());
    expect(answer).toMatchObject({
      ...{ status: 200, adapter: `${NAME}@4`, experiment: EXPERIMENT, variant: 'treatment', degraded: null },
    });
    const opened = await graft.services.answerTokens.open(answerTextOf(answer.id ?? '') ?? '', {
      tenant: 'acme',
      now: graft.clock.now(),
    });
    expect(opened).toMatchObject({
      ok: true,
      value: { experiment: EXPERIMENT, version: 1, variantTag: variantTag('treatment') },
    });
  });

  it('costs one read more than without, and the database none', async () => {
    await ask();
    graft.clock.advance(SHORT_MEMORY_MS);
    graft.kv.reads = 0;
    await ask();
    expect(graft.kv.reads).toBe(3);
    await graft.publish('plain', tinyAdapter({ seed: 9 }), { owner: 'acme' });
    graft.clock.advance(LATER_MS);
    await ask({ model: 'plain' });
    graft.clock.advance(SHORT_MEMORY_MS);
    graft.kv.reads = 0;
    await ask({ model: 'plain' });
    expect(graft.kv.reads).toBe(2);
  });

  it('records what the answer was like when it has ended', async () => {
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init, url) => {
      if (path.startsWith('/v1/')) graft.clock.advance(120);
      return answer(method, path, init, url);
    };
    await ask();
    await ask();
    const { units, metrics } = await snapshot();
    expect(units).toEqual({ treatment: 1 });
    expect(
      Object.fromEntries(Object.entries(metrics).map(([metric, of]) => [metric, of['treatment']?.sum])),
    ).toEqual({
      ...{
        ttft_ms: 120,
        latency_ms: 120,
        output_tokens: 5,
        error_rate: 0,
        left_rate: 0,
        length_rate: 1,
        cost: 12,
      },
    });
  });

  it('stays on its side through alias, a name below, strictness and a new key', async () => {
    const alias = await graft.request('/admin/alias', {
      body: { name: 'helpdesk', target: NAME },
    });
    expect(alias.status).toBe(200);
    graft.clock.advance(LATER_MS);
    const rotated = await graft.request('/admin/keys/rotate', { body: { id: keyId, grace: 3_600_000 } });
    expect(rotated.status).toBe(201);
    const { key: next } = (await rotated.json()) as { key: string };
    graft.clock.advance(LATER_MS);
    for (const user of [ALICE, 'bob', 'zoë', null]) {
      const { variant, id } = await labelsOf(await ask({ user }));
      expect(id).not.toBeNull();
      for (const other of [
        { model: 'helpdesk' },
        { model: `${NAME}/deeper/still` },
        { more: { strict: true } },
        { key: next },
      ])
        expect(await labelsOf(await ask({ user, ...other }))).toMatchObject({ variant });
    }
    const units = Object.values((await snapshot()).units).reduce((sum, n) => sum + n, 0);
    expect(units).toBe(4);
  });

  it('takes the end user from where the request names one, in this order', async () => {
    const unitsSeen = async () => {
      const { units } = await snapshot();
      return Object.values(units).reduce((sum, n) => sum + n, 0);
    };
    await ask({ user: null, headers: { 'x-graft-user': 'one' } });
    await ask({ user: 'one' });
    await ask({ user: 'one', headers: { 'x-graft-user': 'two' } });
    await ask({ user: 'two', more: { safety_identifier: 'one' } });
    expect(await unitsSeen()).toBe(1);
    await ask({ user: null });
    expect(await unitsSeen()).toBe(2);
  });

  it('deals about half and half, the same whoever asks again', async () => {
    const seen = new Map<string, string | null>();
    for (let turn = 0; turn < 2; turn += 1)
      for (let i = 0; i < 200; i += 1) {
        const { variant } = await labelsOf(await ask({ user: `user-${i}` }));
        expect(seen.get(`user-${i}`) ?? variant).toBe(variant);
        seen.set(`user-${i}`, variant);
      }
    const { units } = await snapshot();
    expect((units['control'] ?? 0) + (units['treatment'] ?? 0)).toBe(200);
    expect(units['control']).toBeGreaterThan(70);
    expect(units['control']).toBeLessThan(130);
  });

  it.each<[string, Partial<Asking>, string]>([
    ['a pin', { model: `${NAME}@6` }, `${NAME}@6`],
    ['a pin below', { model: `${NAME}@3` }, `${NAME}@3`],
    ['a mixture', { more: { adapters: [{ name: `${NAME}@1` }] } }, `${NAME}@6`],
    ['the base', { model: 'base' }, 'base'],
    ['the base with adapters', { model: 'base', more: { adapters: [{ name: NAME }] } }, 'base'],
  ])('is not: %s', async (_what, asking, adapter) => {
    expect(await labelsOf(await ask(asking))).toMatchObject({
      ...{ status: 200, adapter, experiment: null, variant: null, id: null },
    });
    expect((await snapshot()).units).toEqual({});
  });

  it('is no request for vectors: those of two versions cannot be compared', async () => {
    for (const user of [ALICE, 'bob', 'carol', 'dave']) {
      const body = { model: NAME, input: 'hi', user };
      const answer = await labelsOf(await graft.request('/v1/embeddings', { key, body }));
      expect(answer).toMatchObject({ status: 200, adapter: `${NAME}@6`, experiment: null, id: null });
    }
    expect((await snapshot()).units).toEqual({});
  });

  it('gets the live version when nobody is dealt a variant', async () => {
    const experiment = await graft.services.experimentIndex.get(EXPERIMENT);
    if (experiment.state !== 'found') throw new Error(experiment.state);
    for (const change of [{ killed: true }, { status: 'decided' }, { coverage: 0 }]) {
      await writeExperiment(graft, { ...experiment.value, document: experimentOf(change) });
      expect(await labelsOf(await ask())).toMatchObject({ adapter: `${NAME}@6`, experiment: null });
    }
    expect((await snapshot()).units).toEqual({});
  });

  it('gives a tester the variant, counts nothing and takes no feedback', async () => {
    const tester = { unit: `acme/user/${ALICE}`, variant: 'control' };
    await startAgain({ overrides: [tester], coverage: 0 });
    expect(await labelsOf(await ask())).toMatchObject({
      ...{ adapter: `${NAME}@3`, variant: 'control', id: null },
    });
    expect((await snapshot()).units).toEqual({});
  });

  it('may be chosen by what it says, but never by its credentials', async () => {
    const header = (name: string, value: string) => ({ targeting: { headers: [{ name, values: [value] }] } });
    await startAgain(header('x-app-version', '2'));
    expect(await labelsOf(await ask())).toMatchObject({ experiment: null });
    const headers = { 'x-app-version': '2' };
    expect(await labelsOf(await ask({ headers }))).toMatchObject({ variant: 'treatment' });
    await startAgain(header('authorization', `Bearer ${key}`));
    expect(await labelsOf(await ask())).toMatchObject({ experiment: null });
  });

  it('that may not use every variant gets the live version, and is not counted', async () => {
    const foreign = await graft.publish('other', tinyAdapter({ seed: 30 }), { owner: 'other' });
    expect(foreign.status).toBe(201);
    const row = await graft.services.registry.version('other', 1);
    const manifest = { ...(await versionOf(graft, 4)), owner: 'other', name: 'other' };
    expect(row).not.toBeNull();
    const other = {
      ...manifest,
      chain: manifest.chain.map((one) => ({ ...one, name: 'other', owner: 'other' })),
    };
    await startAgain({}, { control: await versionOf(graft, 3), treatment: other });
    for (const user of [ALICE, 'bob', 'carol', 'dave'])
      expect(await labelsOf(await ask({ user }))).toMatchObject({ adapter: `${NAME}@6`, experiment: null });
    expect((await snapshot()).units).toEqual({});
    const { key: allowed } = await makeKey(graft, { tenant: 'acme', scopes: ['other/**'] });
    graft.clock.advance(LATER_MS);
    expect(await labelsOf(await ask({ key: allowed }))).toMatchObject({ adapter: 'other@4' });
  });

  it('has more variants than two', async () => {
    const adapters = {
      a: await versionOf(graft, 1),
      b: await versionOf(graft, 2),
      c: await versionOf(graft, 3),
    };
    await startAgain({ variants: variantsOf([0.25, 0.25, 0.5]) }, adapters);
    const seen = new Set<string | null>();
    for (let i = 0; i < 30; i += 1) seen.add((await labelsOf(await ask({ user: `u${i}` }))).variant);
    expect([...seen].sort()).toEqual(['a', 'b', 'c']);
  });
});

async function startAgain(changes: Record<string, unknown>, adapters?: object): Promise<void> {
  const found = await graft.services.experimentIndex.get(EXPERIMENT);
  if (found.state !== 'found') throw new Error(found.state);
  const document = experimentOf(changes);
  await writeExperiment(graft, {
    ...found.value,
    document,
    ...(adapters === undefined ? {} : { adapters }),
  } as never);
}

describe('what goes wrong', () => {
  it.each(['throw', 'hang', 'null', 'garbage', 'foreign'] as const)(
    'with the experiment in KV (%s) leaves the live version',
    async (fault) => {
      graft.kv.faultOf = (at) => (at.startsWith('experiment:') ? fault : null);
      expect(await labelsOf(await ask())).toMatchObject({
        ...{ status: 200, adapter: `${NAME}@6`, experiment: null, degraded: null },
      });
      expect(events()).toContain('experiment_lookup_trouble');
    },
  );

  it('with what was known already leaves everybody on their side, labelled', async () => {
    await ask();
    graft.clock.advance(LATER_MS);
    graft.kv.faultOf = (at) => (at.startsWith('experiment:') ? 'throw' : null);
    expect(await labelsOf(await ask())).toMatchObject({ variant: 'treatment', degraded: 'stale' });
    const { key: careful } = await makeKey(graft, { tenant: 'acme', degrade: 'refuse' });
    graft.clock.advance(LATER_MS);
    expect(await labelsOf(await ask({ key: careful }))).toMatchObject({
      ...{ status: 200, adapter: `${NAME}@6`, experiment: null },
    });
  });

  it('with the tally disturbs nobody, and is made up for', async () => {
    const tallies = graft.services.tallies as FakeTallies;
    tallies.down = true;
    expect(await labelsOf(await ask())).toMatchObject({ status: 200, variant: 'treatment' });
    await graft.settled();
    expect(events()).toContain('exposures_not_written');
    tallies.down = false;
    await ask({ user: 'bob' });
    const { units } = await snapshot();
    expect(Object.values(units).reduce((sum, n) => sum + n, 0)).toBe(2);
  });

  it('with the variant counts against it, and what stands in gets no token', async () => {
    await breakAdapter(4);
    expect(await labelsOf(await ask())).toMatchObject({ status: 503, id: null });
    const { key: lenient } = await makeKey(graft, { tenant: 'acme', degrade: 'base' });
    graft.clock.advance(LATER_MS);
    expect(await labelsOf(await ask({ key: lenient, user: 'alice' }))).toEqual({
      ...{ status: 200, adapter: 'base', degraded: 'base' },
      ...{ experiment: EXPERIMENT, variant: 'treatment', id: null },
    });
    const { units, metrics } = await snapshot();
    expect(units).toEqual({ treatment: 1 });
    expect(metrics).toEqual({
      error_rate: { treatment: { n: 1, sum: 1, sumSquares: 1 } },
      left_rate: { treatment: { n: 1, sum: 0, sumSquares: 0 } },
    });
  });

  it('with the request itself says nothing of the variant', async () => {
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init, url) =>
      path.startsWith('/v1/')
        ? Response.json(
            { error: { code: 'context_length_exceeded', message: 'm', type: 't', param: null } },
            { status: 400 },
          )
        : answer(method, path, init, url);
    expect(await labelsOf(await ask())).toMatchObject({ status: 400, id: null });
    expect(await snapshot()).toMatchObject({ units: { treatment: 1 }, metrics: {} });
  });

  it('with a quota is not recorded', async () => {
    const { key: poor } = await makeKey(graft, { tenant: 'acme', limits: { requests_per_minute: 1 } });
    graft.clock.advance(LATER_MS);
    expect((await labelsOf(await ask({ key: poor, user: 'a' }))).status).toBe(200);
    expect((await labelsOf(await ask({ key: poor, user: 'b' }))).status).toBe(429);
    const { units } = await snapshot();
    expect(Object.values(units).reduce((sum, n) => sum + n, 0)).toBe(1);
  });
});

describe('a shadow', () => {
  const shadow = { shadow: { adapter: `${NAME}@5`, sample: 1 } };
  const ran = () => graft.asked.filter((one) => one.startsWith('POST /v1/')).length;

  it('runs beside the answer, counted apart, and used by nobody', async () => {
    await startAgain(shadow);
    graft.asked.length = 0;
    const { chainId: expected } = await versionOf(graft, 4);
    const answer = await ask();
    expect(answer.headers.get('x-graft-chain')).toBe(expected);
    await answer.arrayBuffer();
    await graft.settled();
    expect(ran()).toBe(2);
    const { units, shadow: seen } = await snapshot();
    expect(units).toEqual({ treatment: 1 });
    expect(seen['error_rate']).toEqual({ n: 1, sum: 0, sumSquares: 0 });
    expect(seen['output_tokens']).toMatchObject({ n: 1, sum: 5 });
    const hour = Math.floor(graft.clock.now() / 3_600_000);
    const used = await graft.services.usage.sum({
      ...{ by: 'version' as const, tenant: null, from: hour - 1, to: hour + 2, place: null },
    });
    expect(used.sums.map(({ group, requests }) => [group, requests])).toEqual([[`${NAME}@4`, 1]]);
  });

  it('is run for a share of the requests, also of those that coverage leaves out', async () => {
    await startAgain({ shadow: { adapter: `${NAME}@5`, sample: 0.25 }, coverage: 0 });
    graft.asked.length = 0;
    for (let i = 0; i < 200; i += 1) {
      await labelsOf(await ask({ user: 'same' }));
      await graft.settled();
    }
    const shadows = ran() - 200;
    expect(shadows).toBeGreaterThan(20);
    expect(shadows).toBeLessThan(90);
    const { units, shadow: seen } = await snapshot();
    expect(units).toEqual({});
    expect(seen['latency_ms']?.n).toBe(shadows);
  });

  it('is not chosen by the client, who may give all its requests one id', async () => {
    await startAgain({ shadow: { adapter: `${NAME}@5`, sample: 0.5 } });
    graft.asked.length = 0;
    for (let i = 0; i < 40; i += 1) {
      await labelsOf(await ask({ user: 'same', headers: { 'x-request-id': 'chosen' } }));
      await graft.settled();
    }
    expect(ran()).toBeGreaterThan(40);
    expect(ran()).toBeLessThan(80);
  });

  it('does not touch the answer when it fails, and is not run for a name that is not its own', async () => {
    await startAgain(shadow);
    await breakAdapter(5);
    expect(await labelsOf(await ask())).toMatchObject({ status: 200, adapter: `${NAME}@4` });
    const { units, shadow: seen } = await snapshot();
    expect(units).toEqual({ treatment: 1 });
    expect(seen).toEqual({ error_rate: { n: 1, sum: 1, sumSquares: 1 } });
    graft.asked.length = 0;
    await ask({ model: `${NAME}@3` });
    await graft.settled();
    expect(ran()).toBe(1);
  });

  describe('that is compared', () => {
    const compare = { shadow: { ...shadow.shadow, compare: true } };
    const greedy = { more: { temperature: 0 } };
    /** The origin says this, by the version whose weights are asked for; a stream where one is wanted. */
    async function saying(texts: Record<number, string>): Promise<void> {
      const byDigest = new Map<string, string>();
      for (const [version, text] of Object.entries(texts))
        byDigest.set((await versionOf(graft, Number(version))).digest, text);
      const { answer } = graft.origin;
      graft.origin.answer = (method, path, init, url) => {
        if (!path.startsWith('/v1/')) return answer(method, path, init, url);
        const { graft: asked, request } = JSON.parse(init.body as string) as {
          graft: { chain: { digest: string }[] };
          request: { stream?: boolean };
        };
        const content = byDigest.get(asked.chain.at(-1)?.digest ?? '') ?? '';
        if (request.stream !== true)
          return Response.json({ choices: [{ index: 0, message: { content } }] }, { headers: NOTE });
        const event = JSON.stringify({ choices: [{ index: 0, delta: { content } }] });
        return new Response(`data: ${event}\n\n: graft-usage ${NOTE['x-graft-usage']}\n\ndata: [DONE]\n\n`, {
          headers: { 'content-type': 'text/event-stream', 'x-graft-usage': 'prompt=7' },
        });
      };
    }
    const disagreements = async () => (await snapshot()).shadow['disagreement'];

    it('says whether it would have told the user the same', async () => {
      await startAgain(compare);
      await saying({ 4: 'refund', 5: ' refund\n' });
      const answer = await ask(greedy);
      expect(await answer.json()).toEqual({ choices: [{ index: 0, message: { content: 'refund' } }] });
      expect(await disagreements()).toEqual({ n: 1, sum: 0, sumSquares: 0 });
      await saying({ 4: 'refund', 5: 'cancel' });
      const streamed = await ask({ more: { temperature: 0, stream: true } });
      expect(await streamed.text()).toBe(
        'data: {"choices":[{"index":0,"delta":{"content":"refund"}}]}\n\ndata: [DONE]\n\n',
      );
      expect(await disagreements()).toEqual({ n: 2, sum: 1, sumSquares: 1 });
      // Of both requests the shadow's other figures, and of none of its text anywhere.
      expect((await snapshot()).shadow['latency_ms']?.n).toBe(2);
      expect(JSON.stringify(said.mock.calls)).not.toMatch(/refund|cancel/);
    });

    it('is so only where chance has no part, and where it is asked for', async () => {
      await startAgain(compare);
      await saying({ 4: 'a', 5: 'b' });
      for (const more of [{}, { temperature: 0.7 }, { temperature: 1, seed: 7 }])
        await (await ask({ more })).arrayBuffer();
      expect(await disagreements()).toMatchObject({ n: 1, sum: 1 });
      await startAgain(shadow);
      await (await ask(greedy)).arrayBuffer();
      const { shadow: seen } = await snapshot();
      expect(seen['disagreement']?.n).toBe(1);
      expect(seen['latency_ms']?.n).toBe(4);
    });

    it('is so with what the user really got, not with what stood in', async () => {
      await startAgain(compare);
      await saying({ 4: 'a', 5: 'a' });
      await breakAdapter(4);
      const { key: lenient } = await makeKey(graft, { tenant: 'acme', degrade: 'base' });
      graft.clock.advance(LATER_MS);
      expect(await labelsOf(await ask({ key: lenient, ...greedy }))).toMatchObject({ adapter: 'base' });
      const { shadow: seen } = await snapshot();
      expect(seen['error_rate']).toMatchObject({ n: 1, sum: 0 });
      expect(seen['disagreement']).toBeUndefined();
    });

    it('is not so for a client that leaves, or whom the quota refuses', async () => {
      await startAgain(compare);
      await saying({ 4: 'a', 5: 'b' });
      const { answer } = graft.origin;
      let answers = 0;
      graft.origin.answer = async (method, path, init, url) => {
        const response = await answer(method, path, init, url);
        if (!path.startsWith('/v1/') || (answers += 1) > 1) return response;
        // The user's own, which is asked for first, is still under way when its client leaves.
        const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
        void response.body?.pipeTo(writable, { preventClose: true }).catch(() => undefined);
        return new Response(readable, response);
      };
      const left = await ask({ more: { temperature: 0, stream: true } });
      await left.body?.cancel();
      const { key: poor } = await makeKey(graft, { tenant: 'acme', limits: { requests_per_minute: 1 } });
      graft.clock.advance(LATER_MS);
      await (await ask({ key: poor, ...greedy })).arrayBuffer();
      expect((await ask({ key: poor, ...greedy })).status).toBe(429);
      const { shadow: seen } = await snapshot();
      expect(seen['disagreement']?.n).toBe(1);
    });
  });
});
