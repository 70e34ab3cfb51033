import { colors } from '../output.ts';
import { flagSpelling, usageLine, type CommandText, type GroupText } from './describe-command.ts';

/** `graft --help`: every command in its group. */
export function renderRootHelp(params: {
  version: string;
  description: string;
  groups: readonly GroupText[];
}): string {
  const { version, description, groups } = params;
  const width = widest(groups.flatMap(({ commands }) => commands.map(({ verb }) => verb)));
  return [
    `${colors.bold('graft')} ${version}  ${description}`,
    '',
    `${colors.bold('usage')}  graft <command> [flags]`,
    ...groups.flatMap(({ title, commands }) => [
      '',
      colors.bold(title),
      ...commands.map(({ verb, description }) => `  ${colors.cyan(verb.padEnd(width))}  ${description}`),
    ]),
    '',
    '`graft <command> --help` shows flags and examples of a command.',
  ].join('\n');
}

/** `graft <command> --help`. */
export function renderCommandHelp(command: CommandText): string {
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
  const examples = command.examples.flatMap(({ line, does }) => [`  ${line}`, `      ${colors.dim(does)}`]);
  return [
    command.description,
    '',
    `${colors.bold('usage')}  ${usageLine(command)}`,
    ...section('arguments', columns(positionals)),
    ...section('flags', columns(flags)),
    ...section('examples', examples),
  ].join('\n');
}

const section = (title: string, lines: readonly string[]): string[] =>
  lines.length === 0 ? [] : ['', colors.bold(title), ...lines];

function columns(rows: readonly (readonly [string, string])[]): string[] {
  const width = widest(rows.map(([left]) => left));
  return rows.map(([left, right]) => `  ${colors.cyan(left.padEnd(width))}  ${right}`.trimEnd());
}

const widest = (words: readonly string[]): number => Math.max(0, ...words.map((word) => word.length));
