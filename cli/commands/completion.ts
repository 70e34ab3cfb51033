import { defineCommand } from 'citty';
import type { CommandGroup, CommandHelp } from '../command.ts';
import { didYouMean, usageError } from '../flags.ts';
import { describeGroups, type CommandText, type FlagText } from '../help.ts';

const SHELLS = { bash: renderBash, zsh: renderZsh, fish: renderFish };

export const help: CommandHelp = {
  examples: [
    { line: 'source <(graft completion bash)', does: 'in ~/.bashrc' },
    { line: 'source <(graft completion zsh)', does: 'in ~/.zshrc, behind compinit' },
    {
      line: 'graft completion fish > ~/.config/fish/completions/graft.fish',
      does: 'once, and after updates',
    },
  ],
};

/** @param groups every command; passed in, because their list contains this command too. */
export const completionCommand = (groups: () => readonly CommandGroup[]) =>
  defineCommand({
    meta: { name: 'completion' },
    args: {
      shell: {
        type: 'positional',
        description: 'bash, zsh or fish',
        valueHint: Object.keys(SHELLS).join('|'),
        required: true,
      },
    },
    async run({ args }) {
      const render = Object.hasOwn(SHELLS, args.shell)
        ? SHELLS[args.shell as keyof typeof SHELLS]
        : undefined;
      if (render === undefined)
        throw usageError(
          `No completion for '${args.shell}'. Use bash, zsh or ` +
            `fish.${didYouMean(args.shell, Object.keys(SHELLS))}`,
        );
      const commands = (await describeGroups(groups())).flatMap((group) => group.commands);
      assertPlain(commands);
      process.stdout.write(`${render(commands)}\n`);
    },
  });

/** @returns every flag of a command as typed, including `--help`. */
const flagWords = ({ flags }: CommandText): string[] => [...flags.map(({ name }) => `--${name}`), '--help'];

/** Flags whose value is a file or folder. */
const pathFlags = ({ flags }: CommandText): FlagText[] => flags.filter(({ isPath }) => isPath);

/** Whether an argument is a file or folder. */
const wantsPaths = (command: CommandText): boolean => command.arguments.some(({ isPath }) => isPath);

/** Possible arguments, as far as the definition lists them. */
const argumentOptions = (command: CommandText): string[] =>
  command.arguments.flatMap(({ options }) => options);

/** Words that the scripts contain unquoted. @throws when a shell would interpret one. */
export function assertPlain(commands: readonly CommandText[]): void {
  const all = commands.flatMap((command) => [
    command.verb,
    ...argumentOptions(command),
    ...command.flags.flatMap(({ name, aliases, options }) => [name, ...aliases, ...options]),
  ]);
  const odd = all.find((word) => !/^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(word));
  if (odd !== undefined)
    throw new Error(`the completion scripts cannot contain the word ${JSON.stringify(odd)}`);
}

/** Only our own verbs, flags and options are inserted, which need no quoting; see `assertPlain`. */
const words = (list: readonly string[]): string =>
  `COMPREPLY=($(compgen -W '${list.join(' ')}' -- "$current"))`;

const FILES = 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current"))';

/** @returns the lines of `case "$verb" in`. */
function bashCase(command: CommandText): string[] {
  const { verb, flags } = command;
  const values = flags.filter(({ value }) => value !== null);
  const spelled = (names: readonly { name: string; aliases: readonly string[] }[]): string =>
    names.flatMap(({ name, aliases }) => [`--${name}`, ...aliases.map((alias) => `-${alias}`)]).join(' | ');
  const paths = pathFlags(command);
  const options = argumentOptions(command);
  const others = values.filter(({ options, isPath }) => options.length === 0 && !isPath);
  const previous = [
    ...values
      .filter(({ options }) => options.length > 0)
      .map((flag) => `        ${spelled([flag])}) ${words(flag.options)}; return ;;`),
    ...(paths.length > 0 ? [`        ${spelled(paths)}) ${FILES}; return ;;`] : []),
    // An arbitrary value: offer nothing, not even files.
    ...(others.length > 0 ? [`        ${spelled(others)}) return ;;`] : []),
  ];
  return [
    `    ${verb})`,
    ...(previous.length > 0 ? ['      case "$previous" in', ...previous, '      esac'] : []),
    '      if [[ $current == -* ]]; then',
    `        ${words(flagWords(command))}`,
    ...(options.length > 0
      ? // An action stands first, and a path behind it.
        [
          wantsPaths(command) ? '      elif ((COMP_CWORD == 2)); then' : '      else',
          `        ${words(options)}`,
        ]
      : []),
    ...(wantsPaths(command) ? ['      else', `        ${FILES}`] : []),
    '      fi',
    '      ;;',
  ];
}

