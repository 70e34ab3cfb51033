import type { ArgsDef } from 'citty';
import type { AdminRoute, AnswerOf, CallOf, LiveAnswer, RequestOf } from '../../protocol/index.ts';
import { type CallHow, callOperation } from '../call-operation.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';
import { adminClient } from './admin-client.ts';
import { parseExpect } from './version-argument.ts';

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
