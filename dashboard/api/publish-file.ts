/** Publishing from the page: the same checks, and the same way of sending, as `graft publish`. */
import { type PublishPlan, VersionList, type PublishedVersion } from '../../protocol/admin-api/versions.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import { pickAdapterFiles } from './adapter-files.ts';
import type { Problem } from '../model/problem.ts';
import type { Client } from './client.ts';
import type { PackedFile } from './pack-file.ts';

export interface PublishWish {
  readonly files: readonly File[];
  readonly name: string;
  /** Name whose live version it was trained on top of; empty = on the base. */
  readonly parent: string;
  /** Keep the live version as it is. */
  readonly stage: boolean;
  readonly bf16: boolean;
  readonly why: string;
}

/** What was read, checked and can be sent. */
export interface Checked {
  readonly file: PackedFile;
  readonly plan: PublishPlan;
}

const refused = (message: string, param: string | null = null): Problem => ({
  ...{ status: 0, code: 'adapter_invalid', message, advice: '', param },
});

/** Reads and checks the files, and asks the edge what publishing them would do. Nothing of it is sent. */
export async function checkFile(client: Client, wish: PublishWish): Promise<Result<Checked, Problem>> {
  if (!isSecureContext)
    return err(refused('A browser computes no digests on a page without https. Use graft publish instead.'));
  const picked = pickAdapterFiles(wish.files);
  if (!picked.ok) return err(refused(picked.error, 'files'));
  const origins = await client.call('GET /admin/origins', {});
  if (!origins.ok) return origins;
  const bases = new Map(
    origins.value.origins.flatMap(({ base }) => (base === null ? [] : [[base.id, base]])),
  );
  const parent = await parentOf(client, wish.parent);
  if (!parent.ok) return parent;
  const limits = await client.call('GET /admin/blobs/:digest', { params: { digest: '0'.repeat(64) } });
  const { packFile } = await import('./pack-file.ts');
  const packed = await packFile({
    ...picked.value,
    bases: [...bases.values()],
    parent: parent.value,
    bf16: wish.bf16,
    ...(limits.ok && limits.value.limits !== undefined ? { partBytes: limits.value.limits.part_bytes } : {}),
  });
  if (!packed.ok) return err(refused(packed.error, 'files'));
  const plan = await client.call('POST /admin/versions/plan', {
    body: { ...requestOf(wish, packed.value), file: packed.value.facts },
  });
  return plan.ok ? ok({ file: packed.value, plan: plan.value }) : plan;
}

const requestOf = ({ name, parent, stage }: PublishWish, { packed }: PackedFile) => ({
  ...{ name, digest: packed.digest, stage },
  ...(parent === '' ? {} : { parent }),
});

async function parentOf(
  client: Client,
  name: string,
): Promise<Result<{ chainId: string; base: string } | null, Problem>> {
  if (name === '') return ok(null);
  const found = await client.call('GET /admin/versions', { query: { name }, as: VersionList });
  if (!found.ok) return err({ ...found.error, param: 'parent' });
  const live = found.value.versions.find((version) => version.live);
  return live === undefined
    ? err(refused(`Nothing of ${name} is live, so nothing can be built on it.`, 'parent'))
    : ok({ chainId: live.chain_id, base: live.base.id });
}

/** Times that a file is closed: each time before, the edge found a part that it had lost, one at a time. */
const MAX_UPLOADS = 4;

/**
 * Sends what the edge does not have of the file, and makes it a version. Again after a failure it goes on from there.
 * @param onProgress bytes that the edge has.
 */
export async function publishFile(
  client: Client,
  wish: PublishWish,
  { file }: Checked,
  onProgress: (bytes: number) => void,
): Promise<Result<PublishedVersion, Problem>> {
  for (let tries = 1; ; tries += 1) {
    const sent = await sendParts(client, file, onProgress);
    if (sent.ok) break;
    if (sent.error.code !== 'part_missing' || tries === MAX_UPLOADS) return sent;
  }
  const why = wish.why.trim();
  return client.call('POST /admin/versions', {
    body: { ...requestOf(wish, file), ...(why === '' ? {} : { why }) },
  });
}

async function sendParts(
  client: Client,
  { packed: { digest }, parts, facts: { record } }: PackedFile,
  onProgress: (bytes: number) => void,
): Promise<Result<null, Problem>> {
  const params = { digest };
  const state = await client.call('GET /admin/blobs/:digest', { params });
  if (!state.ok) return state;
  if (state.value.complete) {
    onProgress(record.bytes);
    return ok(null);
  }
  const held = new Map(state.value.parts.map(({ index, sha256 }) => [index, sha256]));
  let done = 0;
  for (const [index, part] of parts.entries()) {
    const { sha256 } = record.parts[index]!;
    if (held.get(index) !== sha256) {
      const sent = await client.bytes('PUT /admin/blobs/:digest/parts/:index', {
        params: { digest, index: String(index) },
        query: { sha256 },
        body: part,
      });
      if (!sent.ok) return sent;
    }
    onProgress((done += part.length));
  }
  const closed = await client.call('POST /admin/blobs/:digest', { params, body: record });
  return closed.ok ? ok(null) : closed;
}
