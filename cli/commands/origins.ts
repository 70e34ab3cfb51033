/** What the origins have in memory, and what they should keep there. */
import { command } from '../command.ts';
import type { OriginView, WarmedOrigin, PinList } from '../../protocol/admin-api/origins.ts';
import { nameProblem } from '../../protocol/identity.ts';
import type { ResidentList } from '../../protocol/origin-wire.ts';
import { lookUpFile, adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import { usageError } from '../flags.ts';
import { megabytes, plainTable, fileSize } from '../output.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { operationCommand, parseReference } from '../admin/operation-command.ts';

type Resident = ResidentList['adapters'][number];

/** Residents whose names are looked up, one request each: nobody reads more. */
const MAX_NAMED = 64;
/** Names shown of one file. */
const MAX_SHOWN = 2;

/** Of a row alone compared with any batch. */
const PROMISES = {
  bits: 'batch-independent to the bit',
  tolerance: 'batch-independent within a tolerance',
} as const;

export const psCommand = command({
  verb: 'ps',
  args: {},
  async run({ output }) {
    const client = await adminClient();
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
            configured === undefined || configured === base.id ? '' : `, but the edge expects ${configured}`;
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

export const warmCommand = operationCommand({
  verb: 'warm',
  examples: [
    { line: 'graft warm alice/notes', does: 'loads the live version where it is served' },
    { line: 'graft warm alice/notes@4', does: 'the same for version 4, before you promote it' },
  ],
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes, or a version of it, such as alice/notes@4',
      required: true,
    },
  },
  route: 'POST /admin/warm',
  call: ({ name }) => ({ what: `warm ${name}`, body: parseReference(name) }),
  tell: ({ name, version, origins }) =>
    origins.map((origin) => originText(`${name}@${version}`, origin)).join('\n'),
  check({ name, version, origins }) {
    if (origins.at(-1)?.ok !== true)
      throw new CliError({
        message: `No origin has ${name}@${version} in memory.`,
        exitCode: EXIT.unavailable,
        code: 'not_warm',
      });
  },
});

export function originText(what: string, { id, ok, reason, brought, ms }: WarmedOrigin): string {
  const files = brought.map(
    ({ digest, bytes, ms: took }) => `  sent ${digest.slice(0, 12)}, ${fileSize(bytes)}, in ${seconds(took)}`,
  );
  const end = ok ? `${what} is in memory at ${id} after ${seconds(ms)}` : `${id}: ${reason}`;
  return [...files, end].join('\n');
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`;

export const pinCommand = command({
  verb: 'pin',
  examples: [
    { line: 'graft pin alice/notes', does: 'every origin keeps its live chain in memory' },
    { line: 'graft pin', does: 'what is pinned, and which origins hold it' },
  ],
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes; omit it to list pinned names',
      required: false,
    },
  },
  async run({ args, output }) {
    const { name } = args;
    const problem = name === undefined ? null : nameProblem(name);
    if (problem !== null) throw usageError(`'${name}': ${problem}.`);
    const client = await adminClient();
    const answer =
      name === undefined
        ? await callOperation(client, 'list the pins', 'GET /admin/pins', {})
        : await callOperation(client, `pin ${name}`, 'POST /admin/pins', { body: { name } });
    output.result(answer, () => pinTable(answer));
    const failed = answer.pins.find((pin) => pin.name === name)?.origins.filter(({ ok }) => !ok) ?? [];
    if (failed.length > 0)
      throw new CliError({
        message:
          `${name} is pinned, but not yet in memory at ${failed.map(({ id }) => id).join(', ')}; the ` +
          'edge asks again each minute.',
        exitCode: EXIT.unavailable,
        code: 'not_pinned',
      });
  },
});

/** Pinned names, and each origin's answer about them. */
export const pinTable = ({ pins }: PinList): string =>
  pins.length === 0
    ? 'nothing is pinned'
    : plainTable(
        ['NAME', 'LIVE', 'IN MEMORY AT', 'NOT AT'],
        pins.map(({ name, live, origins }) => [
          name,
          live ?? '-',
          origins.flatMap(({ id, ok }) => (ok ? [id] : [])).join(', ') || '-',
          origins
            .flatMap(({ id, ok, reason }) => (ok ? [] : [`${id} (${reason ?? 'no reason'})`]))
            .join(', '),
        ]),
      );

export const unpinCommand = operationCommand({
  verb: 'unpin',
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
  },
  route: 'DELETE /admin/pins',
  call: ({ name }) => ({ what: `unpin ${name}`, query: { name } }),
  tell: pinTable,
});
