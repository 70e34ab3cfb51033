import { beforeEach, describe, expect, it, vi } from 'vitest';
import { manifestOf } from '../../worker/registry/write-pointer.ts';
import type { NameIndex, PointerWriter, NameRow, Registry } from '../../worker/registry/ports.ts';
import { versionRow } from './sample-rows.ts';

export interface PointerRig {
  pointers: PointerWriter;
  registry: Registry;
  /** As KV has it now, past every cache. */
  names: Pick<NameIndex, 'get'>;
  /** Makes KV refuse writes until `mend`; what failed is made up for soon after. */
  breakKv(): void | Promise<void>;
  mendKv(): Promise<void>;
}

export function pointerWriterContract(backend: string, make: () => Promise<PointerRig>): void {
  describe(`PointerWriter on ${backend}`, () => {
    let rig: PointerRig;
    /** Every test has its own: backends may share their stores. */
    let name: string;
    let count = 0;
    beforeEach(async () => {
      rig = await make();
      name = `pointer/${(count += 1)}`;
    });
    const publish = async (version: number, stage = false) => {
      const row = versionRow(name, version);
      await rig.registry.publish({ row, stage, before: await rig.registry.name(name) });
      return { state: 'found', value: manifestOf(row), stale: false };
    };
    const flip = async (to: number) => {
      const before = (await rig.registry.name(name)) as NameRow;
      await rig.registry.flip({ before, to, actor: 'x', at: 1 });
    };

    it('writes what the registry says, and nothing where there is nothing', async () => {
      await publish(1, true);
      await rig.pointers.sync(name);
      expect(await rig.names.get(name)).toEqual({ state: 'absent' });
      const second = await publish(2);
      await rig.pointers.sync(name);
      expect(await rig.names.get(name)).toEqual(second);
      await flip(1);
      await rig.pointers.sync(name);
      expect(await rig.names.get(name)).toMatchObject({ value: { version: 1 } });
    });

    it('writes aliases, and a mark when they end', async () => {
      const change = { name, owner: 'default', actor: 'x', at: 1 };
      const made = await rig.registry.alias({ ...change, before: null, target: 'a/b' });
      await rig.pointers.sync(name);
      expect(await rig.names.get(name)).toMatchObject({ state: 'found', value: { name, alias: 'a/b' } });
      await rig.registry.alias({ ...change, before: made.ok ? made.value : null, target: null });
      await rig.pointers.sync(name);
      expect(await rig.names.get(name)).toEqual({ state: 'gone' });
    });

    it('ends on the last state, however many ask at once and in whatever order', async () => {
      for (let version = 1; version <= 4; version += 1) await publish(version);
      const calls: Promise<void>[] = [];
      for (const to of [1, 3, 2, 4, 1]) {
        await flip(to);
        calls.push(rig.pointers.sync(name));
      }
      await Promise.all(calls);
      expect(await rig.names.get(name)).toMatchObject({ value: { version: 1 } });
    });

    it('says when KV fails, and makes up for it by itself', async () => {
      await publish(1);
      await rig.breakKv();
      await expect(rig.pointers.sync(name)).rejects.toMatchObject({ name: 'StoreUnavailable' });
      await rig.mendKv();
      await vi.waitFor(async () =>
        expect(await rig.names.get(name)).toMatchObject({ value: { version: 1 } }),
      );
    });
  });
}
