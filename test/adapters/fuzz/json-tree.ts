/** JSON that need not be valid: keys may occur twice, and a leaf is any text. */
import type { Random } from './random.ts';

export type JsonTree =
  | { kind: 'object'; entries: [key: string, value: JsonTree][] }
  | { kind: 'array'; items: JsonTree[] }
  | { kind: 'leaf'; text: string };

const leaf = (text: string): JsonTree => ({ kind: 'leaf', text });

export function parseTree(text: string): JsonTree {
  const convert = (value: unknown): JsonTree => {
    if (Array.isArray(value)) return { kind: 'array', items: value.map(convert) };
    if (typeof value !== 'object' || value === null) return leaf(JSON.stringify(value));
    return { kind: 'object', entries: Object.entries(value).map(([key, item]) => [key, convert(item)]) };
  };
  return convert(JSON.parse(text));
}

export function printTree(tree: JsonTree): string {
  if (tree.kind === 'leaf') return tree.text;
  if (tree.kind === 'array') return `[${tree.items.map(printTree).join(',')}]`;
  return `{${tree.entries.map(([key, value]) => `${JSON.stringify(key)}:${printTree(value)}`).join(',')}}`;
}

export const find = (tree: JsonTree | undefined, key: string): JsonTree | undefined =>
  tree?.kind === 'object' ? tree.entries.find(([name]) => name === key)?.[1] : undefined;

const NUMBERS = [
  '0',
  '-0',
  '-1',
  '1',
  '3',
  '32',
  '512',
  '513',
  '0.5',
  '1e308',
  '1e999',
  '5e-324',
  '2147483648',
  '9007199254740991',
  '9007199254740993',
  '18446744073709551614',
];
const WORDS = [
  '__proto__',
  'constructor',
  'toString',
  'hasOwnProperty',
  '__metadata__',
  '',
  'F32',
  'F16',
  'BF16',
  'F64',
  'I64',
  'F8_E4M3',
  'BOOL',
  'F4',
  'lora',
  'LORA',
  'none',
  'pissa',
  'full',
  'dora',
  '\u202e',
  '\0',
  'é'.repeat(40),
  'x'.repeat(300),
  'a.b.c',
  '..',
  '1',
];
const BROKEN = [
  '01',
  '1.',
  '+1',
  'NaN',
  'Infinity',
  '0x10',
  '',
  '"',
  '"\\ud800"',
  '"\\x"',
  '[',
  '{',
  '}',
  'nul',
  '"\u0001"',
  '//',
  '[[[[[[',
  '\ufeff{}',
  '{"a":1,"a":2}',
];
const PATTERN_PIECES = [
  ...'ab.*+?()[]{}|^$\\-,0129',
  'q_proj',
  '.*',
  '(a+)+',
  '\\d',
  '\\w',
  '[^',
  '{1,',
  '{0,1000}',
  '(?=',
  '(?P<n>',
  '\\1',
  'layers',
];

/** Text in the style of PEFT's patterns, mostly broken ones. */
export const anyPattern = (random: Random): string =>
  Array.from({ length: 1 + random.below(12) }, () => random.pick(PATTERN_PIECES)).join('');

const anyKey = (random: Random, keys: readonly string[]): string =>
  random.chance(0.2) ? anyPattern(random) : random.pick(random.chance(0.7) ? keys : WORDS);

function anyLeaf(random: Random, keys: readonly string[]): JsonTree {
  switch (random.below(8)) {
    case 0:
      return leaf(random.pick(['null', 'true', 'false']));
    case 1:
      return leaf(JSON.stringify(random.pick(WORDS)));
    case 2:
      return leaf(JSON.stringify(random.pick(keys)));
    case 3:
      // Seldom, as it says nothing about the rules behind the parser.
      return leaf(random.chance(0.3) ? random.pick(BROKEN) : 'null');
    case 4:
      return random.chance(0.5)
        ? { kind: 'array', items: [leaf(random.pick(NUMBERS)), leaf(random.pick(NUMBERS))] }
        : { kind: 'object', entries: [[anyKey(random, keys), leaf(random.pick(NUMBERS))]] };
    case 5: {
      const depth = random.pick([1, 8, 31, 32, 33, 2000]);
      return leaf('['.repeat(depth) + ']'.repeat(depth));
    }
    default:
      return leaf(random.pick(NUMBERS));
  }
}

/** All objects and arrays of the tree, itself first. */
function containers(tree: JsonTree, found: Exclude<JsonTree, { kind: 'leaf' }>[] = []) {
  if (tree.kind === 'leaf') return found;
  found.push(tree);
  for (const child of tree.kind === 'array' ? tree.items : tree.entries.map(([, value]) => value))
    containers(child, found);
  return found;
}

function nudged(value: JsonTree, random: Random): JsonTree | null {
  if (value.kind !== 'leaf' || !/^-?\d+$/.test(value.text)) return null;
  const number = BigInt(value.text);
  return leaf(
    String(
      random.pick([number + 1n, number - 1n, number * 2n, number / 2n, -number, number ^ 4n, number << 32n]),
    ),
  );
}

/**
 * One change somewhere in the tree, in place: a value replaced, nudged, removed, doubled or exchanged, a key renamed.
 * @param keys words that mean something to the reader.
 */
export function mutateTree(tree: JsonTree, random: Random, keys: readonly string[]): void {
  const target = random.pick(containers(tree));
  if (!target) return;
  const list: unknown[] = target.kind === 'array' ? target.items : target.entries;
  const at = random.below(list.length);
  const set = (value: JsonTree): void => {
    if (target.kind === 'array') target.items[at] = value;
    else if (target.entries[at]) target.entries[at] = [target.entries[at][0], value];
    else target.entries.push([anyKey(random, keys), value]);
  };
  const old = target.kind === 'array' ? target.items[at] : target.entries[at]?.[1];
  const entry = target.kind === 'object' ? target.entries[at] : undefined;
  switch (random.below(9)) {
    case 0:
      list.splice(at, 1);
      return;
    case 1:
      if (old !== undefined) list.splice(random.below(list.length + 1), 0, list[at]);
      return;
    case 2:
      if (target.kind === 'object' && entry) target.entries[at] = [anyKey(random, keys), entry[1]];
      return;
    case 3:
      if (target.kind === 'object') target.entries.push([anyKey(random, keys), anyLeaf(random, keys)]);
      else target.items.push(anyLeaf(random, keys));
      return;
    case 4: {
      const other = random.below(list.length);
      if (list.length > 1) [list[at], list[other]] = [list[other], list[at]];
      return;
    }
    case 5:
    case 6:
      set((old && nudged(old, random)) ?? anyLeaf(random, keys));
      return;
    default:
      set(anyLeaf(random, keys));
  }
}
