/** Files dropped into KV, taken in by the schedule: the real intake on the fakes. */
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { chainId } from '../../../protocol/identity.ts';
import { DROPS_PER_PASS } from '../../../worker/kv-inbox/limits.ts';
import { rotateByFamily } from '../../../worker/kv-inbox/take-drops.ts';
import { NO_CAPS } from '../../contracts/sample-rows.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { createDropHarness, DROP_TENANT, type DropHarness } from './drop-harness.ts';

const first = tinyAdapter({ seed: 1 });
const second = tinyAdapter({ seed: 2 });
const misfit = tinyAdapter({ seed: 3, shape: { in: 9, out: 6 } });
const onTopOf = async (parent: { digest: string }, seed = 5) =>
  tinyAdapter({ seed, parent: await chainId([{ digest: parent.digest, scale: 1 }]) });

let graft: DropHarness;
beforeEach(async () => {
  graft = await createDropHarness();
});

describe('a good file', () => {
  it('is published and says so in the history', async () => {
    await graft.drop('alice/support', first);
    expect(await graft.pass()).toEqual({ taken: 1, refused: 0, postponed: 0 });
    const { registry } = graft.services;
    expect(await registry.live('alice/support')).toMatchObject({
      version: 1,
      digest: first.digest,
      owner: DROP_TENANT,
      parent: null,
      createdBy: 'drop',
    });
    const [change] = await registry.history({ name: 'alice/support', owner: null, before: null, limit: 9 });
    expect(change).toMatchObject({ action: 'drop', actor: 'drop', to: 1 });
    expect(await graft.services.names.get('alice/support')).toMatchObject({
      state: 'found',
      value: { version: 1 },
    });
  });

  it('belongs to who owns the nearest name above', async () => {
    await graft.publish('clinic', first, { owner: 'clinic' });
    await graft.drop('clinic/ward/night', second);
    await graft.pass();
    expect(await graft.services.registry.live('clinic/ward/night')).toMatchObject({ owner: 'clinic' });
  });

  it('lies on top of the name above that it was trained on', async () => {
    await graft.drop('medicine/eyes', await onTopOf(first));
    await graft.drop('medicine', first);
    expect(await graft.pass()).toMatchObject({ taken: 2 });
    const row = await graft.services.registry.live('medicine/eyes');
    expect(row).toMatchObject({
      parent: 'medicine@1',
      chain: [{ digest: first.digest }, { name: 'medicine/eyes' }],
    });
  });

  it('is taken once, and removed when it has been seen to be the same still', async () => {
    await graft.drop('a', first);
    await graft.pass();
    expect(await graft.lying()).toEqual(['a']);
    for (let i = 0; i < 5; i += 1) {
      expect(await graft.pass()).toEqual({ taken: 0, refused: 0, postponed: 0 });
      expect(await graft.lying()).toEqual([]);
    }
    expect(await graft.versions('a')).toEqual([`1 ${first.digest}`]);
  });

  it('is the next version when it is another one, before and after the first was removed', async () => {
    await graft.drop('a', first);
    await graft.pass();
    await graft.drop('a', second);
    await graft.pass();
    await graft.pass();
    expect(await graft.lying()).toEqual([]);
    const third = tinyAdapter({ seed: 3 });
    await graft.drop('a', third);
    await graft.pass();
    expect(await graft.versions('a')).toEqual([
      `3 ${third.digest}`,
      `2 ${second.digest}`,
      `1 ${first.digest}`,
    ]);
  });

  it('that KV still shows elsewhere is not put over a later one', async () => {
    const { read } = graft.box;
    await graft.drop('a', first);
    await graft.pass();
    await graft.drop('a', second);
    await graft.pass();
    graft.box.read = async () => new Uint8Array(first.bytes);
    expect(await graft.pass()).toMatchObject({ taken: 0 });
    graft.box.read = read;
    expect(await graft.versions('a')).toHaveLength(2);
    expect(await graft.services.registry.live('a')).toMatchObject({ version: 2 });
  });

  it('that was taken long ago can be dropped again', async () => {
    await graft.drop('a', first);
    await graft.pass();
    await graft.drop('a', second);
    for (let i = 0; i < 5; i += 1) await graft.pass();
    await graft.drop('a', first);
    await graft.pass();
    expect(await graft.versions('a')).toEqual([
      `3 ${first.digest}`,
      `2 ${second.digest}`,
      `1 ${first.digest}`,
    ]);
  });

  it('may be one that another tenant has sent in other parts', async () => {
    const { bytes, digest } = first;
    const cut = 100;
    const parts = [];
    for (const [index, part] of [bytes.subarray(0, cut), bytes.subarray(cut)].entries()) {
      const sent = await graft.request(`/admin/blobs/${digest}/parts/${index}`, {
        method: 'PUT',
        body: new Uint8Array(part),
      });
      parts.push(await sent.json());
    }
    const record = {
      bytes: bytes.length,
      parts: parts.map((part) => {
        const { bytes: length, sha256 } = part as { bytes: number; sha256: string };
        return { bytes: length, sha256 };
      }),
    };
    expect((await graft.request(`/admin/blobs/${digest}`, { body: record })).status).toBe(201);
    await graft.drop('a', first);
    expect(await graft.pass()).toMatchObject({ taken: 1 });
    expect(await graft.services.blobLedger.holds(digest, DROP_TENANT)).toBe(true);
  });
});

