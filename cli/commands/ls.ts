import { defineCommand } from 'citty';
import type { NameList, NameView, RemovedList, RemovedName } from '../../protocol/index.ts';
import { createApiClient, type ApiClient, callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags, usageError } from '../flags.ts';
import { createOutput, plainTable, when } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft ls alice/', does: 'names that begin with alice/' },
    { line: 'graft ls --removed', does: 'what `graft restore` can still bring back' },
  ],
};

export default defineCommand({
  meta: { name: 'ls' },
  args: {
    prefix: { type: 'positional', description: 'Only names that begin so', required: false },
    tag: { type: 'string', description: 'Only names with this tag', valueHint: 'tag' },
    removed: { type: 'boolean', description: 'What was removed and can be restored, with until when' },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
    if (args.removed === true) {
      if (args.tag !== undefined) throw usageError('Give --tag or --removed, not both.');
      const removed = await allRemoved(client, args.prefix ?? '');
      output.result(removed, () => (removed.length === 0 ? 'nothing is removed' : removedTable(removed)));
      return;
    }
    const all = await allNames(client, args.prefix ?? '');
    const { tag } = args;
    const names = tag === undefined ? all : all.filter(({ tags }) => tags.includes(tag));
    output.result(names, () => (names.length === 0 ? 'no names' : nameTable(names)));
  },
});

/** With columns for the mark, tags and descriptions where a name has them. */
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

async function allNames(client: ApiClient, prefix: string): Promise<NameView[]> {
  const found: NameView[] = [];
  for (let cursor: string | null = null; ;) {
    const query = { prefix, cursor };
    const page: NameList = await callOperation(client, 'list names', 'GET /admin/names', { query });
    found.push(...page.names);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}

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

async function allRemoved(client: ApiClient, prefix: string): Promise<RemovedName[]> {
  const found: RemovedName[] = [];
  for (let cursor: string | null = null; ;) {
    const query = { prefix, cursor };
    const page: RemovedList = await callOperation(client, 'list what was removed', 'GET /admin/removed', {
      query,
    });
    found.push(...page.removed);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}