/** A script for `source <(graft completion bash)`; needs only bash (4 or later). */
export function renderBash(commands: readonly CommandText[]): string {
  return [
    '# bash completion for graft; in ~/.bashrc: source <(graft completion bash)',
    '_graft() {',
    '  local current="${COMP_WORDS[COMP_CWORD]}" previous="${COMP_WORDS[COMP_CWORD - 1]}" verb="${COMP_WORDS[1]}"',
    '  COMPREPLY=()',
    '  # bash splits --flag=value into three words.',
    '  if [[ $previous == "=" ]]; then previous="${COMP_WORDS[COMP_CWORD - 2]}"; fi',
    '  if [[ $current == "=" ]]; then current=""; fi',
    '  if ((COMP_CWORD == 1)); then',
    `    ${words([...commands.map(({ verb }) => verb), 'help', '--help', '--version'])}`,
    '    return',
    '  fi',
    '  case "$verb" in',
    ...commands.flatMap(bashCase),
    `    help) ${words(commands.map(({ verb }) => verb))} ;;`,
    '  esac',
    '}',
    'complete -F _graft graft',
  ].join('\n');
}

/** Within single quotes fish has two escapes. */
const fishQuoted = (text: string): string => `'${text.replace(/[\\']/g, '\\$&')}'`;

function flagLine(verb: string, { name, aliases, value, options, description, isPath }: FlagText): string {
  const words = [
    `complete -c graft -n '__fish_seen_subcommand_from ${verb}' -l ${name}`,
    ...aliases.map((alias) => `-s ${alias}`),
    // -r: needs a value; -f: no files for it, -F: files despite the command's own -f.
    ...(value === null ? [] : [isPath ? '-r -F' : '-x']),
    ...(options.length > 0 ? [`-a ${fishQuoted(options.join(' '))}`] : []),
    `-d ${fishQuoted(description)}`,
  ];
  return words.join(' ');
}

/** A script for `graft completion fish | source`, or for a file in `~/.config/fish/completions`. */
export function renderFish(commands: readonly CommandText[]): string {
  return [
    '# fish completion for graft; graft completion fish > ~/.config/fish/completions/graft.fish',
    'complete -c graft -f',
    ...commands.flatMap((command) => [
      `complete -c graft -n __fish_use_subcommand -a ${command.verb} -d ${fishQuoted(command.description)}`,
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

/** Inside single quotes. */
const zshQuoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** In a specification of `_arguments` brackets and colons end a description. */
const specText = (text: string): string => text.replace(/[\\[\]:]/g, '\\$&');

function flagSpec({ name, value, options, description, isPath }: FlagText): string {
  if (value === null) return zshQuoted(`--${name}[${specText(description)}]`);
  const action = options.length > 0 ? `(${options.join(' ')})` : isPath ? '_files' : ' ';
  return zshQuoted(`--${name}=[${specText(description)}]:${specText(isPath ? 'path' : name)}:${action}`);
}

function zshCase(command: CommandText): string[] {
  const { verb, flags } = command;
  const options = argumentOptions(command);
  const specs = [
    ...flags.map(flagSpec),
    zshQuoted('--help[Show flags and examples]'),
    // Commands that take one path may take several.
    ...(wantsPaths(command) ? [zshQuoted('*:path:_files')] : []),
    ...(options.length > 0 ? [zshQuoted(`1:value:(${options.join(' ')})`)] : []),
  ];
  return [`    ${verb})`, `      _arguments ${specs.join(' \\\n        ')}`, '      ;;'];
}

/** A script for `source <(graft completion zsh)`, or for a file `_graft` in a folder of `fpath`. */
export function renderZsh(commands: readonly CommandText[]): string {
  return [
    '#compdef graft',
    '# zsh completion for graft; in ~/.zshrc, behind compinit: source <(graft completion zsh)',
    '_graft() {',
    '  local -a verbs',
    '  verbs=(',
    ...commands.map(
      ({ verb, description }) => `    ${zshQuoted(`${verb}:${description.replaceAll(':', '\\:')}`)}`,
    ),
    '  )',
    '  if ((CURRENT == 2)); then',
    "    _describe 'command' verbs",
    '    return',
    '  fi',
    '  local verb="${words[2]}"',
    '  # What follows is completed as if the command were a program of its own.',
    '  shift words',
    '  ((CURRENT--))',
    '  case "$verb" in',
    ...commands.flatMap(zshCase),
    "    help) _describe 'command' verbs ;;",
    '  esac',
    '}',
    '# As a file of fpath it is run to complete; sourced, it makes itself known.',
    'if [[ $funcstack[1] == _graft ]]; then _graft "$@"; else compdef _graft graft; fi',
  ].join('\n');
}
