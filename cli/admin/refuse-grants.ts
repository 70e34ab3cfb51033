import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import { usageError } from '../flags.ts';
import { plainTable, type Output } from '../output.ts';

/** `tenant` null: whose grants are refused is listed. */
export type Refusal = { action: 'refuse'; tenant: string | null } | { action: 'accept'; tenant: string };

/**
 * `graft grant refuse` and `accept`; a grant of a name that is called so has --to or --public.
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
    throw usageError(`What is '${tenant}'? To whom a scope is granted stands behind --to.`);
  }
  if (flags) throw usageError(`\`graft grant ${scope}\` takes a tenant and no flags.`);
  if (scope === 'refuse') return { action: scope, tenant: tenant ?? null };
  if (tenant === undefined) throw usageError('Whose grants? Name the tenant: graft grant accept bob.');
  return { action: scope, tenant };
}

export async function changeRefusals(client: ApiClient, output: Output, wanted: Refusal): Promise<void> {
  if (wanted.tenant === null) return list(client, output);
  const from = wanted.tenant;
  if (wanted.action === 'accept') {
    const call = { query: { from } };
    await callOperation(client, `accept grants of ${from}`, 'DELETE /admin/grants/refuse', call);
    output.result({ from, refused: false }, () => `grants of ${from} open what they are for again`);
    return;
  }
  const call = { body: { from } };
  const refusal = await callOperation(client, `refuse grants of ${from}`, 'POST /admin/grants/refuse', call);
  output.result(
    { ...refusal, refused: true },
    () => `grants of ${from} open nothing for your tenant; elsewhere that is seen within about a minute`,
  );
}

async function list(client: ApiClient, output: Output): Promise<void> {
  const what = 'list whose grants are refused';
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
