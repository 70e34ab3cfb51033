/** What a command is: its flags, actions and examples, and how it is loaded. */
import { type ArgsDef, type CommandContext, type CommandDef, defineCommand } from 'citty';
import { commonFlags, usageError, didYouMean } from './flags.ts';
import { createOutput, type Output } from './output.ts';

/** What `--help` shows beyond the definition itself. */
export interface CommandHelp {
  /** Complete command lines, each with its effect. */
  readonly examples: readonly { readonly line: string; readonly does: string }[];
}

/** What a file of `commands/` exports for each of its verbs. */
export interface CommandModule {
  // citty's type of a command depends on its flags; a list holds any of them, as its own `SubCommandsDef` does.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly default: CommandDef<any>;
  readonly help?: CommandHelp;
  /** For commands whose first argument is an action. */
  readonly actions?: Actions;
}

export interface Command {
  /** One line, without a full stop. Kept here, so that `graft --help` loads no command. */
  readonly summary: string;
  load(): Promise<CommandModule>;
}

export interface CommandGroup {
  readonly title: string;
  /** By verb. */
  readonly commands: Readonly<Record<string, Command>>;
}

type Common = typeof commonFlags;

/** Defines a command, which also takes `--json`; the type of `run`'s input follows from `args`. */
export const command = <const Args extends ArgsDef>(definition: {
  verb: string;
  examples?: CommandHelp['examples'];
  actions?: Actions;
  args: Args;
  run: (context: CommandContext<Args & Common> & { output: Output }) => Promise<void> | void;
}): CommandModule => {
  const { verb, examples = [], actions, args, run } = definition;
  return {
    default: defineCommand<Args & Common>({
      meta: { name: verb },
      args: { ...args, ...commonFlags },
      run: (context) => {
        const { json } = context.args as { json?: boolean };
        return run({ ...context, output: createOutput({ json: json === true }) });
      },
    }),
    help: { examples },
    ...(actions === undefined ? {} : { actions }),
  };
};

/** Arguments and flags of an action, such as `graft keys create`, for its help and its parser. */
export interface Action {
  /** One line, without a full stop. */
  readonly summary: string;
  /** Positional arguments after the action, as named in the command's `args`; optional ones end in `?`. */
  readonly arguments: readonly string[];
  /** Flags, as named in the command's `args`, without those that every command takes (`--json`). */
  readonly flags: readonly string[];
}

export type Actions<Name extends string = string> = Readonly<Record<Name, Action>>;

/**
 * @param args as citty parsed them. @param word the action, as typed.
 * @throws CliError (usage) for an unknown action, and for a flag that it does not take.
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
    throw usageError(
      `'${word}' is not one of ${names.join(', ')}.${didYouMean(word, names, `graft ${verb} `)}`,
    );
  const own = new Set(actions[name].flags);
  const stray = Object.values<Action>(actions)
    .flatMap(({ flags }) => flags)
    .find((flag) => !own.has(flag) && args[flag] !== undefined && args[flag] !== false);
  if (stray === undefined) return name;
  const takers = names.filter((one) => actions[one].flags.includes(stray));
  throw usageError(
    `--${stray} is not a flag of \`graft ${verb} ${name}\`. Use it with ` +
      `${takers.map((one) => `\`graft ${verb} ${one}\``).join(' or ')}.`,
  );
}
