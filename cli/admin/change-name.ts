import type { ArgsDef } from 'citty';
import {
  type AdminRoute,
  type AnswerOf,
  type CallOf,
  type LiveAnswer,
  type RequestOf,
  type ChangedName,
  nameProblem,
} from '../../protocol/index.ts';
import { type CallHow, callOperation } from '../api-client.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput } from '../output.ts';
import { adminClient } from './admin-client.ts';

/** What every command that changes a name is given. */
interface ChangeArgs {
  readonly why?: string | undefined;
  readonly 'dry-run'?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/** Operations that change a name: all of them take `why` and `dry_run`. */
type NameChange =
  `POST /admin/${'alias' | 'edit' | 'promote' | 'restore' | 'retire' | 'rollback' | 'strict'}` & AdminRoute;

/**
 * Sends a change of a name, and tells what came of it.
 * @param params.what for errors, such as `promote a@2`. @param params.tell in words; `dryRun`: what would be.
 * @throws CliError
 */
export async function sendChange<Route extends NameChange>(
  params: {
    what: string;
    route: Route;
    body: Omit<RequestOf<Route>, 'why' | 'dry_run'>;
    tell: (answer: AnswerOf<Route>, dryRun: boolean) => string;
  },
  args: ChangeArgs,
): Promise<void> {
  const { what, route, tell } = params;
  const output = createOutput({ json: args.json === true });
  const dryRun = args['dry-run'] === true;
  const client = await adminClient();
  const body = { ...params.body, why: args.why, dry_run: dryRun };
  // What was left out is in it again, which TypeScript does not see of a route that it does not know.
  const call = { body } as unknown as CallOf<Route> & CallHow<AnswerOf<Route>>;
  const made = await callOperation(client, what, route, call);
  output.result({ ...(made as object), ...(dryRun ? { dry_run: true } : {}) }, () => tell(made, dryRun));
}

/** Of every command that changes what a name points at. */
export const whyFlag = {
  why: { type: 'string', description: 'Reason, for the history', valueHint: 'text' },
  'dry-run': { type: 'boolean', description: 'Check everything, and change nothing' },
} as const satisfies ArgsDef;

/** Of those that make a version live. */
export const changeFlags = {
  expect: {
    type: 'string',
    description: 'Only if this version is live now (0: none)',
    valueHint: 'version',
  },
  ...whyFlag,
  ...commonFlags,
} as const satisfies ArgsDef;

/** Sends a change of the live version, and tells what came of it. @param what for errors, such as `promote a@2`. */
export async function changeLive<Route extends 'POST /admin/promote' | 'POST /admin/rollback'>(
  params: { what: string; route: Route; body: Omit<RequestOf<Route>, 'why' | 'dry_run' | 'expect'> },
  args: ChangeArgs & { readonly expect?: string | undefined },
): Promise<void> {
  const expect = parseExpect(args.expect);
  const body = { ...params.body, expect } as Omit<RequestOf<Route>, 'why' | 'dry_run'>;
  await sendChange<'POST /admin/promote' | 'POST /admin/rollback'>(
    { ...params, body, tell: flippedText },
    args,
  );
}

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

/** @param where it stands, for the error. @throws CliError (usage) when it is no version. */
export function parseVersion(text: string, where: string): number {
  if (!VERSION.test(text)) throw usageError(`${where}: '${text}' is not the number of a version, such as 3.`);
  return Number(text);
}

/** As {@link parseVersion}, for a flag that may not be given; 0 stands for "none". */
export function parseExpect(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  return text === '0' ? 0 : parseVersion(text, '--expect');
}
