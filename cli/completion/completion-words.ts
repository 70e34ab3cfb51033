import type { CommandText, FlagText } from '../help/describe-command.ts';

/** @returns every flag of a command as it is typed, `--help` with it. */
export const flagWords = ({ flags }: CommandText): string[] => [
  ...flags.map(({ name }) => `--${name}`),
  '--help',
];

/** Flags whose value is a file or folder. */
export const pathFlags = ({ flags }: CommandText): FlagText[] => flags.filter(({ isPath }) => isPath);

/** Whether one of its arguments is a file or folder. */
export const wantsPaths = (command: CommandText): boolean => command.arguments.some(({ isPath }) => isPath);

/** What its arguments can be, as far as the definition names it. */
export const argumentOptions = (command: CommandText): string[] =>
  command.arguments.flatMap(({ options }) => options);

/** Words that stand in the scripts as they are. @throws when a definition brings one that a shell would read otherwise. */
export function assertPlain(commands: readonly CommandText[]): void {
  const all = commands.flatMap((command) => [
    command.verb,
    ...argumentOptions(command),
    ...command.flags.flatMap(({ name, aliases, options }) => [name, ...aliases, ...options]),
  ]);
  const odd = all.find((word) => !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(word));
  if (odd !== undefined)
    throw new Error(`the completion scripts cannot hold the word ${JSON.stringify(odd)}`);
}
