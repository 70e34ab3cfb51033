import type { z } from 'zod';
import { createOutput } from '../output.ts';
import { adminClient } from './admin-client.ts';

/** What every command that changes a name is given. */
export interface ChangeArgs {
  readonly why?: string | undefined;
  readonly 'dry-run'?: boolean | undefined;
  readonly json?: boolean | undefined;
}

/**
 * Sends a change of a name, and tells what came of it.
 * @param params.what for errors, such as `promote a@2`. @param params.tell in words; `dryRun`: what would be.
 * @throws CliError
 */
export async function sendChange<Answer extends object>(
  params: {
    what: string;
    path: string;
    body: Record<string, unknown>;
    answer: z.ZodType<Answer>;
    tell: (answer: Answer, dryRun: boolean) => string;
  },
  args: ChangeArgs,
): Promise<void> {
  const { what, path, answer, tell } = params;
  const output = createOutput({ json: args.json === true });
  const dryRun = args['dry-run'] === true;
  const client = await adminClient();
  const body = JSON.stringify({ ...params.body, why: args.why, dry_run: dryRun });
  const response = await client.send(what, path, { method: 'POST', body });
  const made = answer.parse(await response.json());
  output.result({ ...made, ...(dryRun ? { dry_run: true } : {}) }, () => tell(made, dryRun));
}
