import type { CommandText, FlagText } from '../help/describe-command.ts';
import { argumentOptions, wantsPaths } from './completion-words.ts';

/** Inside single quotes. */
const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** In a specification of `_arguments` brackets and colons end a description. */
const specText = (text: string): string => text.replace(/[\\[\]:]/g, '\\$&');

function flagSpec({ name, value, options, description, isPath }: FlagText): string {
  if (value === null) return quoted(`--${name}[${specText(description)}]`);
  const action = options.length > 0 ? `(${options.join(' ')})` : isPath ? '_files' : ' ';
  return quoted(`--${name}=[${specText(description)}]:${specText(isPath ? 'path' : name)}:${action}`);
}

function commandCase(command: CommandText): string[] {
  const { verb, flags } = command;
  const options = argumentOptions(command);
  const specs = [
    ...flags.map(flagSpec),
    quoted('--help[Show flags and examples]'),
    // Commands that take one path may take several.
    ...(wantsPaths(command) ? [quoted('*:path:_files')] : []),
    ...(options.length > 0 ? [quoted(`1:value:(${options.join(' ')})`)] : []),
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
      ({ verb, description }) => `    ${quoted(`${verb}:${description.replaceAll(':', '\\:')}`)}`,
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
    ...commands.flatMap(commandCase),
    "    help) _describe 'command' verbs ;;",
    '  esac',
    '}',
    '# As a file of fpath it is run to complete; sourced, it makes itself known.',
    'if [[ $funcstack[1] == _graft ]]; then _graft "$@"; else compdef _graft graft; fi',
  ].join('\n');
}
