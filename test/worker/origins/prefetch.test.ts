/**
 * Loading versions into the origins' memory before they are requested, with the edge's app and whole origins.
 */
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { WarmAnswer } from '../../../protocol/admin-api/origins.ts';
import { tinyAdapter, type TinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createEdgeAndOrigin, type EdgeAndOrigin } from '../edge-and-origin.ts';

const [first, second] = [1, 2].map((seed) => tinyAdapter({ seed })) as [TinyAdapter, TinyAdapter];
const IDS = ['o1', 'o2'];

let rig: EdgeAndOrigin;
beforeEach(async () => {
  rig = await createEdgeAndOrigin({ ids: IDS });
});
afterEach(() => rig.stop());

const post = (path: string, body: object, key?: string) =>
  rig.edge.request(path, { body, ...(key === undefined ? {} : { key }) });
const ready = (id: string) =>
  rig.origins
    .get(id)!
    .engine.residents()
    .adapters.flatMap((one) => (one.state === 'ready' ? one.digest : []));
const holders = ({ digest }: TinyAdapter) => IDS.filter((id) => ready(id).includes(digest));
/** The origin that gets requests for `notes`. */
const home = async () => {
  expect(await rig.ask('notes')).toBe(200);
  return rig.sent.at(-1)!.slice(0, 2);
};
/** Like an eviction and a new disk. */
const restart = async () => {
  await rig.stop();
  const { edge } = rig;
  rig = await createEdgeAndOrigin({ ids: IDS, edge: { beside: edge } });
};
/** Neither a refusal nor a part: the request found everything it needed. */
const asksAndIsAnsweredAtOnce = async () => {
  const before = rig.sent.length;
  expect(await rig.ask('notes')).toBe(200);
  const asked = rig.sent.slice(before).filter((line) => !line.includes(' GET /base '));
  expect(asked).toEqual([expect.stringMatching(/^o\d POST \/v1\/chat\/completions 200$/)]);
};

describe('a version that goes live', () => {
  it.each([
    ['promote', (name: string) => ({ name, version: 2 })],
    ['rollback', (name: string) => ({ name, to: 1 })],
  ])('by %s is loaded where the one before is in memory, and nowhere else', async (how, body) => {
    await rig.edge.publish('notes', first);
    await rig.edge.publish('notes', second, { stage: true });
    if (how === 'rollback') await post('/admin/promote', { name: 'notes' });
    await restart();
    const at = await home();
    expect([ready('o1'), ready('o2')].flat()).toHaveLength(1);
    expect((await post(`/admin/${how}`, body('notes'))).status).toBe(200);
    await rig.edge.settled();
    expect(holders(how === 'promote' ? second : first)).toEqual([at]);
    rig.edge.clock.advance(1_001);
    await asksAndIsAnsweredAtOnce();
  });

  it('by a publication that needs no trial is loaded there as well', async () => {
    await rig.edge.publish('other', second);
    await rig.edge.publish('notes', first);
    await restart();
    const at = await home();
    expect((await rig.edge.publish('notes', second)).status).toBe(201);
    await rig.edge.settled();
    expect(rig.sent.filter((line) => line.includes('/verify'))).toEqual([]);
    expect(holders(second)).toEqual([at]);
    rig.edge.clock.advance(1_001);
    await asksAndIsAnsweredAtOnce();
  });

  it('is loaded nowhere if nobody requested the previous one', async () => {
    await rig.edge.publish('notes', first);
    await rig.edge.publish('notes', second, { stage: true });
    await restart();
    expect((await post('/admin/promote', { name: 'notes' })).status).toBe(200);
    await rig.edge.settled();
    expect([ready('o1'), ready('o2')]).toEqual([[], []]);
    expect(rig.sent.filter((line) => line.includes('/parts/'))).toEqual([]);
  });

  it('goes live even if no origin responds', async () => {
    await rig.edge.publish('notes', first);
    await rig.edge.publish('notes', second, { stage: true });
    rig.edge.origin.answer = async () => {
      throw new Error('connection refused');
    };
    const promoted = await post('/admin/promote', { name: 'notes' });
    expect(await promoted.json()).toEqual({ name: 'notes', version: 2, from: 1 });
    await rig.edge.settled();
  });

  it('asks no origin in a dry run', async () => {
    await rig.edge.publish('notes', first);
    await rig.edge.publish('notes', second, { stage: true });
    const before = rig.sent.length;
    await post('/admin/promote', { name: 'notes', dry_run: true });
    await rig.edge.settled();
    expect(rig.sent.slice(before)).toEqual([]);
  });
});

describe('POST /admin/warm', () => {
  it('copies missing files and loads the version where it will be requested', async () => {
    await rig.edge.publish('notes', first);
    await restart();
    const warm = (await (await post('/admin/warm', { name: 'notes' })).json()) as WarmAnswer;
    expect(warm).toMatchObject({
      name: 'notes',
      version: 1,
      origins: [{ ok: true, reason: null, brought: [{ digest: first.digest, bytes: first.bytes.length }] }],
    });
    expect(holders(first)).toEqual([warm.origins[0]?.id]);
    await asksAndIsAnsweredAtOnce();
    const again = (await (await post('/admin/warm', { name: 'notes' })).json()) as WarmAnswer;
    expect(again.origins).toMatchObject([{ ok: true, brought: [] }]);
  });

  it('asks the next origin if the first fails, and says so', async () => {
    await rig.edge.publish('notes', first);
    await restart();
    const { answer } = rig.edge.origin;
    let lost = '';
    rig.edge.origin.answer = (method, path, init, url = '') => {
      const { hostname } = new URL(url);
      if (lost === '' && path === '/adapters/prefetch') lost = hostname;
      if (lost === hostname) throw new Error('connection refused');
      return answer(method, path, init, url);
    };
    const { origins } = (await (await post('/admin/warm', { name: 'notes' })).json()) as WarmAnswer;
    expect(origins).toMatchObject([
      { ok: false, reason: expect.stringContaining('cannot be reached') },
      { ok: true },
    ]);
    expect(holders(first)).toEqual([origins[1]?.id]);
  });

  it('accepts a version by number, but none that is retired', async () => {
    await rig.edge.publish('notes', first);
    await rig.edge.publish('notes', second, { stage: true });
    await restart();
    expect((await post('/admin/warm', { name: 'notes', version: 2 })).status).toBe(200);
    expect(holders(second)).toHaveLength(1);
    expect((await post('/admin/warm', { name: 'notes', version: 3 })).status).toBe(404);
    await post('/admin/retire', { name: 'notes', version: 2 });
    expect((await post('/admin/warm', { name: 'notes', version: 2 })).status).toBe(409);
  });
});
