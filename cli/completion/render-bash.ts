import type { CommandText } from '../help/describe-command.ts';
import { argumentOptions, flagWords, pathFlags, wantsPaths } from './completion-words.ts';

/** Only our own verbs, flags and options come in, which need no quoting; see `completion-words.ts`. */
const words = (list: readonly string[]): string =>
  `COMPREPLY=($(compgen -W '${list.join(' ')}' -- "$current"))`;

const FILES = 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current"))';

/** @returns the lines of `case "$verb" in`. */
function commandCase(command: CommandText): string[] {
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
    // A value that nobody can guess: nothing is offered, least of all files.
    ...(others.length > 0 ? [`        ${spelled(others)}) return ;;`] : []),
  ];
  return [
    `    ${verb})`,
    ...(previous.length > 0 ? ['      case "$previous" in', ...previous, '      esac'] : []),
    '      if [[ $current == -* ]]; then',
    `        ${words(flagWords(command))}`,
    ...(wantsPaths(command) ? ['      else', `        ${FILES}`] : []),
    ...(options.length > 0 ? ['      else', `        ${words(options)}`] : []),
    '      fi',
    '      ;;',
  ];
}

/** A script for `source <(graft completion bash)`; needs nothing but bash (4 or later). */
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
    ...commands.flatMap(commandCase),
    `    help) ${words(commands.map(({ verb }) => verb))} ;;`,
    '  esac',
    '}',
    'complete -F _graft graft',
  ].join('\n');
}
