/** `npm run docs`: writes docs/cli.md from the definitions of the commands. */
import { writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { EXIT, EXIT_MEANINGS } from '../cli-error.ts';
import { COMMAND_GROUPS } from '../command-list.ts';
import { type CommandText, describeGroups, flagSpelling, type GroupText, usageLine } from '../help.ts';

/** Environment variables that commands read. */
const ENVIRONMENT: readonly { name: string; meaning: string; otherwise: string }[] = [
  {
    name: 'GRAFT_URL',
    meaning: 'address of the edge',
    otherwise: 'from `.graft/local.json`, or the last login',
  },
  { name: 'GRAFT_KEY', meaning: 'API key, `gk_…`, with `GRAFT_URL`', otherwise: 'the same' },
  { name: 'GRAFT_ADMIN_KEY', meaning: 'admin key, `ga_…`, with `GRAFT_URL`', otherwise: 'the same' },
  { name: 'GRAFT_CACHE', meaning: 'base models and prepared graphs', otherwise: '`~/.cache/graft`' },
  {
    name: 'XDG_CONFIG_HOME',
    meaning: 'folder that holds `graft/credentials.json`',
    otherwise: '`~/.config`',
  },
  { name: 'NO_COLOR', meaning: 'plain text; so do pipes', otherwise: '' },
];

const INTRODUCTION =
  '`node bin/graft.mjs …`, or `npx graft …` in this folder; outside of a checkout `npx graft-lora …`, and `npx graft-lora-origin …` for what needs origin or edge (`dev`, `origin`, `edge`, `deploy`, `pull`, `base`), which is every other command, too. `graft <command> --help` prints the flags and examples of a command. On a terminal, tables and help keep to its width: names lose their middle (`medicine/car…dr-lee`); a pipe gets whole lines. `npm run docs` writes this page from the same definitions.';

const CONNECTION = [
  'A command that talks to a server takes, in this order:',
  '1. the environment: `GRAFT_URL`, `GRAFT_KEY` (inference: `run`) and `GRAFT_ADMIN_KEY` (everything else);',
  '2. `.graft/local.json` of the current folder, which `graft dev` writes there when everything is ready and removes when it ends: `{url, key, adminKey, originUrl, base}`, readable by you alone;',
  '3. `~/.config/graft/credentials.json`, which `graft login` writes: keys by server, and the server of the last login.',
  '',
  'A key goes only where it belongs: with `GRAFT_URL` set, the local file is not read, and from the credentials only the keys of that very address are taken. `GRAFT_KEY` and `GRAFT_ADMIN_KEY` go to `GRAFT_URL`, or to the stack of the current folder, and are refused without either. `.graft/local.json` may name this machine only, since it may have come with a checkout. The credentials file is refused when anybody but its owner may read it (`chmod 600` makes it right again). No command prints a key, except `graft dev`, which prints the one it made for this machine, and `graft keys create` and `rotate`, which print the new one once.',
].join('\n');

const OUTPUT =
  'Results go to stdout; progress and notes to stderr, progress only when stderr is a terminal. `--json` prints one JSON document on stdout, and a failure as `{"error":{"code","message"}}` on stderr. Where a command finds what it was asked to look for and the answer is no (`graft verify`), both are printed.';

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
  const { verb, description, arguments: positionals, flags, examples, notes, actions } = command;
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
    ...notes,
  ];
}

/** docs/cli.md, as Markdown that a formatter has yet to align. */
function renderCliDocs(groups: readonly GroupText[]): string {
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

export const CLI_DOCS = fileURLToPath(new URL('../../docs/cli.md', import.meta.url));

/** @returns what docs/cli.md has to hold, formatted as the rest of the repository. */
export async function cliDocs(): Promise<string> {
  const markdown = renderCliDocs(await describeGroups(COMMAND_GROUPS));
  return format(markdown, { ...(await resolveConfig(CLI_DOCS)), parser: 'markdown' });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await writeFile(CLI_DOCS, await cliDocs());
