import type { GrantView } from '../../protocol/admin-api/grants.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation, callPages, callWithStatus } from '../api-client.ts';
import { askYes } from '../ask-at-terminal.ts';
import { CliError } from '../cli-error.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';
import { type Output, plainTable } from '../output.ts';

interface Wanted {
  scope: string;
  /** `*` = everybody. */
  tenant: string;
  /** The user confirmed that others may use what was made from prompts. */
  made_from_prompts?: true;
}

export const grantCommand = command({
  verb: 'grant',
  examples: [
    {
      line: 'graft grant "medicine/**" --to hospital',
      does: 'the tenant hospital may use medicine and all below it',
    },
    { line: 'graft grant medicine --public', does: 'every key may use medicine, but nothing below it' },
  ],
  args: {
    scope: {
      type: 'positional',
      description: 'Name, or "<name>/**" for everything below it too; omit it to list grants',
      required: false,
    },
    tenant: {
      type: 'positional',
      description: 'With refuse or accept instead of a scope: the tenant whose grants',
      required: false,
    },
    to: { type: 'string', description: 'Tenant that may use it', valueHint: 'tenant' },
    public: { type: 'boolean', description: 'Everybody may use it' },
    'made-from-prompts': {
      type: 'boolean',
      description: 'Also adapters that were made from prompts, without a question',
    },
    remove: { type: 'boolean', description: 'Revoke the grant' },
    held: { type: 'boolean', description: 'List what your tenant was granted, instead of what it granted' },
  },
  async run({ args, output }) {
    const refusal = parseRefusal(args);
    if (refusal !== null) return changeRefusals(await adminClient(), output, refusal);
    const wanted = parseGrant(args);
    const client = await adminClient();
    if (wanted === null) await list(client, output, args.held === true);
    else if (args.remove === true) await takeBack(client, output, wanted);
    else await give(client, output, wanted);
  },
});

/** @returns null when grants should be listed. @throws CliError (usage) */
export function parseGrant(args: {
  scope?: string | undefined;
  to?: string | undefined;
  public?: boolean | undefined;
  remove?: boolean | undefined;
  held?: boolean | undefined;
  'made-from-prompts'?: boolean | undefined;
}): Wanted | null {
  const { scope, to, held = false } = args;
  const isPublic = args.public === true;
  if (scope === undefined) {
    if (to === undefined && !isPublic && args.remove !== true) return null;
    throw usageError('What should be granted? Name it: graft grant "alice/**" --to bob.');
  }
  if (held) throw usageError('--held lists grants. Remove the scope.');
  const path = scope.endsWith('/**') ? scope.slice(0, -3) : scope;
  const problem = scope === '**' ? null : nameProblem(path);
  if (problem !== null) throw usageError(`'${scope}' is neither a name nor "<name>/**": ${problem}.`);
  if (isPublic === (to !== undefined))
    throw usageError(`To whom? Give --to <tenant> or --public: graft grant "${scope}" --to bob.`);
  const confirmed = args['made-from-prompts'] === true ? { made_from_prompts: true as const } : {};
  return { scope, tenant: to ?? '*', ...confirmed };
}

async function list(client: ApiClient, output: Output, held: boolean): Promise<void> {
  const grants = await readGrants(client, held);
  output.result(grants, () => (grants.length === 0 ? 'no grants' : grantTable(grants)));
}

/** A refusal that the user can confirm. */
const isQuestion = (error: unknown): error is CliError =>
  error instanceof CliError &&
  error.code === 'version_conflict' &&
  error.message.includes('made_from_prompts');

async function give(client: ApiClient, output: Output, wanted: Wanted): Promise<void> {
  const send = (body: Wanted) =>
    callWithStatus(client, `grant ${wanted.scope}`, 'POST /admin/grants', { body });
  const made = await send(wanted).catch(async (error: unknown) => {
    if (!isQuestion(error) || (await askYes(`${error.message}\nGrant it?`)) !== true) throw error;
    return send({ ...wanted, made_from_prompts: true });
  });
  const { answer: grant, status } = made;
  const created = status === 201;
  if (grant.notice !== undefined) output.note(grant.notice);
  output.result({ ...grant, created }, () => {
    const already = created ? '' : ' already';
    return `${holderName(grant.tenant)} may${already} use ${grant.scope} of ${grant.owner ?? 'anybody'}`;
  });
}

