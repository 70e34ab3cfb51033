import type { LimitsChange } from '../../protocol/admin-api/keys.ts';
import type { TenantLimitsView } from '../../protocol/admin-api/tenants.ts';
import { pickAction, type Actions, command } from '../command.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation, callPages } from '../api-client.ts';
import { usageError } from '../flags.ts';
import { limitFlags, limitsChange, type KeyArgs, limitsText } from '../key-flags.ts';
import { plainTable, type Output, when } from '../output.ts';

export const actions = {
  list: { summary: 'List the tenants that have limits', arguments: [], flags: [] },
  set: { summary: 'Set or change limits of a tenant', arguments: ['tenant'], flags: Object.keys(limitFlags) },
  lift: { summary: 'Remove all limits of a tenant', arguments: ['tenant'], flags: [] },
  reset: { summary: 'Reset what a tenant or a key has used', arguments: ['tenant'], flags: [] },
} as const satisfies Actions;

export const limitsCommand = command({
  verb: 'limits',
  examples: [
    { line: 'graft limits', does: 'tenants that have limits' },
    {
      line: 'graft limits set alice --rpm 600 --concurrent 16 --tokens-per-day 5M',
      does: 'for all keys of alice together',
    },
    { line: 'graft limits set alice --rpm none', does: 'removes one limit' },
    { line: 'graft limits lift alice', does: 'removes all limits of the tenant' },
    { line: 'graft limits reset alice', does: 'resets its counters' },
  ],
  actions,
  args: {
    action: {
      type: 'positional',
      description: 'list, set, lift or reset',
      valueHint: Object.keys(actions).join('|'),
      required: false,
    },
    tenant: {
      type: 'positional',
      description: "Tenant; for reset, a key's id works too",
      required: false,
    },
    ...limitFlags,
  },
  async run({ args, output }) {
    const { action, tenant, limits } = parseLimits(args);
    const client = await adminClient();
    if (action === 'list') return list(client, output);
    if (action === 'reset') return reset(client, output, tenant);
    if (action === 'lift') return change(client, output, tenant, null);
    // `set` without limits was refused above.
    if (limits !== undefined) await change(client, output, tenant, limits);
  },
});

/** @throws CliError when an argument is missing or unexpected. */
export function parseLimits(args: KeyArgs): {
  action: keyof typeof actions;
  /** Empty for `list`. */
  tenant: string;
  limits: ReturnType<typeof limitsChange>;
} {
  const word = String(args['action'] ?? 'list');
  const action = pickAction({ verb: 'limits', actions, word, args });
  const tenant = typeof args['tenant'] === 'string' ? args['tenant'] : '';
  const limits = limitsChange(args);
  if (action === 'list' && tenant !== '') throw usageError(`\`graft limits list\` takes no '${tenant}'.`);
  if (action !== 'list' && tenant === '') throw usageError(`Which tenant? graft limits ${action} <tenant>`);
  if (action === 'set' && limits === undefined)
    throw usageError('Which limits? For example --rpm 600, --tokens-per-day 5M, --tpm none.');
  return { action, tenant, limits };
}

async function list(client: ApiClient, output: Output): Promise<void> {
  const route = 'GET /admin/tenants/limits';
  const all = await callPages(client, 'list the limits', route, {}, ({ tenants }) => tenants);
  output.result(all, () => (all.length === 0 ? 'no tenant has limits' : limitsTable(all)));
}

export const limitsTable = (tenants: readonly TenantLimitsView[]): string =>
  plainTable(
    ['TENANT', 'LIMITS', 'SINCE', 'STATE'],
    tenants.map(({ tenant, limits, changed_at, pending }) => [
      tenant,
      limitsText(limits),
      when(changed_at),
      pending ? 'not yet on all keys' : 'in force',
    ]),
  );

async function change(
  client: ApiClient,
  output: Output,
  tenant: string,
  limits: LimitsChange | null,
): Promise<void> {
  const what = `change the limits of ${tenant}`;
  const now = await callOperation(client, what, 'POST /admin/tenants/limits', { body: { tenant, limits } });
  output.result(now, () =>
    now.limits === null
      ? `${tenant} has no limits of its own`
      : `${tenant}: ${limitsText(now.limits)}, for all of its keys together`,
  );
  if (now.pending)
    output.note(
      'The tenant has more keys than one request writes; the schedule updates the rest within minutes.',
    );
}

/** As ids of keys are made. */
const KEY_ID = /^key_[0-9a-f]{16}$/;

async function reset(client: ApiClient, output: Output, whose: string): Promise<void> {
  const body = KEY_ID.test(whose) ? { key: whose } : { tenant: whose };
  const done = await callOperation(client, `reset ${whose}`, 'POST /admin/limits/reset', { body });
  output.result(done, () => `the usage of ${whose} is reset`);
}
