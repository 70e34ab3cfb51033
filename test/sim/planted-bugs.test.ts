/** Fails when the code that a planted bug replaces has moved. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { transform } from 'esbuild';
import { describe, expect, it } from 'vitest';
import { PLANTED } from './planted-bugs.ts';

const ROOT = path.join(import.meta.dirname, '../..');

describe('a planted bug', () => {
  it('has an id of its own', () => {
    expect(new Set(PLANTED.map(({ id }) => id)).size).toBe(PLANTED.length);
  });

  it.each(PLANTED)(
    '$id finds its place exactly once, and leaves a program',
    async ({ file, find, replace }) => {
      const source = await readFile(path.join(ROOT, file), 'utf8');
      expect(source.split(find)).toHaveLength(2);
      const { code } = await transform(
        source.replace(find, () => replace),
        { loader: 'ts' },
      );
      const { code: before } = await transform(source, { loader: 'ts' });
      expect(code).not.toBe(before);
    },
  );
});
