import { stat } from 'node:fs/promises';
import { nameProblem } from '../../protocol/index.ts';
import { readInput, type AdapterInput } from '../adapter-files/read-input.ts';
import { createApiClient } from '../api-client.ts';
import { readConnection } from '../connection.ts';
import type { Output } from '../output.ts';
import { fetchVersion } from './fetch-version.ts';

const REFERENCE = /^(.*?)(?:@([1-9]\d{0,8}))?$/;

/**
 * Reads what a person names: a folder or file here, else a published name or version, which is fetched.
 * @throws CliError as {@link readInput} and {@link fetchVersion}.
 */
export async function readNamed(given: string, output: Output): Promise<AdapterInput> {
  const isHere = await stat(given).then(
    () => true,
    () => false,
  );
  const [, name = '', version] = REFERENCE.exec(given) ?? [];
  if (isHere || nameProblem(name) !== null) return readInput(given);
  const { url, adminKey } = await readConnection({ env: process.env, folder: process.cwd() });
  if (url === undefined || adminKey === undefined) return readInput(given);
  const client = createApiClient({ url, key: adminKey });
  const wanted = { name, version: version === undefined ? null : Number(version), chain: false };
  const fetched = await fetchVersion({ client, output, ...wanted });
  const where = `${fetched.name}@${fetched.version}`;
  const note = `there is no ${given} here; using ${where} of ${url}`;
  const input = await readInput(fetched.members[0]?.path ?? '');
  return { ...input, where, notes: [note, ...input.notes] };
}
