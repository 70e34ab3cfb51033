/** Drops, judged pairs and shadows of a second base's names: each is asked of that base's pool, and of no other. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { ExperimentView } from '../../protocol/admin-api/experiments.ts';
import { OriginRequest, USAGE_HEADER } from '../../protocol/origin-wire.ts';
import { TINY_BASE, tinyAdapter } from '../fakes/tiny-adapters.ts';
import { DROP_TENANT, dropHarnessOf, type DropHarness } from './kv-inbox/drop-harness.ts';
import { LATER_MS, makeKey } from './experiments/experiment-rig.ts';
import { createTwoPools, LARGE_BASE, type TwoPools } from './two-pools.ts';

const large = (seed: number) => tinyAdapter({ seed, base: LARGE_BASE.id });

let pools: TwoPools;
/** First letters of the origins that were asked for this, in order: `t` or `l`. */
const askedFor = (end: string) =>
  pools.asked.filter((line) => line.endsWith(end)).map((line) => line.charAt(0));

beforeEach(() => {
  vi.spyOn(console, 'error').mockImplementation(() => undefined);
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
});

describe('a dropped file for the second base', () => {
  let graft: DropHarness;
  let key: string;
  beforeEach(async () => {
    pools = await createTwoPools({ dropTenant: DROP_TENANT });
    graft = dropHarnessOf(pools.graft);
    key = await graft.makeKey(DROP_TENANT);
  });
  const served = async (model: string) => {
    const { status, headers } = await graft.chat(model, key);
    return [status, headers.get('x-graft-adapter'), headers.get('x-graft-base')];
  };

  it('is tried and served by that base’s origins, beside one for the first', async () => {
    await graft.drop('letters', large(2));
    await graft.drop('notes', tinyAdapter({ seed: 1 }));
    // What was taken in is removed by the pass behind.
    await graft.pass();
    await graft.pass();
    expect(await graft.lying()).toEqual([]);
    expect(askedFor('/verify').sort()).toEqual(['l', 't']);
    expect(await served('letters')).toEqual([200, 'letters@1', LARGE_BASE.id]);
    expect(await served('notes')).toEqual([200, 'notes@1', TINY_BASE.id]);
    expect(askedFor('POST /v1/chat/completions')).toEqual(['l', 't']);
  });

  it('is taken in by the first request for its name', async () => {
    await graft.drop('letters', large(2));
    expect(await served('letters')).toEqual([200, 'letters@1', LARGE_BASE.id]);
    expect([askedFor('/verify'), askedFor('POST /v1/chat/completions')]).toEqual([['l'], ['l']]);
  });

  it('waits while none of them answers, which holds up no other', async () => {
    pools.gone.add('l1').add('l2');
    await graft.drop('letters', large(2));
    await graft.drop('notes', tinyAdapter({ seed: 1 }));
    await graft.pass();
    await graft.pass();
    expect(await graft.versions('letters')).toEqual([]);
    expect(await graft.lying()).toEqual(['letters']);
    expect(await served('notes')).toEqual([200, 'notes@1', TINY_BASE.id]);
    pools.gone.clear();
    await graft.pass();
    expect(await served('letters')).toEqual([200, 'letters@1', LARGE_BASE.id]);
  });

  it('is refused where nobody serves its base, with those that are there', async () => {
    await graft.drop('other', tinyAdapter({ seed: 3, base: 'elsewhere-7b' }));
    await graft.pass();
    expect(graft.errorOf('other')).toMatchObject({ code: 'adapter_invalid' });
    expect(graft.errorOf('other')?.message).toContain(`${TINY_BASE.id}, ${LARGE_BASE.id}`);
  });
});

