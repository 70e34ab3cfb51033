/** Commands that are one operation of the admin API, and helpers for those that change names. */
import type { ArgsDef, ParsedArgs } from 'citty';
import type { ChangedName, LiveAnswer } from '../../protocol/admin-api/names.ts';
import type { AdminRoute, AnswerOf, CallOf } from '../../protocol/admin-api/operations.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { type CallHow, callOperation } from '../api-client.ts';
import { command, type CommandHelp } from '../command.ts';
import { usageError } from '../flags.ts';
import { adminClient } from './admin-client.ts';

/** A row: how arguments become the operation's input, and the text of its answer. */
interface OperationRow<Args extends ArgsDef, Route extends AdminRoute> {
  readonly verb: string;
  readonly examples?: CommandHelp['examples'];
  readonly args: Args;
  readonly route: Route;
  /** @returns the call, and what it is for errors, such as `promote a@2`. @throws CliError (usage) */
  call(args: ParsedArgs<Args>): CallOf<Route> & { readonly what: string };
  /** @param dryRun for the text of a dry run. */
  tell(answer: AnswerOf<Route>, dryRun: boolean): string;
  /** Called after printing the answer. @throws CliError if the result is not what was wanted. */
  check?(answer: AnswerOf<Route>): void;
}

export const operationCommand = <const Args extends ArgsDef, Route extends AdminRoute>(
  row: OperationRow<Args, Route>,
) =>
  command({
    verb: row.verb,
    ...(row.examples === undefined ? {} : { examples: row.examples }),
    args: row.args,
    async run({ args, output }) {
      const { what, ...call } = row.call(args as ParsedArgs<Args>);
      const client = await adminClient();
      // TypeScript cannot see that everything but `what` is the call, as the route is generic.
      const asked = call as unknown as CallOf<Route> & CallHow<AnswerOf<Route>>;
      const answer = await callOperation(client, what, row.route, asked);
      const dryRun = (args as { 'dry-run'?: boolean })['dry-run'] === true;
      output.result(dryRun ? { ...(answer as object), dry_run: true } : answer, () =>
        row.tell(answer, dryRun),
      );
      row.check?.(answer);
    },
  });

/** Flags of every command that changes a name's target. */
export const whyFlag = {
  why: { type: 'string', description: 'Reason, recorded in the history', valueHint: 'text' },
  'dry-run': { type: 'boolean', description: 'Check everything, but change nothing' },
} as const satisfies ArgsDef;

/** These flags as the body's fields. */
export const noteOf = ({
  why,
  'dry-run': dryRun,
}: {
  why?: string | undefined;
  'dry-run'?: boolean | undefined;
}): { why: string | undefined; dry_run: boolean } => ({ why, dry_run: dryRun === true });

/** Flags of commands that make a version live. */
export const changeFlags = {
  expect: {
    type: 'string',
    description: 'Only if this version is live now (0: none)',
    valueHint: 'version',
  },
  ...whyFlag,
} as const satisfies ArgsDef;

export function flippedText({ name, version, from }: LiveAnswer, dryRun: boolean): string {
  const now = `${name}@${version}`;
  if (from === version) return `${now} is live already; nothing ${dryRun ? 'would change' : 'changed'}`;
  const before = from === null ? 'nothing was live before' : `before: ${name}@${from}`;
  return dryRun
    ? `dry run: ${now} would be live (now: ${from === null ? 'nothing' : `${name}@${from}`})`
    : `${now} is live (${before})`;
}

/** @returns such as `notes: versions 1 to 3, 3 live`. */
export function changedNameText({ name, whole, versions, live, alias }: ChangedName): string {
  if (alias !== null) return `${name}: alias of ${alias}`;
  if (!whole) return versions.map((version) => `${name}@${version}`).join(', ');
  if (versions.length === 1) return `${name}: version ${versions[0]}, ${live === null ? 'not live' : 'live'}`;
  return `${name}: versions ${ranges(versions)}, ${live === null ? 'none' : live} live`;
}

/** @param numbers in their order. @returns such as `1 to 3, 7`. */
function ranges(numbers: readonly number[]): string {
  const runs: [from: number, to: number][] = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] + 1 === number) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([from, to]) => (from === to ? String(from) : `${from} to ${to}`)).join(', ');
}

const VERSION = /^[1-9]\d{0,8}$/;

/** @throws CliError (usage) unless it is a legal name. */
export function parseName(text: string): string {
  const problem = nameProblem(text);
  if (problem !== null) throw usageError(`'${text}': ${problem}.`);
  return text;
}

/** `name` or `name@version`. @throws CliError (usage) when it is neither. */
export function parseReference(text: string): { name: string; version: number | null } {
  const at = text.lastIndexOf('@');
  if (at < 0) return { name: parseName(text), version: null };
  return { name: parseName(text.slice(0, at)), version: parseVersion(text.slice(at + 1), text) };
}

/** @param where for the error. @throws CliError (usage) unless it is a version. */
export function parseVersion(text: string, where: string): number {
  if (!VERSION.test(text)) throw usageError(`${where}: '${text}' is not a version number, such as 3.`);
  return Number(text);
}

/** Like {@link parseVersion}, for an optional flag; 0 stands for "none". */
export function parseExpect(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return text === '0' ? 0 : parseVersion(text, '--expect');
}
