/** The same texts every time: what tokenizers take apart differently. */
import { readFileSync } from 'node:fs';
import { seeded } from '../../fixtures/tiny-base.ts';

const COUNT = 3_000;

/** Contractions, numerals, blanks, marks, scripts, joined emoji, code: each is a rule of some pre-tokenizer. */
const PIECES = [
  ...[
    'hi',
    'The',
    'HTTP',
    "they've",
    "I'LL",
    "'s",
    "'",
    "''",
    '’re',
    'naïve',
    'größe',
    'e\u0301',
    'ﬁ',
    'İ',
    'ß',
  ],
  ...['0', '1', '42', '123', '1234567', '3.14', '½', '²', '٣', '४', '五', 'Ⅷ', '𝟘'],
  ...[
    ' ',
    '  ',
    '    ',
    '\t',
    '\t\t',
    '\n',
    '\n\n',
    '\r\n',
    ' \n',
    '\n ',
    '\u00a0',
    '\u3000',
    '\u2028',
    '\x85',
  ],
  ...[
    '\ufeff',
    '\u200b',
    '\u200d',
    '\u00ad',
    '\u0000',
    '\x7f',
    '\ufffd',
    '\ue000',
    '\u{10ffff}',
    '\u{1f3fb}',
  ],
  ...[
    '.',
    ',',
    '...',
    '!?',
    '--',
    '—',
    '(',
    ')',
    '[',
    ']',
    '{',
    '}',
    '<',
    '>',
    '</b>',
    '"',
    '`',
    '$',
    '%',
    '#',
    '##',
  ],
  ...[
    '_',
    '__init__',
    'a_b',
    'camelCase',
    'x=1;',
    '=>',
    '!==',
    '&&',
    '//',
    '/*',
    '\\n',
    '@',
    'a@b.c',
    'http://a.b/?c=d',
  ],
  ...[
    '中文',
    '日本語',
    'かな',
    'カナ',
    '한국어',
    '\u1112\u1161\u11ab',
    'ไทย',
    'العربية',
    'עברית',
    'हिन्दी',
    'Ελλάδα',
    'Привет',
  ],
  ...['😀', '👩‍👩‍👧', '🇩🇪', '❤️', '👍🏽', '▁', '▁▁', '<0x0A>', '##ing', 'Ġ', 'Ċ'],
];

/** @returns texts of pieces, of any code points, and lines of this repository's own prose and code. */
export function madeTexts(): string[] {
  const random = seeded(41);
  const below = (count: number): number => Math.floor(((random() + 1) / 2) * count);
  const joined = (): string =>
    Array.from({ length: 1 + below(12) }, () => PIECES[below(PIECES.length)]!).join('');
  const planes = [0x80, 0x250, 0x3000, 0xd800, 0x20000];
  const points = (): string =>
    Array.from({ length: 1 + below(24) }, () => String.fromCodePoint(below(planes[below(planes.length)]!)))
      // Half a surrogate pair is no text.
      .filter((point) => !/\p{Cs}/u.test(point))
      .join('');
  const own = ['README.md', 'docs/run/keys-and-limits.md', 'adapters/pack-adapter.ts', 'LICENSE']
    .flatMap((file) =>
      readFileSync(new URL(`../../../${file}`, import.meta.url), 'utf8').split(/(?<=\n\s*)\b/),
    )
    .slice(0, COUNT / 6);
  const half = Array.from({ length: COUNT / 2 }, joined);
  return [...half, ...own, ...Array.from({ length: COUNT - half.length - own.length }, points)];
}
