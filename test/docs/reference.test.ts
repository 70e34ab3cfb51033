import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { SHOWN_LIMITS } from '../../bin/read-limits.ts';
import { referencePages } from '../../bin/write-reference.ts';
import * as sharedLimits from '../../protocol/limits.ts';
import { ROOT } from './code-blocks.ts';

const pages = await referencePages();

describe.each([...pages])('%s', (file, text) => {
  it('is what `npm run docs` writes', async () => {
    expect(await readFile(path.join(ROOT, file), 'utf8')).toBe(text);
  });
});

it('lists every limit that more than one part enforces', () => {
  const shown = SHOWN_LIMITS.flatMap(({ limits }) => limits['protocol/limits.ts'] ?? []);
  expect(shown.toSorted()).toEqual(Object.keys(sharedLimits).sort());
});
