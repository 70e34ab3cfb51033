import { EXIT, EXIT_MEANINGS } from '../cli-error.ts';
import { flagSpelling, usageLine, type CommandText, type GroupText } from '../help/describe-command.ts';
import { ENVIRONMENT } from './environment.ts';
import { CONNECTION, INTRODUCTION, OUTPUT } from './sections.ts';

/** A pipe would end the cell. */
const cell = (text: string): string => text.replaceAll('|', '\\|');

const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.map(cell).join(' | ')} |`).join('\n');

const code = (text: string): string => `\`${text}\``;

function commandTable({ title, commands }: GroupText): string {
  const rows = commands.map(({ verb, description }) => [`[\`graft ${verb}\`](#graft-${verb})`, description]);
  return table([title, ''], rows);
}

function commandSection(command: CommandText): string[] {
  const { verb, description, arguments: positionals, flags, examples, notes } = command;
  const rows = [
    ...positionals.map(({ name, required, description: does }) => [
      code(required ? `<${name}>` : `[${name}]`),
      does,
      '',
    ]),
    ...flags.map((flag) => [
      code(flagSpelling(flag)),
      flag.description,
      flag.required ? 'required' : flag.default === null ? '' : code(flag.default),
    ]),
  ];
  const lines = examples.flatMap(({ line, does }) => [`# ${does}`, line, '']);
  return [
    `### graft ${verb}`,
    `${description}.`,
    ['```', usageLine(command), '```'].join('\n'),
    ...(rows.length > 0 ? [table(['argument or flag', 'meaning', 'default'], rows)] : []),
    ...(lines.length > 0 ? [['```sh', ...lines.slice(0, -1), '```'].join('\n')] : []),
    ...notes,
  ];
}

/** docs/cli.md, as Markdown that a formatter has yet to align. */
export function renderCliDocs(groups: readonly GroupText[]): string {
  const exits = (Object.keys(EXIT) as (keyof typeof EXIT)[]).map((name) => [
    String(EXIT[name]),
    EXIT_MEANINGS[name],
  ]);
  return [
    '# The command line',
    '<!-- Written by `npm run docs`; change the definitions in cli/, not this file. -->',
    INTRODUCTION,
    ...groups.map(commandTable),
    '## Where requests go',
    CONNECTION,
    table(
      ['variable', 'meaning', 'default'],
      ENVIRONMENT.map(({ name, meaning, otherwise }) => [code(name), meaning, otherwise]),
    ),
    '## Output',
    OUTPUT,
    table(['exit code', 'meaning'], exits),
    '## Commands',
    ...groups.flatMap(({ commands }) => commands.flatMap(commandSection)),
    '',
  ].join('\n\n');
}
