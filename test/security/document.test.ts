import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';

const ROOT = path.join(import.meta.dirname, '../..');
const text = readFileSync(path.join(ROOT, 'docs/internals/security.md'), 'utf8');

it('docs/internals/security.md names tests that exist, and all of this folder', () => {
  const named = [...text.matchAll(/`(test\/[\w./-]+\.test\.ts)`/g)].map(([, file]) => file as string);
  expect(named.length).toBeGreaterThan(40);
  for (const file of named) expect([file, existsSync(path.join(ROOT, file))]).toEqual([file, true]);
  const ours = readdirSync(import.meta.dirname).filter(
    (file) => file.endsWith('.test.ts') && file !== path.basename(import.meta.filename),
  );
  for (const file of ours) expect(named).toContain(`test/security/${file}`);
});
