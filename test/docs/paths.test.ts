/** What documents point at is there: links, their headings, and files of ours that are named in code. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';

const ROOT = path.join(import.meta.dirname, '../..');
/** Folders with files that documents name. */
const FOLDERS = [
  ...['adapters', 'bench', 'bin', 'browser', 'cli', 'dashboard', 'deploy', 'docs', 'examples', 'gpu-origin'],
  ...['migrations', 'protocol', 'test', 'worker'],
];
const FILES = FOLDERS.flatMap((folder) =>
  readdirSync(path.join(ROOT, folder), { recursive: true, encoding: 'utf8' }).map((file) =>
    path.join(folder, file),
  ),
);
const NAMES = new Set(FILES.map((file) => path.basename(file)));

/** Those that tell what is; what was is in others. */
const DOCUMENTS = [...readdirSync(ROOT), ...FILES].filter(
  (file) => file.endsWith('.md') && !['CHANGELOG.md', 'bench/LOG.md'].includes(file),
);

/** Without what is between fences. */
const textOf = (file: string): string =>
  readFileSync(path.join(ROOT, file), 'utf8').replaceAll(/^ *```[^]*?^ *```/gm, '');

/** As GitHub makes them. */
const headingsOf = (file: string): string[] =>
  [...textOf(file).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N}_\- ]/gu, '')
      .replaceAll(' ', '-'),
  );

const linksOf = (text: string): string[] =>
  [...text.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, target = '']) => target)
    .filter((target) => !/^[a-z]+:/.test(target));

/** `worker/parts.ts`, `test/<part>` not, nor routes, which begin with a slash. */
const pathsIn = (text: string): string[] =>
  [...text.matchAll(/`([^`\n]+)`/g)].flatMap(([, code = '']) =>
    [...code.matchAll(/(?<![\w./<@:#-])[\w.-]+(?:\/[\w.-]+)+\/?(?![\w/<*{…])/g)]
      .map(([found]) => found.replace(/[/.]$/, ''))
      .filter((found) => FOLDERS.includes(found.split('/')[0] ?? '')),
  );

const sourcesIn = (text: string): string[] =>
  [...text.matchAll(/`(\w[\w.-]*\.(?:ts|tsx|mjs|cjs))`/g)].map(([, name = '']) => name);

describe.each(DOCUMENTS)('%s', (file) => {
  const text = textOf(file);

  it('links to files and headings that are there', () => {
    const missing = linksOf(text).filter((link) => {
      const [target = '', heading] = link.split('#');
      const where = target === '' ? file : path.join(path.dirname(file), target);
      if (!existsSync(path.join(ROOT, where))) return true;
      return heading !== undefined && where.endsWith('.md') && !headingsOf(where).includes(heading);
    });
    expect(missing).toEqual([]);
  });

  it('names files that are there', () => {
    expect(pathsIn(text).filter((one) => !existsSync(path.join(ROOT, one)))).toEqual([]);
    expect(sourcesIn(text).filter((one) => !NAMES.has(one) && !existsSync(path.join(ROOT, one)))).toEqual([]);
  });
});

it('finds what it looks for', () => {
  const all = DOCUMENTS.map(textOf).join('\n');
  expect(linksOf(all).length).toBeGreaterThan(200);
  expect(pathsIn(all).length).toBeGreaterThan(200);
  expect(sourcesIn(all).length).toBeGreaterThan(30);
});
