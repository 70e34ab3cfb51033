/** docs/index.md leads each of its forty questions to a passage that is short enough to read at once. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ROOT } from './code-blocks.ts';

/** Of a passage: its heading up to the next one of any level, without code blocks. */
const MAX_WORDS = 150;

/** Readers look one line up here; they don't read the whole. */
const LOOK_UP_LISTS: ReadonlyMap<string, string> = new Map([
  ['concepts.md#twelve-words', 'a glossary: one paragraph a word'],
  ['internals/engine.md#which-bases', 'a table: one row a family'],
  ['reference/errors.md#codes-of-the-api', 'a table: one row an error code'],
  ['run/capacity.md#cloudflares-bill', 'a table: one row an item of the bill'],
]);

interface Link {
  readonly page: string;
  readonly heading: string;
}

const questions = readFileSync(path.join(ROOT, 'docs/index.md'), 'utf8')
  .split('\n')
  .filter((line) => /^\d+\. \[/.test(line));

const linksOf = (question: string): Link[] =>
  [...question.matchAll(/\]\(([^)#]+)#([^)]+)\)/g)].map(([, page = '', heading = '']) => ({ page, heading }));

/** As GitHub makes it. */
const anchorOf = (heading: string): string =>
  heading
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}_\- ]/gu, '')
    .replaceAll(' ', '-');

/** @returns the text below the heading up to the next one, or undefined where there is no such heading. */
function passageOf({ page, heading }: Link): string | undefined {
  const text = readFileSync(path.join(ROOT, 'docs', page), 'utf8')
    .replaceAll(/^ *```[^]*?^ *```/gm, '')
    .replaceAll(/^ *<!--.*-->$/gm, '');
  const parts = text.split(/^#+ (.*)$/m);
  const at = parts.findIndex((part, i) => i % 2 === 1 && anchorOf(part) === heading);
  return at === -1 ? undefined : parts[at + 1];
}

/** List marks, table rules and pipes are no words. */
const wordsOf = (text: string): number =>
  text
    .replaceAll('|', ' ')
    .split(/\s+/)
    .filter((word) => /[\p{L}\p{N}]/u.test(word)).length;

it('has forty questions, numbered in order, each with a link to a heading', () => {
  expect(questions.map((line) => Number.parseInt(line, 10))).toEqual(
    Array.from({ length: 40 }, (_, i) => i + 1),
  );
  expect(questions.filter((line) => linksOf(line).length === 0)).toEqual([]);
});

describe.each(questions)('%s', (question) => {
  it('leads to passages of at most 150 words', () => {
    for (const link of linksOf(question)) {
      const target = `${link.page}#${link.heading}`;
      const passage = passageOf(link);
      expect(passage, `${target} is no heading`).toBeDefined();
      if (!LOOK_UP_LISTS.has(target)) expect(wordsOf(passage ?? ''), target).toBeLessThanOrEqual(MAX_WORDS);
    }
  });
});

it('names no exception that is not needed', () => {
  for (const target of LOOK_UP_LISTS.keys()) {
    const [page = '', heading = ''] = target.split('#');
    expect(wordsOf(passageOf({ page, heading }) ?? ''), target).toBeGreaterThan(MAX_WORDS);
  }
});
