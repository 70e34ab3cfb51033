import {
  NewKey,
  type ChangeKeyRequest,
  type KeyView,
  type RevocationView,
} from '../../protocol/admin-api/keys.ts';
import type { RequestOf, QueryOf } from '../../protocol/admin-api/operations.ts';
import { pickAction, type Actions, command } from '../command.ts';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation, callPages } from '../api-client.ts';
import { parseDuration, usageError } from '../flags.ts';
import {
  CHANGE_FLAGS,
  changeRequest,
  createFlags,
  keyRequest,
  type KeyArgs,
  limitsText,
} from '../key-flags.ts';
import { type Output, when, plainTable } from '../output.ts';

export const actions = {
  list: { summary: 'List keys; the default', arguments: [], flags: ['all'] },
  create: {
    summary: 'Create a key, which is printed once',
    arguments: [],
    flags: [...Object.keys(createFlags), 'expires'],
  },
  change: {
    summary: 'Change limits, scopes, label or policy of a key',
    arguments: ['id'],
    flags: CHANGE_FLAGS,
  },
  rotate: {
    summary: 'Replace a key with a new one; the old one stays valid for a while',
    arguments: ['id'],
    flags: ['grace', 'expires'],
  },
  revoke: {
    summary: 'Revoke a key and the keys that replaced it',
    arguments: ['id'],
    flags: ['made', 'only', 'forget-prompts'],
  },
} as const satisfies Actions;

export const keysCommand = command({
  verb: 'keys',
  examples: [
    { line: 'graft keys', does: 'valid keys' },
    {
      line: 'graft keys create --scopes "medicine/**" --rpm 60 --concurrent 4 --expires 90d',
      does: 'a key with limits, printed once',
    },
    {
      line: 'graft keys rotate key_0123456789abcdef --grace 1h',
      does: 'a new key; the old one stays valid for an hour',
    },
    {
      line: 'graft keys change key_0123456789abcdef --rpm 120 --tpm none',
      does: 'changes one limit and removes another',
    },
    {
      line: 'graft keys change key_0123456789abcdef --keep-prompts 24h',
      does: 'keeps prompts and answers for a day each; none stops that and deletes what is kept',
    },
    {
      line: 'graft keys create --admin --tenant clinic --prompts',
      does: 'an admin key that may read the kept prompts of clinic',
    },
    {
      line: 'graft keys revoke key_0123456789abcdef',
      does: 'revokes a key and the keys that replaced it; lists the keys they created',
    },
    {
      line: 'graft keys revoke key_0123456789abcdef --made',
      does: 'also revokes the keys they created: use it after an admin key was stolen',
    },
    {
      line: 'graft keys revoke key_0123456789abcdef --only',
      does: 'ends a rotated key before its grace period is over; the new one stays valid',
    },
  ],
  actions,
  args: {
    action: {
      type: 'positional',
      description: 'list, create, change, rotate or revoke',
      valueHint: Object.keys(actions).join('|'),
      required: false,
    },
    id: { type: 'positional', description: 'Id of the key to change, rotate or revoke', required: false },
    ...createFlags,
    expires: { type: 'string', description: 'How long a new key is valid: 12h, 90d', valueHint: 'time' },
    grace: {
      type: 'string',
      description: 'How long a rotated key stays valid beside the new one; default: 24h',
      valueHint: 'time',
    },
    all: { type: 'boolean', description: 'List revoked and expired keys as well' },
    made: { type: 'boolean', description: 'Also revoke the keys created by the key or its successors' },
    only: { type: 'boolean', description: 'Revoke this key alone, not the keys that replaced it' },
    'forget-prompts': {
      type: 'boolean',
      description: 'Delete its kept prompts and answers now instead of when they expire',
    },
  },
  async run({ args, output }) {
    const action = pickAction({ verb: 'keys', actions, word: args.action ?? 'list', args });
    const { id } = args;
    const needsId = action !== 'list' && action !== 'create';
    if (needsId && id === undefined)
      throw usageError(`Which key? Give its id, as listed by \`graft keys\`: graft keys ${action} key_….`);
    if (!needsId && id !== undefined) throw usageError(`\`graft keys ${action}\` takes no '${id}'.`);
    const client = await adminClient();
    switch (action) {
      case 'list':
        return list(client, output, args.all === true);
      case 'create':
        return create(client, output, keyRequest(args));
      case 'change':
        return change(client, output, changeRequest(id ?? '', args));
      case 'rotate':
        return rotate(client, output, id ?? '', args);
      case 'revoke':
        if (args.made === true && args.only === true)
          throw usageError('--only and --made cannot be combined: --only revokes no other key.');
        return revokeKey(client, output, {
          id: id ?? '',
          made: args.made === true,
          only: args.only === true,
          forgetPrompts: args['forget-prompts'] === true,
        });
    }
  },
});

async function list(client: ApiClient, output: Output, all: boolean): Promise<void> {
  const keys = await callPages(client, 'list the keys', 'GET /admin/keys', {}, (page) => page.keys);
  const now = Date.now();
  const shown = all ? keys : keys.filter((key) => !isOver(key, now));
  const hidden = keys.length - shown.length;
  output.result(shown, () => (shown.length === 0 ? 'no keys' : keyTable(shown, now)));
  if (hidden > 0) output.note(`${hidden} more revoked or expired: graft keys --all`);
}

async function create(client: ApiClient, output: Output, body: RequestOf<'POST /admin/keys'>): Promise<void> {
  const call = { body, as: NewKey.required({ key: true }) };
  const made = await callOperation(client, 'create a key', 'POST /admin/keys', call);
  output.note(about(made));
  output.note('It is shown only this once:');
  output.result(made, () => made.key);
}

