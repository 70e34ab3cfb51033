/**
 * `npm run docs`: writes docs/reference/ from the sources. Of commands.md two things are written by hand: what stands
 * before its list of commands, and of a command what follows `<!--notes-->`.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import { Registry } from 'prom-client';
import { z } from 'zod';
import { EXIT, EXIT_MEANINGS } from '../cli/cli-error.ts';
import { COMMAND_GROUPS } from '../cli/command-list.ts';
import { type CommandText, describeGroups, type FlagText, flagSpelling, usageLine } from '../cli/help.ts';
import { createMetrics } from '../gpu-origin/http/metrics.ts';
import { ADMIN_ROUTES, adminOperation } from '../protocol/admin-api/operations.ts';
import { API_ERROR_CODES, API_ERROR_HELP, errorStatus } from '../protocol/api-error.ts';
import { limitReader, SHOWN_LIMITS } from './read-limits.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDER = 'docs/reference';
const GENERATED = '<!-- `npm run docs` writes this page. -->';

const code = (text: string): string => `\`${text}\``;
const list = (lines: readonly string[]): string => lines.map((line) => `- ${line}`).join('\n');

/** Flags that at least this many commands share are explained once. */
const OFTEN = 3;
const NOTES = '<!--notes-->';
const COMMANDS = '<!--commands-->';
const SAME_AS = /^The same as `graft (\S+)`$/;

const flagLine = (flag: FlagText): string => {
  const without = flag.default === null ? '' : ` Default: ${code(flag.default)}.`;
  return `${code(flagSpelling(flag))}: ${sentence(flag.description)}${without}`;
};

const sentence = (text: string): string => (/[.!?]$/.test(text) ? text : `${text}.`);

/** @param common flags that are explained once, by their lines. @param aliases other verbs that do the same. */
function commandSection(
  command: CommandText,
  common: ReadonlySet<string>,
  aliases: readonly string[],
): string[] {
  const { verb, description, arguments: positionals, flags, examples, actions } = command;
  const own = flags.filter((flag) => !common.has(flagLine(flag)));
  const shared = flags.filter((flag) => common.has(flagLine(flag)) && flag.name !== 'json');
  const lines = [
    ...actions.map(({ name, summary }) => `${code(name)}: ${sentence(summary)}`),
    ...positionals
      .filter(({ name }) => name !== 'action')
      .map(
        ({ name, required, description: does }) =>
          `${code(required ? `<${name}>` : `[${name}]`)}: ${sentence(does)}`,
      ),
    ...own.map(flagLine),
    ...(shared.length === 0 ? [] : [`Also ${shared.map(({ name }) => code(`--${name}`)).join(', ')}.`]),
  ];
  const shown = examples.flatMap(({ line, does }) => [`# ${does}`, line, '']);
  return [
    `### graft ${verb}`,
    [
      sentence(description),
      code(usageLine(command).replace(' [flags]', '')),
      ...aliases.map((alias) => `Also ${code(`graft ${alias}`)}.`),
    ].join(' '),
    ...(lines.length > 0 ? [list(lines)] : []),
    ...(shown.length > 0 ? [['```sh', ...shown.slice(0, -1), '```'].join('\n')] : []),
  ];
}

/** @returns what the page says by hand of each command, by its verb. */
function notesOf(page: string): Map<string, string> {
  return new Map(
    page.split(/^### graft (?=\S+$)/m).flatMap((section): [string, string][] => {
      const at = section.indexOf(NOTES);
      if (at < 0) return [];
      const notes = section.slice(at).split(/^## /m)[0] ?? '';
      return [[section.slice(0, section.indexOf('\n')), notes.trimEnd()]];
    }),
  );
}

/** @param page as it is. */
async function commandsPage(page: string): Promise<string> {
  const groups = await describeGroups(COMMAND_GROUPS);
  const all = groups.flatMap(({ commands }) => commands);
  const aliasOf = ({ description }: CommandText): string | null => SAME_AS.exec(description)?.[1] ?? null;
  const real = all.filter((command) => aliasOf(command) === null);
  const count = new Map<string, number>();
  for (const line of real.flatMap(({ flags }) => flags.map(flagLine)))
    count.set(line, (count.get(line) ?? 0) + 1);
  const common = new Set([...count].filter(([, times]) => times >= OFTEN).map(([line]) => line));
  const [head = ''] = page.split(COMMANDS);
  const notes = notesOf(page);
  return [
    `${head.trimEnd()}\n\n${COMMANDS}`,
    `## Flags of many commands`,
    list([...common]),
    ...groups.flatMap(({ title, commands }) => [
      `## Commands: ${title}`,
      ...commands
        .filter((command) => real.includes(command))
        .flatMap((command) => {
          const aliases = all.filter((one) => aliasOf(one) === command.verb).map(({ verb }) => verb);
          return [...commandSection(command, common, aliases), notes.get(command.verb) ?? ''];
        }),
    ]),
  ].join('\n\n');
}

const TAGS = {
  adapters: 'Adapters, names and versions',
  experiments: 'Experiments',
  keys: 'Keys and limits',
  grants: 'Grants',
  rooms: 'Reserved rooms',
  operation: 'Operation',
} as const;

