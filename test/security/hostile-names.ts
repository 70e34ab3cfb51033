/** Names that are no names: 500 and some, made of what has gone wrong elsewhere. */
import { nameProblem } from '../../protocol/identity.ts';

const PIECES = [
  '..',
  '.',
  '../..',
  '..\\',
  '\\',
  '%2e%2e',
  '%2f',
  '%252f',
  '%00',
  '\u0000',
  '\n',
  '\r\nx-evil: 1',
  '\t',
  ' ',
  '\u00a0',
  '\u2028',
  '\u202e',
  '\u200b',
  '\ufeff',
  '\ud800',
  'é',
  'e\u0301',
  'а', // Cyrillic
  'ı',
  'ſ',
  'ﬁ',
  'Ａ',
  '／',
  '．．',
  '💥',
  'A',
  '~',
  '$HOME',
  '${x}',
  '`id`',
  '$(id)',
  ';id',
  '|id',
  '&',
  '?x=1',
  '#x',
  '*',
  '**',
  '[a-z]',
  '{a,b}',
  "'",
  '"',
  "' OR 1=1--",
  '<script>',
  '{{7*7}}',
  '@',
  '@0',
  '@-1',
  '@1@1',
  '@1.5',
  '@1e3',
  '@999999999999',
  ':',
  'http://evil.example',
  'file:///etc/passwd',
  'name:',
  '=cmd',
];

const LEGAL = 'alice/notes';

const PLACES: ((piece: string) => string)[] = [
  (piece) => piece,
  (piece) => piece + LEGAL,
  (piece) => LEGAL + piece,
  (piece) => `alice/${piece}/notes`,
  (piece) => `alice${piece}notes`,
  (piece) => `${piece}/notes`,
  (piece) => `alice/${piece}`,
  (piece) => `/${piece}`,
  (piece) => `${piece}/`,
];

const LONG = [
  'a'.repeat(65),
  `${'a/'.repeat(8)}a`,
  'a/'.repeat(200),
  'a'.repeat(512),
  `${'a'.repeat(63)}/`.repeat(5),
  '//',
  'a//b',
  'base/x',
  'admin',
  'admin/keys',
  'v1',
  'v1/models',
];

export const HOSTILE_NAMES: readonly string[] = [
  ...new Set([...LONG, ...PIECES.flatMap((piece) => PLACES.map((place) => place(piece)))]),
].filter((name) => nameProblem(name) !== null);

/** As a client would write it into a URL; halves of surrogate pairs, which have no encoding, as U+FFFD. */
export const inUrl = (name: string): string => encodeURIComponent(Buffer.from(name).toString());
