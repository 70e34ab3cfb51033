import type { CommandText, FlagText } from '../help/describe-command.ts';
import { argumentOptions, wantsPaths } from './completion-words.ts';

/** Inside single quotes fish knows two escapes. */
const quoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

function flagLine(verb: string, { name, aliases, value, options, description, isPath }: FlagText): string {
  const words = [
    `complete -c graft -n '__fish_seen_subcommand_from ${verb}' -l ${name}`,
    ...aliases.map((alias) => `-s ${alias}`),
    // -r: needs a value; -f: no files for it, -F: files in spite of the command's own -f.
    ...(value === null ? [] : [isPath ? '-r -F' : '-x']),
    ...(options.length > 0 ? [`-a ${quoted(options.join(' '))}`] : []),
    `-d ${quoted(description)}`,
  ];
  return words.join(' ');
}

/** A script for `graft completion fish | source`, or for a file in `~/.config/fish/completions`. */
export function renderFish(commands: readonly CommandText[]): string {
  return [
    '# fish completion for graft; graft completion fish > ~/.config/fish/completions/graft.fish',
    'complete -c graft -f',
    ...commands.flatMap((command) => [
      `complete -c graft -n __fish_use_subcommand -a ${command.verb} -d ${quoted(command.description)}`,
      ...command.flags.map((flag) => flagLine(command.verb, flag)),
      ...argumentOptions(command).map(
        (option) => `complete -c graft -n '__fish_seen_subcommand_from ${command.verb}' -a ${option}`,
      ),
      ...(wantsPaths(command)
        ? [`complete -c graft -n '__fish_seen_subcommand_from ${command.verb}' -F`]
        : []),
    ]),
  ].join('\n');
}
