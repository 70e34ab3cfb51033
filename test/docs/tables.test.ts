import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, it } from 'vitest';

const ROOT = path.join(import.meta.dirname, '../..');
/** As it is read: of a link its text. */
const MAX_CELL = 300;

const DOCUMENTS = [
  ...readdirSync(ROOT).filter((file) => file.endsWith('.md')),
  ...['docs', 'examples', 'bench'].flatMap((folder) =>
    readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.md'))
      .map((file) => path.join(folder, file)),
  ),
];

const cellsOf = (line: string): string[] =>
  line.split(/(?<!\\)\|/).map((cell) => cell.trim().replace(/\[([^\]]*)\]\([^)]*\)/g, '$1'));

it('no table has a cell that is a paragraph', () => {
  let cells = 0;
  for (const file of DOCUMENTS)
    for (const [index, line] of readFileSync(path.join(ROOT, file), 'utf8').split('\n').entries()) {
      if (!line.startsWith('|') || /^[|\s:-]+$/.test(line)) continue;
      for (const cell of cellsOf(line)) {
        cells += 1;
        if (cell.length > MAX_CELL) expect([`${file}:${index + 1}`, cell]).toEqual([]);
      }
    }
  expect(cells).toBeGreaterThan(1_000);
});