async function change(client: ApiClient, output: Output, body: ChangeKeyRequest): Promise<void> {
  const key = await callOperation(client, 'change the key', 'POST /admin/keys/change', { body });
  output.result(key, () => about(key));
}

async function rotate(client: ApiClient, output: Output, id: string, args: KeyArgs): Promise<void> {
  const { grace, expires } = args;
  const body = {
    id,
    ...(typeof grace === 'string' ? { grace: parseDuration(grace, '--grace') } : {}),
    ...(typeof expires === 'string' ? { expires_in: parseDuration(expires, '--expires') } : {}),
  };
  const made = await callOperation(client, `rotate ${id}`, 'POST /admin/keys/rotate', { body });
  output.note(about(made));
  output.note(
    `${made.replaces} is valid until ${when(made.old_expires_at)}. The new key is shown only this once:`,
  );
  output.result(made, () => made.key);
}

function about(key: KeyView): string {
  const { id, kind, tenant, scopes, limits, expires_at } = key;
  const parts = [
    `${kind === 'api' ? 'API' : 'admin'} key of ${tenant}`,
    scopes.length === 0 ? 'no scopes beyond its own names' : `scopes ${scopesText(key)}`,
    ...(limits === null ? [] : [limitsText(limits)]),
    ...(key.keep_prompts === null ? [] : [`prompts and answers are kept for ${key.keep_prompts}h`]),
    ...(key.prompts ? ['may read kept prompts and answers'] : []),
    ...(expires_at === null ? [] : [`valid until ${when(expires_at)}`]),
  ];
  return `${id}: ${parts.join('; ')}`;
}

interface Revocation {
  id: string;
  /** Also the keys that it and its successors created. */
  made: boolean;
  /** This key only. */
  only: boolean;
  /** Also their kept prompts and answers. */
  forgetPrompts: boolean;
}

/** Revokes a key and prints which keys ended with it. */
export async function revokeKey(client: ApiClient, output: Output, wanted: Revocation): Promise<void> {
  const { id, made, only, forgetPrompts } = wanted;
  const told = await send(client, wanted);
  const others = told.revoked.filter((key) => key.id !== id);
  output.result(
    {
      ...{ id, revoked: true },
      also: others.map((key) => key.id),
      made: told.made.map((key) => key.id),
    },
    () => {
      const also = others.length === 0 ? '' : `, and with it ${others.map((key) => key.id).join(', ')}`;
      const kept = forgetPrompts ? ', and its kept prompts are deleted' : '';
      return `${id} is revoked${also}${kept}; elsewhere this takes effect within about a minute`;
    },
  );
  if (only || made || told.made.length === 0) return;
  output.note(keyTable(told.made, Date.now()));
  output.note(
    `${told.moreMade ? 'These keys and more' : 'These keys'} were created by ` +
      `${others.length === 0 ? 'it' : 'them'} and are still valid. To revoke them too: graft keys revoke ` +
      `${id} --made`,
  );
}

interface Told {
  revoked: KeyView[];
  made: KeyView[];
  moreMade: boolean;
}

/** All pages. */
async function send(client: ApiClient, { id, made, only, forgetPrompts }: Revocation): Promise<Told> {
  const revoked: KeyView[] = [];
  for (let cursor: string | null = null; ;) {
    const query: QueryOf<'DELETE /admin/keys/:id'> = {
      report: 'true',
      ...(made ? { made: 'true' } : {}),
      ...(only ? { successors: 'false' } : {}),
      ...(forgetPrompts ? { forget_prompts: 'true' } : {}),
      cursor,
    };
    const call = { params: { id }, query };
    const page: RevocationView | null = await callOperation(
      client,
      `revoke ${id}`,
      'DELETE /admin/keys/:id',
      call,
    );
    if (page === null) return { revoked, made: [], moreMade: false };
    revoked.push(...page.revoked);
    if (page.cursor === null) return { revoked, made: page.made, moreMade: page.more_made };
    cursor = page.cursor;
  }
}

export const isOver = ({ revoked_at, expires_at }: KeyView, now: number): boolean =>
  revoked_at !== null || (expires_at !== null && expires_at <= now);

/** @param now unix ms. @returns such as `until 2026-01-31 07:30Z, replaced by key_…`. */
export function keyState(key: KeyView, now: number): string {
  const replaced = key.replaced_by === null ? '' : `, replaced by ${key.replaced_by}`;
  if (key.revoked_at !== null) return `revoked${replaced}`;
  if (key.expires_at === null) return `good${replaced}`;
  if (key.expires_at <= now) return `expired${replaced}`;
  return `until ${when(key.expires_at)}${replaced}`;
}

/** @returns such as `medicine/** of clinic, lab of anybody`. */
export const scopesText = ({ scopes, scope_owners }: KeyView): string =>
  scopes.map((scope, i) => `${scope} of ${scope_owners[i] ?? 'anybody'}`).join(', ');

/** @returns `kept 24h`, `reads`, or `-`. */
const promptsText = ({ keep_prompts: hours, prompts }: KeyView): string =>
  hours !== null ? `kept ${hours}h` : prompts ? 'reads' : '-';

/** Columns about prompts appear only if a key has them. */
export function keyTable(keys: readonly KeyView[], now: number): string {
  const prompts = keys.some((key) => promptsText(key) !== '-');
  return plainTable(
    ['ID', 'KIND', 'TENANT', 'SCOPES', 'LIMITS', ...(prompts ? ['PROMPTS'] : []), 'STATE', 'LABEL'],
    keys.map((key) => [
      key.id,
      key.kind,
      key.tenant,
      scopesText(key) || '-',
      limitsText(key.limits),
      ...(prompts ? [promptsText(key)] : []),
      keyState(key, now),
      key.label,
    ]),
  );
}
