/** Names: list them, their aliases and descriptions, strictness and reservations. */
import {
  type NameView,
  type RemovedName,
  Description,
  Tag,
  type EditAnswer,
} from '../../protocol/admin-api/names.ts';
import type { ReservedRoom, RoomView } from '../../protocol/admin-api/rooms.ts';
import { type ApiClient, callOperation, callPages } from '../api-client.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';
import { plainTable, when } from '../output.ts';
import { noteOf, operationCommand, parseName, whyFlag } from '../admin/operation-command.ts';
import { adminClient } from '../admin/admin-client.ts';

export const lsCommand = command({
  verb: 'ls',
  examples: [
    { line: 'graft ls alice/', does: 'names that begin with alice/' },
    { line: 'graft ls --removed', does: 'what `graft restore` can still restore' },
  ],
  args: {
    prefix: { type: 'positional', description: 'Only names with this prefix', required: false },
    tag: { type: 'string', description: 'Only names with this tag', valueHint: 'tag' },
    removed: {
      type: 'boolean',
      description: 'Names that were removed and can be restored, with the deadline',
    },
  },
  async run({ args, output }) {
    const client = await adminClient();
    if (args.removed === true) {
      if (args.tag !== undefined) throw usageError('Give --tag or --removed, not both.');
      const removed = await allRemoved(client, args.prefix ?? '');
      output.result(removed, () => (removed.length === 0 ? 'nothing was removed' : removedTable(removed)));
      return;
    }
    const all = await allNames(client, args.prefix ?? '');
    const { tag } = args;
    const names = tag === undefined ? all : all.filter(({ tags }) => tags.includes(tag));
    output.result(names, () => (names.length === 0 ? 'no names' : nameTable(names)));
  },
});

/** Columns for strictness, tags and descriptions appear if a name has them. */
export function nameTable(names: readonly NameView[]): string {
  const more: [head: string, cell: (name: NameView) => string][] = [];
  if (names.some(({ strict }) => strict)) more.push(['STRICT', ({ strict }) => (strict ? 'yes' : '-')]);
  if (names.some(({ tags }) => tags.length > 0)) more.push(['TAGS', ({ tags }) => tags.join(' ') || '-']);
  if (names.some(({ description }) => description !== null))
    more.push(['DESCRIPTION', ({ description }) => description ?? '-']);
  return plainTable(
    ['NAME', 'LIVE', 'NEWEST', 'OWNER', ...more.map(([head]) => head)],
    names.map((name) => [...row(name), ...more.map(([, cell]) => cell(name))]),
  );
}

const row = ({ name, version, latest, owner, alias }: NameView): string[] => [
  name,
  alias ? `-> ${alias}` : version === null ? '-' : String(version),
  latest === 0 ? '-' : String(latest),
  owner,
];

const allNames = (client: ApiClient, prefix: string): Promise<NameView[]> =>
  callPages(client, 'list names', 'GET /admin/names', { prefix }, ({ names }) => names);

export function removedTable(removed: readonly RemovedName[]): string {
  return plainTable(
    ['NAME', 'REMOVED', 'VERSIONS', 'OWNER', 'WHEN', 'RESTORABLE UNTIL'],
    removed.map(({ name, whole, versions, owner, removed_at: at, restorable_until: until }) => [
      name,
      whole ? 'name' : versions.length === 1 ? 'version' : 'versions',
      versions.join(', ') || '-',
      owner,
      when(at),
      when(until),
    ]),
  );
}

const allRemoved = (client: ApiClient, prefix: string): Promise<RemovedName[]> =>
  callPages(client, 'list what was removed', 'GET /admin/removed', { prefix }, ({ removed }) => removed);

export const aliasCommand = operationCommand({
  verb: 'alias',
  examples: [
    {
      line: 'graft alias alice/best alice/notes',
      does: 'alice/best stands for the live version of alice/notes',
    },
    { line: 'graft alias alice/best --remove', does: 'removes the alias' },
  ],
  args: {
    name: { type: 'positional', description: 'Name that has no versions of its own', required: true },
    target: { type: 'positional', description: 'Name that it stands for', required: false },
    remove: { type: 'boolean', description: 'Remove the alias' },
    ...whyFlag,
  },
  route: 'POST /admin/alias',
  call(args) {
    const name = parseName(args.name);
    if ((args.target === undefined) !== (args.remove === true))
      throw usageError('Name the target of the alias, or give --remove.');
    const target = args.target === undefined ? null : parseName(args.target);
    return { what: `alias ${name}`, body: { name, target, ...noteOf(args) } };
  },
  tell({ name, target, notice }, dryRun) {
    const what = target === null ? 'no longer an alias' : `an alias of ${target}`;
    return [
      dryRun ? `dry run: ${name} would be ${what}` : `${name} is ${what}`,
      ...(notice === undefined ? [] : [notice]),
    ].join('\n');
  },
});

export const editCommand = operationCommand({
  verb: 'edit',
  examples: [
    {
      line: 'graft edit alice/notes --description "Notes in Alice’s words" --tag team:support',
      does: 'changes its description, and adds a tag',
    },
    { line: 'graft edit alice/notes --untag draft', does: 'removes a tag' },
  ],
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
    description: { type: 'string', description: 'Its description; "" removes it', valueHint: 'text' },
    tag: { type: 'string', description: 'Tags to add, comma-separated', valueHint: 'tag,…' },
    untag: { type: 'string', description: 'Tags to remove, comma-separated', valueHint: 'tag,…' },
    ...whyFlag,
  },
  route: 'POST /admin/edit',
  call(args) {
    const name = parseName(args.name);
    const added = tagsOf(args.tag);
    const taken = tagsOf(args.untag);
    if (args.description === undefined && added.length + taken.length === 0)
      throw usageError('What should change? Give --description, --tag or --untag.');
    const tags = {
      ...(added.length === 0 ? {} : { add_tags: added }),
      ...(taken.length === 0 ? {} : { remove_tags: taken }),
    };
    const description =
      args.description === undefined ? {} : { description: descriptionOf(args.description) };
    return { what: `edit ${name}`, body: { name, ...description, ...tags, ...noteOf(args) } };
  },
  tell: editedText,
});