describe('an experiment on the second base', () => {
  const NAME = 'support/letters';
  const said = new Map<string, string>();
  /** What was asked, in order: pool, and which version or that it was a question to a judge. */
  let runs: string[];
  let key: string;
  let owner: string;

  beforeEach(async () => {
    pools = await createTwoPools();
    const { graft } = pools;
    const adapters = [large(1), large(2)];
    for (const [i, adapter] of adapters.entries()) {
      const more = { owner: 'acme', ...(i === 0 ? {} : { stage: true }) };
      expect((await graft.publish(NAME, adapter, more)).status).toBe(201);
      graft.clock.advance(LATER_MS);
    }
    said.set('1', 'one').set('2', 'two').set('judge', 'A');
    runs = [];
    const recorded = graft.origin.answer;
    graft.origin.answer = async (method, path, init, url = '') => {
      const response = await recorded(method, path, init, url);
      if (!path.startsWith('/v1/') || response.status !== 200) return response;
      const { chain } = OriginRequest.parse(JSON.parse(init.body as string)).graft;
      const at = adapters.findIndex(({ digest }) => digest === chain.at(-1)?.digest);
      const who = at < 0 ? 'judge' : String(at + 1);
      runs.push(`${new URL(url).hostname.charAt(0)} ${who}`);
      const message = { role: 'assistant', content: said.get(who) };
      return Response.json(
        { choices: [{ index: 0, message, finish_reason: 'stop' }] },
        { headers: { [USAGE_HEADER]: 'prompt=10,completion=5,finish=stop' } },
      );
    };
    ({ key } = await makeKey(graft, { tenant: 'acme' }));
    owner = (await makeKey(graft, { kind: 'admin', tenant: 'acme' })).key;
  });

  const send = async (path: string, body: object = {}) => {
    const response = await pools.graft.request(`/admin/experiments${path}`, { key: owner, body });
    const view: unknown = await response.json();
    expect([200, 201], JSON.stringify(view)).toContain(response.status);
    return ExperimentView.parse(view);
  };
  const start = async (design: object) => {
    const variants = [
      { key: 'control', adapter: `${NAME}@1`, weight: 0.5 },
      { key: 'treatment', adapter: `${NAME}@2`, weight: 0.5 },
    ];
    const { id } = await send('', { name: NAME, variants, coverage: 0, ...design });
    await send(`/${id}/start`);
    pools.graft.clock.advance(LATER_MS);
    return id;
  };
  const ask = async () => {
    const body = { model: NAME, messages: [{ role: 'user', content: 'Where is it?' }] };
    const response = await pools.graft.request('/v1/chat/completions', { key, body });
    expect([response.status, response.headers.get('x-graft-base')]).toEqual([200, LARGE_BASE.id]);
    await response.text();
    await pools.graft.settled();
  };

  it('has its shadow asked of its own pool, and what differs counted', async () => {
    const id = await start({ shadow: { adapter: `${NAME}@2`, sample: 1, compare: true } });
    await ask();
    expect(runs).toEqual(['l 1', 'l 2']);
    const { evaluation } = await send(`/${id}/evaluate`);
    expect(evaluation?.shadow).toMatchObject({
      error_rate: { n: 1, mean: 0 },
      output_tokens: { n: 1, mean: 5 },
    });
  });

  it('has its pairs judged by the default base, which is the other pool’s', async () => {
    const judged = { judge: { model: 'base' }, shadow: { adapter: `${NAME}@2`, sample: 1 } };
    const id = await start(judged);
    await ask();
    expect(runs).toEqual(['l 1', 'l 2', 't judge', 't judge']);
    const { evaluation } = await send(`/${id}/evaluate`);
    expect(evaluation?.pairs).toMatchObject({ ties: 1, first_chosen: 1, failures: {} });
  });

  it('has its pairs judged by a name on its own base, and goes on while the other pool is gone', async () => {
    const critic = await pools.graft.publish('critic', large(3), { owner: 'acme' });
    expect(critic.status).toBe(201);
    pools.graft.clock.advance(LATER_MS);
    pools.gone.add('t1');
    const judged = { judge: { model: 'critic@1' }, shadow: { adapter: `${NAME}@2`, sample: 1 } };
    const id = await start(judged);
    await ask();
    expect(runs).toEqual(['l 1', 'l 2', 'l judge', 'l judge']);
    expect((await send(`/${id}/evaluate`)).evaluation?.pairs).toMatchObject({ ties: 1, failures: {} });
  });

  it('says that the judge did not answer while its pool is gone; the user has the answer', async () => {
    const judged = { judge: { model: 'base' }, shadow: { adapter: `${NAME}@2`, sample: 1 } };
    const id = await start(judged);
    pools.gone.add('t1');
    await ask();
    expect(runs).toEqual(['l 1', 'l 2']);
    const { evaluation } = await send(`/${id}/evaluate`);
    expect(evaluation?.pairs).toMatchObject({ wins: 0, losses: 0, ties: 0 });
    expect(Object.keys(evaluation?.pairs?.failures ?? {})).toHaveLength(1);
  });
});
