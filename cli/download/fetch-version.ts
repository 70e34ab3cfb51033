import type { DownloadView } from '../../protocol/index.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { interruptible } from '../interruptible.ts';
import type { Output } from '../output.ts';
import { fetchFile } from './fetch-file.ts';

export interface FetchedMember {
  name: string;
  digest: string;
  scale: number;
  /** Of its canonical file. */
  path: string;
}

export interface FetchedVersion extends Pick<DownloadView, 'name' | 'version' | 'digest' | 'base'> {
  /** Root first; the version itself alone unless the whole chain was asked for. */
  members: FetchedMember[];
}

/**
 * Fetches a version's own file, or those of its whole chain, into the cache, with a progress bar.
 * @param params.version the live one unless given.
 * @throws CliError `insufficient_scope` (refused) when one of the chain is another tenant's.
 */
export async function fetchVersion(params: {
  client: ApiClient;
  name: string;
  version: number | null;
  chain: boolean;
  output: Output;
}): Promise<FetchedVersion> {
  const { client, name, output } = params;
  const query = { name, ...(params.version === null ? {} : { version: String(params.version) }) };
  const view = await callOperation(client, `download ${name}`, 'GET /admin/downloads', { query });
  const wanted = params.chain ? view.chain : view.chain.slice(-1);
  const files = wanted.map(({ file, ...member }) => {
    if (file !== null) return { ...member, record: file };
    throw new CliError({
      message: `${name}@${view.version} stands on '${member.name}' of another tenant, whose bytes cannot be fetched.`,
      exitCode: EXIT.refused,
      code: 'insufficient_scope',
    });
  });
  const total = files.reduce((sum, { record }) => sum + record.bytes, 0);
  const bar = output.progress(`${view.name}@${view.version}`);
  let done = 0;
  try {
    const members = await interruptible(async (signal) => {
      const fetched: FetchedMember[] = [];
      for (const { record, ...member } of files) {
        const onBytes = (bytes: number) => bar.update((done += bytes), total);
        const file = { name: view.name, version: view.version, digest: member.digest, record };
        fetched.push({ ...member, path: await fetchFile(client, file, { signal, onBytes }) });
      }
      return fetched;
    });
    return { name: view.name, version: view.version, digest: view.digest, base: view.base, members };
  } finally {
    bar.end();
  }
}
