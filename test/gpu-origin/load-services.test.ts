import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { readConfig } from '../../gpu-origin/config.ts';
import { loadServices } from '../../gpu-origin/load-services.ts';
import { writeTinyBase } from '../fixtures/tiny-base.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-load-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('a missing tokenizer is said before anything is prepared', async () => {
  const [base, cache] = [join(folder, 'base'), join(folder, 'cache')];
  writeTinyBase(base);
  rmSync(join(base, 'tokenizer.json'));
  const stages: string[] = [];
  const loading = loadServices({
    config: readConfig(['--base', base, '--cache', cache, '--dev'], {})!,
    observer: {},
    onProgress: (stage) => stages.push(stage),
    onNotice: () => undefined,
    onDiskRefusal: () => undefined,
  });
  await expect(loading).rejects.toThrow(`${base} has no tokenizer.json`);
  expect(stages).toEqual([]);
  expect(existsSync(join(cache, 'graphs'))).toBe(false);
});