describe('a bad file', () => {
  it.each([
    [
      'no adapter at all',
      '<html>',
      { code: 'adapter_invalid', message: expect.stringContaining('graft pack') },
    ],
    ['one of the wrong shape', misfit, { code: 'adapter_invalid', reason: 'shape_mismatch' }],
  ])('says why under drop-error and leaves the old version: %s', async (_, file, error) => {
    await graft.publish('a', first);
    await graft.drop('a', file);
    expect(await graft.pass()).toEqual({ taken: 0, refused: 1, postponed: 0 });
    expect(graft.errorOf('a')).toMatchObject({ ...error, retrying: false, at: expect.any(Number) });
    expect(await graft.versions('a')).toEqual([`1 ${first.digest}`]);
  });

  it('is looked at twice and then removed; the reason stays until a good one comes', async () => {
    await graft.drop('a', misfit);
    await graft.pass();
    expect(await graft.lying()).toEqual(['a']);
    expect(await graft.pass()).toMatchObject({ refused: 1 });
    expect(await graft.lying()).toEqual([]);
    expect(await graft.pass()).toEqual({ taken: 0, refused: 0, postponed: 0 });
    expect(graft.errorOf('a')).toMatchObject({ code: 'adapter_invalid' });
    await graft.drop('a', first);
    await graft.pass();
    expect(graft.errorOf('a')).toBeNull();
  });

  it('may be good when its parent has come meanwhile', async () => {
    await graft.drop('medicine/eyes', await onTopOf(first));
    await graft.pass();
    expect(graft.errorOf('medicine/eyes')).toMatchObject({ reason: 'parent_mismatch' });
    await graft.publish('medicine', first);
    await graft.pass();
    expect(graft.errorOf('medicine/eyes')).toBeNull();
    expect(await graft.versions('medicine/eyes')).toHaveLength(1);
  });

  it("cannot be laid on another's adapter without a grant", async () => {
    await graft.publish('lab', first, { owner: 'lab' });
    const grant = { tenant: 'guest', scope: 'lab/**', owner: 'lab', created_at: 0, created_by: 'x' };
    await graft.services.grantLedger.add(grant, NO_CAPS);
    // The bootstrap key may give a name below another's to somebody else.
    for (const [name, owner] of [
      ['lab/stranger', 'stranger'],
      ['lab/guest', 'guest'],
    ] as const)
      await graft.publish(name, second, { owner, stage: true });
    for (const name of ['lab/stranger', 'lab/guest']) await graft.drop(name, await onTopOf(first));
    expect(await graft.pass()).toEqual({ taken: 1, refused: 1, postponed: 0 });
    expect(graft.errorOf('lab/stranger')).toMatchObject({ code: 'model_not_found' });
    expect(await graft.versions('lab/guest')).toHaveLength(2);
  });

  it.each(['', 'Ä', 'a//b', 'admin/x', '../x', 'x'.repeat(65)])(
    'with an illegal name is removed and says why: "%s"',
    async (name) => {
      await graft.drop(name, first);
      await graft.drop('good', first);
      expect(await graft.pass()).toEqual({ taken: 1, refused: 1, postponed: 0 });
      expect(graft.errorOf(name)).toMatchObject({ code: 'adapter_invalid', reason: 'name_invalid' });
      expect(await graft.lying()).toEqual(['good']);
    },
  );
});

