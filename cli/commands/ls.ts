import { defineCommand } from 'citty';
import type { NameList, NameView } from '../../protocol/index.ts';
import { createApiClient, type ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import type { CommandHelp } from '../command-types.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, plainTable } from '../output.ts';

export const help: CommandHelp = {
  examples: [{ line: 'graft ls alice/', does: 'names that begin with alice/' }],
};

export default defineCommand({
  meta: { name: 'ls' },
  args: {
    prefix: { type: 'positional', description: 'Only names that begin so', required: false },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
    const names = await allNames(client, args.prefix ?? '');
    output.result(names, () => (names.length === 0 ? 'no names' : nameTable(names)));
  },
});

/** With a column for the mark where a name has it. */
export function nameTable(names: readonly NameView[]): string {
  const marks = names.some(({ strict }) => strict);
  return plainTable(
    ['NAME', 'LIVE', 'NEWEST', 'OWNER', ...(marks ? ['STRICT'] : [])],
    names.map((name) => [...row(name), ...(marks ? [name.strict ? 'yes' : '-'] : [])]),
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
