import { describe, expect, it } from 'vitest';
import { manifestOf } from '../../worker/registry/write-pointer.ts';
import { PUBLIC } from '../../worker/access/ports.ts';
import type { GrantIndex, KeyIndex } from '../../worker/registry/kv-indexes.ts';
import type { NameIndex } from '../../worker/registry/ports.ts';
import { digestOf, versionRow } from './sample-rows.ts';

/** @param afterWrite lets the time pass that KV wants between writes and until they are seen. */
export function nameIndexContract(
  backend: string,
  make: () => Promise<{ index: NameIndex; afterWrite: () => void }>,
): void {
  describe(`NameIndex on ${backend}`, () => {
    it('gives the manifest back that was put last', async () => {
      const { index, afterWrite } = await make();
      const first = manifestOf(versionRow('alice/notes', 1));
      await index.put(first);
      afterWrite();
      expect(await index.get('alice/notes')).toEqual({ state: 'found', value: first, stale: false });
      const second = manifestOf(versionRow('alice/notes', 2));
      await index.put(second);
      afterWrite();
      expect(await index.get('alice/notes')).toEqual({ state: 'found', value: second, stale: false });
      expect(await index.get('alice/absent')).toEqual({ state: 'absent' });
    });

    it('keeps aliases, and marks of those that were taken away', async () => {
      const { index, afterWrite } = await make();
      const alias = { name: 'best', alias: 'alice/notes' };
      await index.put(alias);
      afterWrite();
      expect(await index.get('best')).toEqual({ state: 'found', value: alias, stale: false });
      await index.remove('best');
      afterWrite();
      expect(await index.get('best')).toEqual({ state: 'gone' });
    });

    it('reads several names at once, in order', async () => {
      const { index, afterWrite } = await make();
      const first = manifestOf(versionRow('many', 1));
      const second = { name: 'many/alias', alias: 'many' };
      await index.put(first);
      await index.put(second);
      await index.put({ name: 'many/gone', alias: 'many' });
      afterWrite();
      await index.remove('many/gone');
      afterWrite();
      expect(await index.getMany(['many/alias', 'many/none', 'many', 'many/gone'])).toEqual([
        { state: 'found', value: second, stale: false },
        { state: 'absent' },
        { state: 'found', value: first, stale: false },
        { state: 'gone' },
      ]);
      expect(await index.getMany([])).toEqual([]);
    });

    it('takes the longest name', async () => {
      const { index } = await make();
      const name = Array.from({ length: 4 }, () => 'x'.repeat(63)).join('/');
      await index.put(manifestOf(versionRow(name, 1)));
      expect((await index.get(name)).state).toBe('found');
    });
  });
}

export function grantIndexContract(
  backend: string,
  make: () => Promise<{ index: GrantIndex; afterWrite: () => void }>,
): void {
  describe(`GrantIndex on ${backend}`, () => {
    it('gives back what was put last, also nothing at all', async () => {
      const { index, afterWrite } = await make();
      const held = {
        grants: [
          { scope: 'medicine/**', owner: 'clinic' },
          { scope: '**', owner: null },
        ],
        refused: ['eve', 'mallory'],
      };
      const nothing = { grants: [], refused: [] };
      for (const tenant of ['guest', PUBLIC]) {
        expect(await index.get(tenant)).toEqual({ state: 'absent' });
        afterWrite();
        await index.put(tenant, held);
        afterWrite();
        expect(await index.get(tenant)).toEqual({ state: 'found', value: held, stale: false });
        await index.put(tenant, nothing);
        afterWrite();
        expect(await index.get(tenant)).toEqual({ state: 'found', value: nothing, stale: false });
      }
    });
  });
}

export function keyIndexContract(
  backend: string,
  make: () => Promise<{ index: KeyIndex; afterWrite: () => void }>,
): void {
  describe(`KeyIndex on ${backend}`, () => {
    it('finds a key until it is revoked, and then says so', async () => {
      const { index, afterWrite } = await make();
      const record = { id: 'key_1', tenant: 'default', scopes: ['**'] };
      const hash = digestOf('key 1');
      await index.put(hash, record);
      afterWrite();
      expect(await index.get(hash)).toEqual({ state: 'found', value: record, stale: false });
      await index.revoke(hash);
      afterWrite();
      expect(await index.get(hash)).toEqual({ state: 'gone' });
      expect(await index.get(digestOf('key 2'))).toEqual({ state: 'absent' });
    });
  });
}
