import { defineCommand } from 'citty';
import type { OriginView, ResidentList } from '../../protocol/index.ts';
import { lookUpFile } from '../admin/admin-client.ts';
import { createApiClient, type ApiClient, callOperation } from '../api-client.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, megabytes, plainTable } from '../output.ts';

type Resident = ResidentList['adapters'][number];

/** Residents whose names are asked for, one request each: more than that nobody reads. */
const MAX_NAMED = 64;
/** Names shown of one file. */
const MAX_SHOWN = 2;

/** Of a row alone and in any batch. */
const PROMISES = { bits: 'rows to the bit', tolerance: 'rows within a tolerance' } as const;

export default defineCommand({
  meta: { name: 'ps' },
  args: commonFlags,
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const connection = await readConnection({ env: process.env, folder: process.cwd() });
    const client = createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
    const { origins } = await callOperation(client, 'ask the origins', 'GET /admin/origins', {
      query: { figures: 'true' },
    });
    const names = await nameFiles(client, origins);
    const named = origins.map((origin) => ({
      ...origin,
      residents: origin.residents && {
        ...origin.residents,
        adapters: origin.residents.adapters.map((one) => ({ ...one, names: names.get(one.digest) ?? [] })),
      },
    }));
    output.result({ origins: named }, () =>
      origins
        .map(({ id, base, reason, residents, figures, configured_base: configured }) => {
          if (base === null)
            return `${id}: ${reason ?? 'does not answer'}${configured === undefined ? '' : ` (${configured})`}`;
          const wrong =
            configured === undefined || configured === base.id ? '' : `, but the edge wants ${configured}`;
          const runs = [
            base.weights,
            ...(base.provider === undefined ? [] : [`provider ${base.provider}`]),
            ...(base.precision === 'f16' ? ['float16'] : []),
            ...(base.promise === undefined ? [] : [PROMISES[base.promise]]),
          ];
          const what = `${id}: ${base.id} (${runs.join(', ')})${wrong}`;
          if (residents === null) return what;
          const memory = `${megabytes(residents.used_bytes)} of ${megabytes(residents.budget_bytes)}`;
          const rows = figures ? `, ${figures.rows_running} of ${figures.slots} rows` : '';
          const head = `${what}${rows}, adapters ${memory}`;
          return residents.adapters.length === 0 ? head : `${head}\n${table(residents.adapters, names)}`;
        })
        .join('\n'),
    );
  },
});

/** @returns digest -> `name@version`, for the first residents of all origins. */
async function nameFiles(client: ApiClient, origins: readonly OriginView[]): Promise<Map<string, string[]>> {
  const adapters = origins.flatMap(({ residents }) => residents?.adapters ?? []);
  const digests = [...new Set(adapters.map(({ digest }) => digest))].slice(0, MAX_NAMED);
  return new Map(
    await Promise.all(
      digests.map(async (digest): Promise<[string, string[]]> => [digest, await lookUpFile(client, digest)]),
    ),
  );
}

const table = (adapters: readonly Resident[], names: ReadonlyMap<string, string[]>): string =>
  plainTable(
    ['DIGEST', 'NAME', 'STATE', 'RANK', 'SIZE', 'IN USE'],
    adapters.map(({ digest, state, rank, bytes, references, pinned }) => [
      digest.slice(0, 12),
      shown(names.get(digest) ?? []),
      state,
      String(rank),
      megabytes(bytes),
      `${references}${pinned ? ' (pinned)' : ''}`,
    ]),
  );

const shown = (names: readonly string[]): string =>
  names.slice(0, MAX_SHOWN).join(', ') +
  (names.length > MAX_SHOWN ? `, … ${names.length - MAX_SHOWN} more` : '');
