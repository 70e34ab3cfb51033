import { defineCommand } from 'citty';
import type { z } from 'zod';
import { Names } from '../admin/admin-answers.ts';
import { createApiClient, type ApiClient } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, plainTable } from '../output.ts';

type Name = z.infer<typeof Names>['names'][number];

export const help: CommandHelp = {
  examples: [{ line: 'graft ls alice/', does: 'names that begin with alice/' }],
};

export default defineCommand({
  meta: { name: 'ls', description: 'List names and their live versions' },
  args: {
    prefix: { type: 'positional', description: 'Only names that begin so', required: false },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
    const names = await allNames(client, args.prefix ?? '');
    output.result(names, () =>
      names.length === 0 ? 'no names' : plainTable(['NAME', 'LIVE', 'NEWEST', 'OWNER'], names.map(row)),
    );
  },
});

const row = ({ name, version, latest, owner, alias }: Name): string[] => [
  name,
  alias ? `-> ${alias}` : version === null ? '-' : String(version),
  latest === 0 ? '-' : String(latest),
  owner,
];

async function allNames(client: ApiClient, prefix: string): Promise<Name[]> {
  const found: Name[] = [];
  for (let cursor: string | null = null; ;) {
    const query = new URLSearchParams({ prefix, ...(cursor === null ? {} : { cursor }) });
    const response = await client.send('list names', `/admin/names?${query}`);
    const page: z.infer<typeof Names> = Names.parse(await response.json());
    found.push(...page.names);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}