async function takeBack(client: ApiClient, output: Output, wanted: Wanted): Promise<void> {
  const { scope, tenant } = wanted;
  await callOperation(client, `revoke ${scope}`, 'DELETE /admin/grants', { query: { scope, tenant } });
  output.result(
    { ...wanted, removed: true },
    () =>
      `${scope} is no longer granted to ${holderName(tenant)}; elsewhere this takes effect within ` +
      'about a minute',
  );
}

/** @param held grants received by the key's tenant, instead of those it gave. */
const readGrants = (client: ApiClient, held: boolean): Promise<GrantView[]> =>
  callPages(client, 'list the grants', 'GET /admin/grants', { held: String(held) }, ({ grants }) => grants);

const holderName = (tenant: string): string => (tenant === '*' ? 'everybody' : tenant);

export const grantTable = (grants: readonly GrantView[]): string =>
  plainTable(
    ['SCOPE', 'OWNER', 'GRANTED TO', 'SINCE'],
    grants.map(({ scope, tenant, owner, created_at, refused }) => [
      scope,
      owner ?? 'anybody',
      `${holderName(tenant)}${refused === true ? ' (refused)' : ''}`,
      new Date(created_at).toISOString().slice(0, 10),
    ]),
  );

/** `tenant` null: list whose grants are refused. */
type Refusal = { action: 'refuse'; tenant: string | null } | { action: 'accept'; tenant: string };

/**
 * `graft grant refuse` and `accept`; a grant of a name "refuse" or "accept" has --to or --public.
 * @returns null when it is about grants. @throws CliError (usage)
 */
export function parseRefusal(args: {
  scope?: string | undefined;
  tenant?: string | undefined;
  to?: string | undefined;
  public?: boolean | undefined;
  remove?: boolean | undefined;
  held?: boolean | undefined;
}): Refusal | null {
  const { scope, tenant, to } = args;
  const flags = to !== undefined || args.public === true || args.remove === true || args.held === true;
  if ((scope !== 'refuse' && scope !== 'accept') || (flags && tenant === undefined)) {
    if (tenant === undefined) return null;
    throw usageError(`Unexpected argument '${tenant}'. Give the tenant with --to.`);
  }
  if (flags) throw usageError(`\`graft grant ${scope}\` takes a tenant and no flags.`);
  if (scope === 'refuse') return { action: scope, tenant: tenant ?? null };
  if (tenant === undefined) throw usageError('Whose grants? Name the tenant: graft grant accept bob.');
  return { action: scope, tenant };
}

async function changeRefusals(client: ApiClient, output: Output, wanted: Refusal): Promise<void> {
  if (wanted.tenant === null) return listRefused(client, output);
  const from = wanted.tenant;
  if (wanted.action === 'accept') {
    const call = { query: { from } };
    await callOperation(client, `accept grants of ${from}`, 'DELETE /admin/grants/refuse', call);
    output.result({ from, refused: false }, () => `grants from ${from} are in effect again`);
    return;
  }
  const call = { body: { from } };
  const refusal = await callOperation(client, `refuse grants of ${from}`, 'POST /admin/grants/refuse', call);
  output.result(
    { ...refusal, refused: true },
    () =>
      `grants from ${from} no longer open anything for your tenant; elsewhere this takes effect within ` +
      'about a minute',
  );
}

async function listRefused(client: ApiClient, output: Output): Promise<void> {
  const what = 'list refused tenants';
  const { refusals } = await callOperation(client, what, 'GET /admin/grants/refuse', {});
  output.result(refusals, () =>
    refusals.length === 0
      ? 'no grants are refused'
      : plainTable(
          ['REFUSED', 'SINCE'],
          refusals.map(({ from, created_at }) => [from, new Date(created_at).toISOString().slice(0, 10)]),
        ),
  );
}
