import type { CommandDef } from 'citty';
import type { Actions } from './actions.ts';

/** What `--help` and docs/cli.md say beyond the definition itself; more is said in docs/cli.md alone. */
export interface CommandHelp {
  /** Whole command lines, each with what it does. */
  readonly examples: readonly { readonly line: string; readonly does: string }[];
}

/** A file of `commands/`. */
export interface CommandModule {
  // citty's type of a command depends on its flags; a list holds any of them, as its own `SubCommandsDef` does.
  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  readonly default: CommandDef<any>;
  readonly help?: CommandHelp;
  /** Where the first argument says what is done. */
  readonly actions?: Actions;
}

export interface Command {
  /** One line, without a full stop. Here, so that `graft --help` loads no command. */
  readonly summary: string;
  load(): Promise<CommandModule>;
}

export interface CommandGroup {
  readonly title: string;
  /** By verb. */
  readonly commands: Readonly<Record<string, Command>>;
}
