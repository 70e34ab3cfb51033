import type { ArgsDef } from 'citty';
import { CliError, EXIT } from './cli-error.ts';

/** Flags of every command. */
export const commonFlags = {
  json: { type: 'boolean', description: 'Print one JSON document instead of text' },
} as const satisfies ArgsDef;

/** As flags are typed: `originPort` -> `origin-port`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/**
 * citty ignores unknown flags and extra arguments, but a mistyped `--parnet` must not publish without a parent.
 * The last argument takes any number when its name ends in `...`.
 */
export function refuseUnknownFlags(rawArgs: readonly string[], args: ArgsDef): void {
  const known = new Map<string, boolean>([
    ['help', false],
    ['h', false],
  ]);
  for (const [name, definition] of Object.entries(args)) {
    if (definition.type === 'positional') continue;
    const takesValue = definition.type === 'string' || definition.type === 'enum';
    const aliases = 'alias' in definition ? [definition.alias ?? []].flat() : [];
    for (const spelling of [name, kebab(name), ...aliases]) known.set(spelling, takesValue);
    if (definition.type === 'boolean') known.set(`no-${kebab(name)}`, false);
  }
  const places = Object.entries(args).filter(([, { type }]) => type === 'positional');
  let room = places.at(-1)?.[0].endsWith('...') === true ? Infinity : places.length;
  for (let i = 0; i < rawArgs.length; i++) {
    const argument = rawArgs[i] as string;
    if (argument === '--') return;
    if (!argument.startsWith('-') || argument === '-') {
      if (--room < 0) throw usageError(`Unexpected argument '${argument}'.`);
      continue;
    }
    const [spelling = '', value] = argument.replace(/^--?/, '').split('=', 2);
    const takesValue = known.get(spelling);
    if (takesValue === undefined) {
      const long = [...known.keys()].filter((one) => one.length > 1);
      throw usageError(`Unknown flag ${argument}.${didYouMean(spelling, long, '--')}`);
    }
    if (!takesValue || value !== undefined) continue;
    const next = rawArgs[++i];
    // A flag contains no space: `--origin-arg "--weights f32"` is a quoted value.
    if (next === undefined || (next.startsWith('--') && !/\s/.test(next)))
      throw usageError(`${argument} needs a value.`);
  }
}

/** Invalid input; main.ts adds the `--help` of the right command. */
export const usageError = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.usage, code: 'usage' });

/** @throws CliError when `text` is not a port. */
export function parsePort(text: string, flag: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw usageError(`${flag} ${text} is not a port (0 to 65535).`);
  return port;
}

const UNIT_MS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000, w: 7 * 86_400_000 } as const;

/** @returns ms. @throws CliError when `text` is not such as `90s`, `45m`, `12h`, `30d`, `4w`; 0 needs no unit. */
export function parseDuration(text: string, flag: string): number {
  if (text === '0') return 0;
  const match = /^(\d{1,6})([smhdw])$/.exec(text);
  if (match === null) throw usageError(`${flag} ${text} is not a time such as 90s, 45m, 12h, 30d or 4w.`);
  return Number(match[1]) * UNIT_MS[match[2] as keyof typeof UNIT_MS];
}

const FACTOR = { '': 1, k: 1_000, M: 1_000_000 } as const;

/** @throws CliError when `text` is not a whole number above 0, such as `60`, `100k` or `2M`. */
export function parseCount(text: string, flag: string): number {
  const match = /^(\d{1,12})([kM]?)$/.exec(text);
  const count = match === null ? 0 : Number(match[1]) * FACTOR[(match[2] ?? '') as keyof typeof FACTOR];
  if (count > 0) return count;
  throw usageError(`${flag} ${text} is not a whole number above 0, such as 60, 100k or 2M.`);
}

/**
 * citty keeps only the last value of a repeated flag.
 * @param flag without dashes. @returns all of its values, in order.
 */
export function repeatedFlag(rawArgs: readonly string[], flag: string): string[] {
  const ours = beforeRest(rawArgs);
  return ours.flatMap((argument, i) => {
    if (argument.startsWith(`--${flag}=`)) return [argument.slice(flag.length + 3)];
    const value = ours[i + 1];
    return argument === `--${flag}` && value !== undefined ? [value] : [];
  });
}

/** Whether the flag was typed at all. @param flag without dashes. */
export const isFlagGiven = (rawArgs: readonly string[], flag: string): boolean =>
  beforeRest(rawArgs).some((argument) => argument === `--${flag}` || argument.startsWith(`--${flag}=`));

function beforeRest(rawArgs: readonly string[]): readonly string[] {
  const end = rawArgs.indexOf('--');
  return end === -1 ? rawArgs : rawArgs.slice(0, end);
}

/** More edits than this share of a word's length make a different word. */
const MAX_EDITS_PER_LETTER = 0.4;

/** Edits (insert, remove, replace, swap two neighbours) that make `a` into `b`: optimal string alignment. */
export function editDistance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => {
    const row = new Array<number>(b.length + 1).fill(0);
    row[0] = i;
    return row;
  });
  const at = (i: number, j: number): number => rows[i]?.[j] ?? 0;
  for (let j = 0; j <= b.length; j++) (rows[0] as number[])[j] = j;
  for (let i = 1; i <= a.length; i++)
    for (let j = 1; j <= b.length; j++) {
      const replaced = at(i - 1, j - 1) + (a[i - 1] === b[j - 1] ? 0 : 1);
      const swapped =
        i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1] ? at(i - 2, j - 2) + 1 : Infinity;
      (rows[i] as number[])[j] = Math.min(at(i - 1, j) + 1, at(i, j - 1) + 1, replaced, swapped);
    }
  return at(a.length, b.length);
}

/** @returns ` Did you mean 'x'?` for the closest of `known`, or nothing when none is close. */
export function didYouMean(word: string, known: Iterable<string>, prefix = ''): string {
  let best = '';
  let edits = Infinity;
  for (const candidate of known) {
    const distance = editDistance(word, candidate);
    if (distance < edits) [best, edits] = [candidate, distance];
  }
  const close = edits <= Math.max(1, Math.floor(MAX_EDITS_PER_LETTER * Math.max(word.length, best.length)));
  return close && best !== '' ? ` Did you mean ${prefix}${best}?` : '';
}
