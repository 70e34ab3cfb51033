import { defineCommand } from 'citty';
import type { ResidentList } from '../../protocol/index.ts';
import { Origins } from '../admin/admin-answers.ts';
import { createApiClient } from '../api-client.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, megabytes, plainTable } from '../output.ts';

type Resident = ResidentList['adapters'][number];

export default defineCommand({
  meta: { name: 'ps', description: 'Show the adapters that the origins hold in memory' },
  args: commonFlags,
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
    const response = await client.send('ask the origins', '/admin/origins');
    const { origins } = Origins.parse(await response.json());
    output.result({ origins }, () =>
      origins
        .map(({ id, base, residents }) => {
          if (base === null) return `${id}: does not answer`;
          if (residents === null) return `${id}: ${base.id} (${base.weights})`;
          const memory = `${megabytes(residents.used_bytes)} of ${megabytes(residents.budget_bytes)}`;
          const head = `${id}: ${base.id} (${base.weights}), adapters ${memory}`;
          return residents.adapters.length === 0 ? head : `${head}\n${table(residents.adapters)}`;
        })
        .join('\n'),
    );
  },
});

const table = (adapters: readonly Resident[]): string =>
  plainTable(
    ['DIGEST', 'STATE', 'RANK', 'SIZE', 'IN USE'],
    adapters.map(({ digest, state, rank, bytes, references, pinned }) => [
      digest.slice(0, 12),
      state,
      String(rank),
      megabytes(bytes),
      `${references}${pinned ? ' (pinned)' : ''}`,
    ]),
  );
