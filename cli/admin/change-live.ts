import type { ArgsDef } from 'citty';
import type { LiveAnswer, RequestOf } from '../../protocol/index.ts';
import { commonFlags } from '../flags.ts';
import { sendChange, type ChangeArgs } from './send-change.ts';
import { parseExpect } from './version-argument.ts';

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