function adminApiPage(): string {
  const operations = ADMIN_ROUTES.map((route) => ({ route, ...adminOperation(route) }));
  return [
    '# Admin API',
    GENERATED,
    'Publish, roll back, run experiments and manage keys over HTTP. Send an admin key: `authorization: Bearer ga_…`. It acts for its tenant. Operations marked **operator** need the bootstrap key, which sees every tenant.',
    '[`graft openapi`](commands.md#graft-openapi) prints the OpenAPI 3.1 document of your server, with every body and answer; `graft-lora/protocol` exports the same as zod schemas. Rules that JSON Schema cannot express, such as weights that sum to 1, are checked by the server alone. Newer servers may add fields to answers: ignore the ones you don’t know.',
    'Errors are listed in [errors.md](errors.md), sizes and rates in [limits.md](limits.md).',
    ...(Object.keys(TAGS) as (keyof typeof TAGS)[]).flatMap((tag) => [
      `## ${TAGS[tag]}`,
      list(
        operations
          .filter((operation) => operation.tag === tag)
          .map(({ route, summary, rights }) => {
            const operator = rights === 'operator' ? ' **operator**' : '';
            return `${code(route)}${operator}: ${summary.replace(' Bootstrap key only.', '')}`;
          }),
      ),
    ]),
  ].join('\n\n');
}

function errorsPage(): string {
  const byStatus = API_ERROR_CODES.map((one) => ({ code: one, status: statusOf(one) })).sort(
    (a, b) => a.status - b.status,
  );
  return [
    '# Errors',
    GENERATED,
    'Look up what a code means and what to do. How errors look on the wire, and which headers tell clients to retry, is in [openai-api.md](../openai-api.md#errors). Every `reason` of `adapter_invalid` is in [adapter-format.md](../adapter-format.md#codes).',
    '## Codes of the API',
    list(byStatus.map(({ code: one, status }) => `${code(one)} (${status}): ${API_ERROR_HELP[one]}`)),
    '## Exit codes of graft',
    'With `--json`, a failure is `{"error": {"code", "message", "next"}}` on stderr. `code` is the server’s, or one of the command’s own, such as `port_taken`; the message says what to do, and `next` is the command that follows, if there is one. Without `--json` it is a second line, `next: …`.',
    list(
      (Object.keys(EXIT) as (keyof typeof EXIT)[]).map((name) => `${EXIT[name]}: ${EXIT_MEANINGS[name]}.`),
    ),
  ].join('\n\n');
}

/** Other fields do not matter to it. */
const statusOf = (one: (typeof API_ERROR_CODES)[number]): number =>
  errorStatus({ code: one } as Parameters<typeof errorStatus>[0]);

function limitsPage(): string {
  const read = limitReader(ROOT);
  return [
    '# Limits',
    GENERATED,
    'Look up how large, how many and how long. Limits of keys and tenants, which you set yourself, are in [keys-and-limits.md](../run/keys-and-limits.md). An isolate is one instance of the edge; Cloudflare runs many.',
    ...SHOWN_LIMITS.flatMap(({ title, limits }) => [
      `## ${title}`,
      list(
        Object.entries(limits).flatMap(([file, names]) =>
          names.map((name) => {
            const { value, text } = read(file, name);
            return `${code(name)}: ${value}. ${sentence(text)}`;
          }),
        ),
      ),
    ]),
  ].join('\n\n');
}

/** Of prom-client's metrics; its types leave the labels out. */
const Described = z.array(
  z.object({ name: z.string(), help: z.string(), type: z.string(), labelNames: z.array(z.string()) }),
);

function metricsPage(): string {
  const registry = new Registry();
  createMetrics(registry);
  const metrics = Described.parse(registry.getMetricsAsArray());
  return [
    '# Metrics of an origin',
    GENERATED,
    'Every origin answers `GET /metrics` in Prometheus’ format. [alerts.md](../run/alerts.md) says who may read it and what to watch; [deploy/grafana/origins.json](../../deploy/grafana/origins.json) is a dashboard of it.',
    list(
      metrics.map(({ name, help, type, labelNames }) => {
        const labels = labelNames.length === 0 ? '' : `, by ${labelNames.map(code).join(', ')}`;
        return `${code(name)} (${type}${labels}): ${help}`;
      }),
    ),
  ].join('\n\n');
}

/** @returns what each page has to hold, by its path, formatted as the rest of the repository. */
export async function referencePages(): Promise<Map<string, string>> {
  const commands = path.join(FOLDER, 'commands.md');
  const pages: [string, string][] = [
    [commands, await commandsPage(await readFile(path.join(ROOT, commands), 'utf8'))],
    [path.join(FOLDER, 'admin-api.md'), adminApiPage()],
    [path.join(FOLDER, 'errors.md'), errorsPage()],
    [path.join(FOLDER, 'limits.md'), limitsPage()],
    [path.join(FOLDER, 'metrics.md'), metricsPage()],
  ];
  const options = { ...(await resolveConfig(path.join(ROOT, commands))), parser: 'markdown' };
  return new Map(
    await Promise.all(
      pages.map(async ([file, text]): Promise<[string, string]> => [file, await format(text, options)]),
    ),
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [file, text] of await referencePages()) await writeFile(path.join(ROOT, file), text);
