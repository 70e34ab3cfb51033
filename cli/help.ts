/** citty's definition of a command, in the form that help, completion and docs/reference/commands.md use. */
import type { ArgDef, ArgsDef } from 'citty';
import type { Action, Command, CommandGroup, CommandHelp, CommandModule } from './command.ts';
import { kebab } from './flags.ts';
import { colors, wrapText } from './output.ts';

export interface ArgumentText {
  readonly name: string;
  readonly required: boolean;
  readonly description: string;
  /** The possible values, if its `valueHint` lists them: `a|b`; empty when any will do. */
  readonly options: readonly string[];
  /** A file or folder, by its definition's `valueHint`. */
  readonly isPath: boolean;
}

export interface FlagText {
  /** Without the dashes, as typed; `no-x` for a boolean that is on by default. */
  readonly name: string;
  /** One letter each. */
  readonly aliases: readonly string[];
  /** Placeholder of the value; null when the flag takes none. */
  readonly value: string | null;
  /** The possible values; empty when any will do. */
  readonly options: readonly string[];
  readonly description: string;
  readonly required: boolean;
  /** As text; null when there is none, or for a switch that is off. */
  readonly default: string | null;
  readonly isPath: boolean;
}

export interface CommandText {
  readonly verb: string;
  readonly description: string;
  readonly arguments: readonly ArgumentText[];
  readonly flags: readonly FlagText[];
  readonly examples: CommandHelp['examples'];
  readonly actions: readonly ActionText[];
}

export interface ActionText extends Action {
  readonly name: string;
}

export interface GroupText {
  readonly title: string;
  readonly commands: readonly CommandText[];
}

/** Value hints that mean a path. */
const PATH_HINTS: readonly string[] = ['path', 'file', 'files', 'folder', 'rows.jsonl'];
const isPath = ({ valueHint = '' }: ArgDef): boolean =>
  valueHint.split('|').some((hint) => PATH_HINTS.includes(hint));

/** Ours are literals, never promises or functions. */
export function describeCommand(
  verb: string,
  { summary }: Pick<Command, 'summary'>,
  module: CommandModule,
): CommandText {
  const definitions = Object.entries((module.default.args ?? {}) as ArgsDef);
  return {
    verb,
    description: summary,
    arguments: definitions.flatMap(([name, definition]) =>
      definition.type === 'positional'
        ? [
            {
              name,
              required: definition.required !== false && definition.default === undefined,
              description: definition.description ?? '',
              options: definition.valueHint?.includes('|') ? definition.valueHint.split('|') : [],
              isPath: isPath(definition),
            },
          ]
        : [],
    ),
    flags: definitions.flatMap(([name, definition]) =>
      definition.type === 'positional' ? [] : [describeFlag(name, definition)],
    ),
    examples: module.help?.examples ?? [],
    actions: Object.entries(module.actions ?? {}).map(([name, action]) => ({ name, ...action })),
  };
}

/**
 * One action of a command: only its arguments, flags and examples.
 * @returns `command` when it has no such action.
 */
export function describeAction(command: CommandText, name: string | undefined): CommandText {
  const action = command.actions.find((one) => one.name === name);
  if (action === undefined) return command;
  const others = new Set(command.actions.flatMap(({ flags }) => flags));
  for (const flag of action.flags) others.delete(flag);
  const verb = `${command.verb} ${action.name}`;
  return {
    ...command,
    verb,
    description: action.summary,
    arguments: action.arguments.flatMap((spelling) => {
      const named = command.arguments.filter(({ name }) => name === spelling.replace('?', ''));
      return named.map((argument) => ({ ...argument, required: !spelling.endsWith('?') }));
    }),
    flags: command.flags.filter((flag) => !others.has(flag.name)),
    examples: command.examples.filter(({ line }) => line.includes(`graft ${verb}`)),
    actions: [],
  };
}

function describeFlag(name: string, definition: ArgDef): FlagText {
  const boolean = definition.type === 'boolean' || definition.type === undefined;
  const off = boolean && definition.default === true;
  const options = 'options' in definition ? (definition.options ?? []) : [];
  const hint = options.length > 0 ? options.join('|') : (definition.valueHint ?? kebab(name));
  const aliases = 'alias' in definition ? [definition.alias ?? []].flat() : [];
  return {
    name: off ? `no-${kebab(name)}` : kebab(name),
    aliases: off ? [] : aliases.filter((alias) => alias.length === 1),
    value: boolean ? null : hint,
    options,
    description: off ? `Do not ${lowerFirst(definition.description ?? '')}` : (definition.description ?? ''),
    required: definition.required === true && definition.default === undefined,
    default: boolean || definition.default === undefined ? null : String(definition.default),
    isPath: isPath(definition),
  };
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);

/** Loads every command of the groups. */
export function describeGroups(groups: readonly CommandGroup[]): Promise<GroupText[]> {
  return Promise.all(
    groups.map(async ({ title, commands }) => ({
      title,
      commands: await Promise.all(
        Object.entries(commands).map(async ([verb, command]) =>
          describeCommand(verb, command, await command.load()),
        ),
      ),
    })),
  );
}

/** @returns the flag as it is typed, such as `--to <gguf|peft>`. */
export const flagSpelling = ({ name, aliases, value }: FlagText): string =>
  [...aliases.map((alias) => `-${alias}`), `--${name}`].join(', ') + (value === null ? '' : ` <${value}>`);

/** @returns such as `graft publish <path> --name <name> [flags]`. */
export function usageLine({ verb, arguments: positionals, flags }: CommandText): string {
  const words = positionals.map(({ name, required }) => (required ? `<${name}>` : `[${name}]`));
  const needed = flags
    .filter(({ required }) => required)
    .map((flag) => flagSpelling({ ...flag, aliases: [] }));
  const rest = flags.length > needed.length ? ['[flags]'] : [];
  return ['graft', verb, ...words, ...needed, ...rest].join(' ');
}

/** Width without a terminal, and the maximum with one: longer lines are hard to read. */
export const HELP_WIDTH = 100;
/** Flags wider than this have their text on the next line. */
const WIDEST_LEFT = 30;
/** Minimum width of text, even if the terminal must break it. */
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
    ...wrapText('`graft <command> --help` shows the flags and examples of a command.', width),
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
      : ['', ...wrapText(`\`graft ${command.verb} <action> --help\` shows the flags of one action.`, width)]),
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
