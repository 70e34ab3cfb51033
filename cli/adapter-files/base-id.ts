/** Which base a packed file names. */
import type { ArgsDef } from 'citty';
import type { ReadAdapter } from '../../adapters/index.ts';
import { baseIdOf } from '../../protocol/index.ts';
import { lookUpBases } from '../admin/look-up.ts';
import { createApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { readConnection } from '../connection.ts';
import { usageError } from '../flags.ts';

export const baseIdFlag = {
  'base-id': {
    type: 'string',
    description: "Id of the base (default: the adapter's, else the server's)",
    valueHint: 'id',
  },
} as const satisfies ArgsDef;

/** `name` or `owner/name`, as the hub writes ids; anything else is somebody's local path. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*(?:\/[\w.-]+)?$/;

/** @param baseModel as an adapter's files say it. @returns its id, or null when they do not name a model. */
export const adapterBaseId = (baseModel: string | null): string | null =>
  baseModel !== null && HUB_ID.test(baseModel) ? baseIdOf(baseModel) : null;

/** @param text what `--base-id` says: an id, or a hub id. @throws CliError (usage) */
export function parseBaseId(text: string | undefined): string | undefined {
  if (text === undefined) return undefined;
  const id = adapterBaseId(text);
  if (id === null) throw usageError(`--base-id ${text} is not a model's id, such as smollm2-135m-instruct.`);
  return id;
}

/**
 * @param flag what {@link parseBaseId} made of `--base-id`.
 * @returns the flag, else what the adapter says, else what the server serves.
 * @throws CliError `base_unknown` (usage) when none of them says it.
 */
export async function chooseBaseId(params: {
  flag: string | undefined;
  read: Pick<ReadAdapter, 'baseModel'>;
  where: string;
  env: Record<string, string | undefined>;
  folder: string;
}): Promise<string> {
  const known = params.flag ?? adapterBaseId(params.read.baseModel);
  if (known !== null && known !== undefined) return known;
  const { url, adminKey, base } = await readConnection(params);
  const bases =
    url === undefined || adminKey === undefined
      ? []
      : await lookUpBases(createApiClient({ url, key: adminKey })).catch((error: unknown) => {
          if (base === undefined) throw error;
          return [];
        });
  const [only = base] = bases.map(({ id }) => id);
  if (only !== undefined && bases.length <= 1) return only;
  throw new CliError({
    message: `${params.where} does not say which base it is for. Say it with --base-id, such as --base-id ${only ?? 'smollm2-135m-instruct'}.`,
    exitCode: EXIT.usage,
    code: 'base_unknown',
  });
}
