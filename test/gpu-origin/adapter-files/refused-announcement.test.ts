/** An announcement that the disk refuses half way. */
import fs from 'node:fs';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, it } from 'vitest';
import { openAdapterStore } from '../../../gpu-origin/adapter-files/adapter-store.ts';

const { writeFile } = fs.promises;
const folder = mkdtempSync(join(tmpdir(), 'graft-announced-'));

function replaceWriteFile(by: typeof writeFile): void {
  fs.promises.writeFile = by;
  syncBuiltinESMExports();
}
afterEach(() => {
  replaceWriteFile(writeFile);
  rmSync(folder, { recursive: true, force: true });
});

it('leaves nothing behind when there is room for its folder and not for its record', async () => {
  const store = await openAdapterStore({
    folder,
    budgetBytes: 1_000_000,
    now: Date.now,
    isInUse: () => false,
  });
  replaceWriteFile(async () => {
    throw Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  });
  const record = { bytes: 3, parts: [{ bytes: 3, sha256: 'a'.repeat(64) }] };
  const refused = await store.declare('b'.repeat(64), record);
  expect(refused).toMatchObject({ ok: false, error: { code: 'adapter_unavailable' } });
  expect(readdirSync(join(folder, 'incoming'))).toEqual([]);
  replaceWriteFile(writeFile);
  expect(await store.declare('b'.repeat(64), record)).toMatchObject({ ok: true });
});
