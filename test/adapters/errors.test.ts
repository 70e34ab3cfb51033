import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { ADAPTER_ERROR_CODES, printable } from '../../adapters/index.ts';

const page = readFileSync(new URL('../../docs/adapter-format.md', import.meta.url), 'utf8');

it('docs/adapter-format.md has a row for every code, and for no other', () => {
  const rows = [...page.matchAll(/^\| `([a-z_]+)` +\| (.+?) +\| (.+?) +\|$/gm)];
  expect(rows.map(([, code]) => code).sort()).toEqual([...ADAPTER_ERROR_CODES].sort());
  for (const [, , meaning, remedy] of rows)
    expect(Math.min(meaning!.length, remedy!.length)).toBeGreaterThan(10);
});

it('printable keeps ASCII and shortens', () => {
  expect(printable('a.b_c')).toBe('a.b_c');
  expect(printable('\u001b[2J\r\n\u202eé😀')).toBe('\\u001b[2J\\u000d\\u000a\\u202e\\u00e9\\ud83d\\ude00');
  expect(printable('x'.repeat(1_000)).length).toBeLessThan(200);
});