describe('what cannot be decided now', () => {
  it('stays, says so, and is taken when the origin is back', async () => {
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init) =>
      path === '/base' ? answer(method, path, init) : new Response(null, { status: 500 });
    await graft.drop('a', first);
    await graft.drop('a/b', await onTopOf(first));
    // What lies below waits without being tried: its parent may be about to come.
    expect(await graft.pass()).toEqual({ taken: 0, refused: 0, postponed: 1 });
    expect(graft.errorOf('a')).toMatchObject({ code: 'origin_unavailable', retrying: true });
    expect(graft.errorOf('a/b')).toBeNull();
    graft.origin.answer = answer;
    expect(await graft.pass()).toMatchObject({ taken: 2 });
    expect(graft.errorOf('a')).toBeNull();
  });

  it('does not keep others waiting when one file cannot be read', async () => {
    const { read } = graft.box;
    await graft.drop('a', first);
    await graft.drop('b', second);
    await graft.drop('c', tinyAdapter({ seed: 3 }));
    const broken = graft.kv.trouble;
    graft.box.read = async (name) => {
      graft.kv.trouble = name === 'b' ? 'throw' : broken;
      return read(name).finally(() => (graft.kv.trouble = broken));
    };
    expect(await graft.pass()).toEqual({ taken: 2, refused: 0, postponed: 1 });
    graft.box.read = read;
    expect(await graft.pass()).toMatchObject({ taken: 1 });
  });

  it('does not keep others waiting, however many such files there are', async () => {
    const many = 2 * DROPS_PER_PASS;
    for (let i = 0; i < many; i += 1) await graft.drop(`a${String(i).padStart(2, '0')}`, first);
    await graft.drop('b', second);
    await graft.drop('b/c', await onTopOf(second));
    const { read } = graft.box;
    const broken = graft.kv.trouble;
    graft.box.read = async (name) => {
      graft.kv.trouble = name.startsWith('a') ? 'throw' : broken;
      return read(name).finally(() => (graft.kv.trouble = broken));
    };
    let taken = 0;
    const log = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    for (let pass = 0; pass < many; pass += 1) taken += (await graft.pass()).taken;
    log.mockRestore();
    expect(taken).toBe(2);
  });

  it('is the first of a pass at some time, each with what is below it behind it', () => {
    const names = Array.from({ length: 2 * DROPS_PER_PASS }, (_, i) => `n${String(i).padStart(2, '0')}`);
    const all = [...names, 'n05/x', 'n05/x/y', 'n05-b', 'other/z'].sort();
    const firsts = new Set<string>();
    for (let turn = 0; turn < all.length; turn += 1) {
      const order = rotateByFamily(all, turn);
      firsts.add(order[0]!);
      expect([...order].sort()).toEqual(all);
      const at = order.indexOf('n05');
      expect(order.slice(at, at + 3)).toEqual(['n05', 'n05/x', 'n05/x/y']);
    }
    expect([...firsts].sort()).toEqual(all.filter((name) => !name.startsWith('n05/')));
    expect(rotateByFamily([], 3)).toEqual([]);
  });

  it('comes in one of the next passes when there is much', async () => {
    const names = Array.from({ length: DROPS_PER_PASS + 5 }, (_, i) => `n${String(i).padStart(2, '0')}`);
    for (const name of names) await graft.drop(name, first);
    expect(await graft.pass()).toMatchObject({ taken: DROPS_PER_PASS });
    expect(await graft.pass()).toMatchObject({ taken: 5 });
    await graft.pass();
    expect(await graft.lying()).toEqual([]);
  });

  it('has its turn behind as many as a pass takes that nobody can try now', async () => {
    const { answer } = graft.origin;
    graft.origin.answer = (method, path, init, url) =>
      path.endsWith('/verify') && String(init.body).includes(first.digest)
        ? new Response('', { status: 503 })
        : answer(method, path, init, url);
    for (let i = 0; i < DROPS_PER_PASS; i += 1) await graft.drop(`n${10 + i}`, first);
    await graft.drop('z', second);
    for (let passes = 0; passes < 3; passes += 1)
      expect((await graft.pass()).postponed).toBeGreaterThan(DROPS_PER_PASS - 2);
    expect(await graft.versions('z')).toEqual([`1 ${second.digest}`]);
    graft.origin.answer = answer;
    for (let passes = 0; passes < 3; passes += 1) await graft.pass();
    expect(await graft.versions('n10')).toEqual([`1 ${first.digest}`]);
  });
});
