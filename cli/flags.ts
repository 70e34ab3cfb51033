import type { ArgsDef } from 'citty';
import { CliError, EXIT } from './cli-error.ts';
import { didYouMean } from './did-you-mean.ts';

/** Flags of every command that talks to a server. */
export const commonFlags = {
  json: { type: 'boolean', description: 'Print one JSON document instead of text' },
} as const satisfies ArgsDef;

/** As flags are typed: `originPort` -> `origin-port`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/**
 * citty ignores flags that it does not know, and arguments beyond those it does: a mistyped `--parnet` must not publish
 * without a parent. The last argument takes any number when its name ends in `...`.
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
      if (--room < 0) throw usageError(`There is no place for '${argument}'.`);
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
    // A flag has no space: `--origin-arg "--weights f32"` is a value that was quoted.
    if (next === undefined || (next.startsWith('--') && !/\s/.test(next)))
      throw usageError(`${argument} needs a value.`);
  }
}

/** What was typed is wrong; main.ts adds whose `--help` says how it is right. */
export const usageError = (message: string): CliError =>
  new CliError({ message, exitCode: EXIT.usage, code: 'usage' });

/** @throws CliError when `text` is not a port. */
export function parsePort(text: string, flag: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 0 || port > 65_535)
    throw usageError(`${flag} ${text} is not a port (0 to 65535).`);
  return port;
}
