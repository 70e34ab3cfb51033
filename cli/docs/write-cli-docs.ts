/**
 * `npm run docs`: writes what docs/cli.md has of the commands' definitions. The rest of the page is written by hand: what
 * stands before its list of commands outside of the marks, and of a command what follows `<!-- notes -->`.
 */
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { EXIT, EXIT_MEANINGS } from '../cli-error.ts';
import { COMMAND_GROUPS } from '../command-list.ts';
import { type CommandText, describeGroups, flagSpelling, type GroupText, usageLine } from '../help.ts';

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
  const { verb, description, arguments: positionals, flags, examples, actions } = command;
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
    ['```text', usageLine(command), '```'].join('\n'),
    ...(actions.length > 0
      ? [
          table(
            ['action', ''],
            actions.map(({ name, summary }) => [code(name), summary]),
          ),
        ]
      : []),
    ...(rows.length > 0 ? [table(['argument or flag', 'meaning', 'default'], rows)] : []),
    ...(lines.length > 0 ? [['```sh', ...lines.slice(0, -1), '```'].join('\n')] : []),
  ];
}

const NOTES = '<!-- notes -->';
const COMMANDS = '## Commands';

/** @returns the page with `text` between its marks of that name. @throws Error when it has none. */
function between(page: string, name: string, text: string): string {
  const [open, close] = [`<!-- ${name} -->`, `<!-- /${name} -->`];
  const [start, end] = [page.indexOf(open), page.indexOf(close)];
  if (start < 0 || end < start) throw new Error(`docs/cli.md has no ${open} … ${close}`);
  return `${page.slice(0, start + open.length)}\n\n${text}\n\n${page.slice(end)}`;
}

/** @returns what the page says by hand of each command, by its verb. */
function notesOf(sections: string): Map<string, string> {
  return new Map(
    sections.split(/^### graft (?=\S+$)/m).flatMap((section): [string, string][] => {
      const at = section.indexOf(NOTES);
      return at < 0 ? [] : [[section.slice(0, section.indexOf('\n')), section.slice(at).trimEnd()]];
    }),
  );
}

/** @param page as it is. @returns docs/cli.md, as Markdown that a formatter has yet to align. */
function renderCliDocs(page: string, groups: readonly GroupText[]): string {
  const exits = (Object.keys(EXIT) as (keyof typeof EXIT)[]).map((name) => [
    String(EXIT[name]),
    EXIT_MEANINGS[name],
  ]);
  const [head = '', sections = ''] = page.split(`\n${COMMANDS}\n`);
  const notes = notesOf(sections);
  const lists = between(head, 'commands', groups.map(commandTable).join('\n\n'));
  return [
    between(lists, 'exit codes', table(['exit code', 'meaning'], exits)),
    COMMANDS,
    ...groups.flatMap(({ commands }) =>
      commands.flatMap((command) => [...commandSection(command), notes.get(command.verb) ?? '']),
    ),
    '',
  ].join('\n\n');
}

export const CLI_DOCS = fileURLToPath(new URL('../../docs/cli.md', import.meta.url));

/** @returns what docs/cli.md has to hold, formatted as the rest of the repository. */
export async function cliDocs(): Promise<string> {
  const page = await readFile(CLI_DOCS, 'utf8');
  const markdown = renderCliDocs(page, await describeGroups(COMMAND_GROUPS));
  return format(markdown, { ...(await resolveConfig(CLI_DOCS)), parser: 'markdown' });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(CLI_DOCS, await cliDocs());
