import type { AdminRoute, AnswerOf, CallOf, RequestOf } from '../../protocol/index.ts';
import { callOperation, type CallHow } from '../call-operation.ts';
import { createOutput } from '../output.ts';
import { adminClient } from './admin-client.ts';

/** What every command that changes a name is given. */
export interface ChangeArgs {
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