/** @throws CliError (usage) */
function tagsOf(given: string | undefined): string[] {
  const tags = (given ?? '').split(',').flatMap((tag) => (tag.trim() === '' ? [] : [tag.trim()]));
  for (const tag of tags) {
    const parsed = Tag.safeParse(tag);
    if (!parsed.success) throw usageError(`The tag '${tag}' ${parsed.error.issues[0]!.message}.`);
  }
  return tags;
}

/** @throws CliError (usage) */
function descriptionOf(given: string): string | null {
  if (given.trim() === '') return null;
  const parsed = Description.safeParse(given);
  if (parsed.success) return parsed.data;
  throw usageError(`The description ${parsed.error.issues[0]!.message}.`);
}

export function editedText({ name, description, tags, from }: EditAnswer, dryRun: boolean): string {
  const same = description === from.description && tags.join() === from.tags.join();
  if (same) return `${name} is like this already; nothing ${dryRun ? 'would change' : 'changed'}`;
  return [
    dryRun ? `dry run: ${name} would be` : name,
    `  description  ${description ?? '-'}`,
    `  tags         ${tags.length === 0 ? '-' : tags.join(', ')}`,
  ].join('\n');
}

export const strictCommand = operationCommand({
  verb: 'strict',
  examples: [
    {
      line: 'graft strict medicine/trials --why "no other adapter may answer for a trial"',
      does: 'requests for a missing name below medicine/trials get a 404',
    },
    { line: 'graft strict medicine/trials --off', does: 'its nearest ancestor answers again' },
  ],
  args: {
    name: { type: 'positional', description: 'Name, such as medicine/trials', required: true },
    off: { type: 'boolean', description: 'Make it inheritable again' },
    ...whyFlag,
  },
  route: 'POST /admin/strict',
  call(args) {
    const name = parseName(args.name);
    return { what: `strict ${name}`, body: { name, strict: args.off !== true, ...noteOf(args) } };
  },
  tell({ name, strict, from }, dryRun) {
    const what = strict ? 'strict' : 'not strict';
    if (strict === from) return `${name} is ${what} already; nothing ${dryRun ? 'would change' : 'changed'}`;
    return dryRun ? `dry run: ${name} would be ${what}` : `${name} is ${what}`;
  },
});

export const reserveCommand = command({
  verb: 'reserve',
  examples: [
    { line: 'graft reserve acme --to acme-corp', does: 'nobody else can publish acme or a name below it' },
    { line: 'graft reserve acme --remove', does: 'ends the reservation; existing names keep their owners' },
  ],
  args: {
    name: { type: 'positional', description: 'Name, such as acme', required: true },
    to: { type: 'string', description: 'Tenant that may publish there', valueHint: 'tenant' },
    remove: { type: 'boolean', description: 'End the reservation' },
    ...whyFlag,
  },
  async run({ args, output }) {
    const name = parseName(args.name);
    const { to: tenant, why } = args;
    const remove = args.remove === true;
    const dryRun = args['dry-run'] === true;
    if (remove === (tenant !== undefined))
      throw usageError(`For whom? Give --to <tenant> or --remove: graft reserve ${name} --to acme-corp.`);
    if (remove && (dryRun || why !== undefined))
      throw usageError('--remove takes neither --dry-run nor --why.');
    const client = await adminClient();
    if (tenant === undefined) {
      await callOperation(client, `unreserve ${name}`, 'DELETE /admin/rooms', { query: { name } });
      return output.result({ name, removed: true }, () => `${name} is no longer reserved`);
    }
    const body = { name, tenant, why, dry_run: dryRun };
    const room = await callOperation(client, `reserve ${name}`, 'POST /admin/rooms', { body });
    if (room.notice !== undefined) output.note(room.notice);
    output.result({ ...room, ...(dryRun ? { dry_run: true } : {}) }, () => reservedText(room, dryRun));
  },
});

export function reservedText({ name, tenant, from }: ReservedRoom, dryRun: boolean): string {
  if (from === tenant)
    return `${name} is reserved for ${tenant} already; nothing ${dryRun ? 'would change' : 'changed'}`;
  const before = from === null ? '' : ` (before: for ${from})`;
  return dryRun
    ? `dry run: ${name} would be reserved for ${tenant}${before}`
    : `${name} is reserved for ${tenant}${before}`;
}

export const roomsCommand = command({
  verb: 'rooms',
  examples: [{ line: 'graft rooms', does: 'prefixes reserved for your tenant' }],
  args: {},
  async run({ output }) {
    const client = await adminClient();
    const found = await callPages(
      client,
      'list reserved prefixes',
      'GET /admin/rooms',
      {},
      ({ rooms }) => rooms,
    );
    output.result(found, () => (found.length === 0 ? 'no reserved prefixes' : roomTable(found)));
  },
});

export const roomTable = (rooms: readonly RoomView[]): string =>
  plainTable(
    ['ROOM', 'TENANT', 'SINCE', 'BY'],
    rooms.map(({ name, tenant, created_at, created_by }) => [
      name,
      tenant,
      new Date(created_at).toISOString().slice(0, 10),
      created_by,
    ]),
  );
