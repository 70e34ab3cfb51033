import type { CommandGroup } from '../command-types.ts';
import { colors } from '../output.ts';
import { wrapText } from '../fit-columns.ts';
import { flagSpelling, usageLine, type CommandText } from './describe-command.ts';

/** Of what does not go to a terminal, and the widest line in one that is wider: longer ones are hard to read. */
export const HELP_WIDTH = 100;
/** A flag that is wider than this has its text on the line below. */
const WIDEST_LEFT = 30;
/** Text that would get less than this gets it nevertheless; the terminal breaks it. */
const LEAST_RIGHT = 22;

/** `graft --help`: every command in its group. @param width columns. */
export function renderRootHelp(params: {
  version: string;
  description: string;
  groups: readonly CommandGroup[];
  width?: number;
}): string {
  const { version, description, groups, width = HELP_WIDTH } = params;
  const left = widest(groups.flatMap(({ commands }) => Object.keys(commands)));
  return [
    `${colors.bold('graft')} ${version}`,
    ...wrapText(description, width),
    '',
    `${colors.bold('usage')}  graft <command> [flags]`,
    ...groups.flatMap(({ title, commands }) => {
      const rows = Object.entries(commands).map(([verb, { summary }]): [string, string] => [verb, summary]);
      return ['', colors.bold(title), ...columns(rows, width, left)];
    }),
    '',
    ...wrapText('`graft <command> --help` shows flags and examples of a command.', width),
  ].join('\n');
}

/** `graft <command> --help`. @param width columns. */
export function renderCommandHelp(command: CommandText, width = HELP_WIDTH): string {
  const positionals = command.arguments.map(({ name, required, description }): [string, string] => [
    required ? `<${name}>` : `[${name}]`,
    description,
  ]);
  const flags = command.flags.map((flag): [string, string] => [
    flagSpelling(flag),
    flag.description +
      (flag.required ? ' (required)' : '') +
      (flag.default === null ? '' : ` (default: ${flag.default})`),
  ]);
  const examples = command.examples.flatMap(({ line, does }) => [
    `  ${line}`,
    ...wrapText(does, width - 6).map((text) => `      ${colors.dim(text)}`),
  ]);
  return [
    ...wrapText(command.description, width),
    '',
    `${colors.bold('usage')}  ${usageLine(command)}`,
    ...section(
      'actions',
      columns(
        command.actions.map(({ name, summary }) => [name, summary]),
        width,
      ),
    ),
    ...section('arguments', columns(positionals, width)),
    ...section('flags', columns(flags, width)),
    ...section('examples', examples),
    ...(command.actions.length === 0
      ? []
      : ['', ...wrapText(`\`graft ${command.verb} <action> --help\` shows what one of them takes.`, width)]),
  ].join('\n');
}

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', colors.bold(title), ...lines];

function columns(
  rows: readonly (readonly [string, string])[],
  width: number,
  left = Math.min(WIDEST_LEFT, widest(rows.map(([text]) => text))),
): string[] {
  const below = ' '.repeat(left + 4);
  return rows.flatMap(([text, meaning]) => {
    const [first = '', ...more] = wrapText(meaning, Math.max(LEAST_RIGHT, width - below.length));
    const begin = `  ${colors.cyan(text.padEnd(left))}`;
    return [
      ...(text.length <= left ? [`${begin}  ${first}`.trimEnd()] : [begin, below + first]),
      ...more.map((line) => below + line),
    ];
  });
}

const widest = (words: readonly string[]): number => Math.max(0, ...words.map((word) => word.length));
