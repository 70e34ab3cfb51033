/** Commands that have actions, such as `graft keys create`: what each takes, in its help and when it is parsed. */
import { didYouMean } from './did-you-mean.ts';
import { usageError } from './flags.ts';

export interface Action {
  /** One line, without a full stop. */
  readonly summary: string;
  /** Positional arguments after the action, as the command's `args` name them; with a `?` those that may be left out. */
  readonly arguments: readonly string[];
  /** Flags, as the command's `args` name them; those that every command takes (`--json`) are left out. */
  readonly flags: readonly string[];
}

export type Actions<Name extends string = string> = Readonly<Record<Name, Action>>;

/**
 * @param args as citty parsed them. @param word the action, as it was typed.
 * @throws CliError (usage) for an action that is none, and a flag that it has no use for.
 */
export function pickAction<Name extends string>(params: {
  verb: string;
  actions: Actions<Name>;
  word: string;
  args: Readonly<Record<string, unknown>>;
}): Name {
  const { verb, actions, word, args } = params;
  const names = Object.keys(actions) as Name[];
  const name = names.find((one) => one === word);
  if (name === undefined)
    throw usageError(`'${word}' is none of ${names.join(', ')}.${didYouMean(word, names, `graft ${verb} `)}`);
  const own = new Set(actions[name].flags);
  const stray = Object.values<Action>(actions)
    .flatMap(({ flags }) => flags)
    .find((flag) => !own.has(flag) && args[flag] !== undefined && args[flag] !== false);
  if (stray === undefined) return name;
  const takers = names.filter((one) => actions[one].flags.includes(stray));
  throw usageError(
    `--${stray} is not for \`graft ${verb} ${name}\`, but for ${takers.map((one) => `\`graft ${verb} ${one}\``).join(' and ')}.`,
  );
}
