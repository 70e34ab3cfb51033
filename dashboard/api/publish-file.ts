/**
 * Publishing from the page, with the checks and the upload of `graft publish`; finds the adapter among the
 * user's files.
 */
import { type PublishPlan, VersionList, type PublishedVersion } from '../../protocol/admin-api/versions.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';
import {
  MAX_TRAINING_FILE_BYTES,
  notACard,
  readTrainingText,
  TRAINING_FILE,
  type TrainingCard,
} from '../../protocol/training.ts';
import type { Problem } from '../model/problem.ts';
import type { Client } from './client.ts';
import type { PackedFile } from './pack-file.ts';
import { partRefusal } from '../../adapters/read-adapter.ts';

export interface PublishWish {
  readonly files: readonly File[];
  readonly name: string;
  /** Name whose live version it was trained on; empty = on the base. */
  readonly parent: string;
  /** Keep the live version as it is. */
  readonly stage: boolean;
  readonly bf16: boolean;
  readonly why: string;
}

/** A file that was read and checked, ready to be sent. */
export interface Checked {
  readonly file: PackedFile;
  readonly plan: PublishPlan;
  /** From the chosen files; null = they have none. */
  readonly training: TrainingCard | null;
}

const refused = (message: string, param: string | null = null): Problem => ({
  ...{ status: 0, code: 'adapter_invalid', message, advice: '', param },
});

/** Reads and checks the files, and asks the edge what publishing them would do. Nothing is sent. */
export async function checkFile(client: Client, wish: PublishWish): Promise<Result<Checked, Problem>> {
  if (!isSecureContext)
    return err(refused('Browsers cannot compute digests on pages without https. Use graft publish instead.'));
  const picked = pickAdapterFiles(wish.files);
  if (!picked.ok) return err(refused(picked.error, 'files'));
  const training = await cardIn(wish.files);
  if (!training.ok) return err(refused(training.error, 'files'));
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
  return plan.ok ? ok({ file: packed.value, plan: plan.value, training: training.value }) : plan;
}

/** @returns the training card among the files; null without one. */
export async function cardIn(
  files: readonly Pick<File, 'name' | 'size' | 'text'>[],
): Promise<Result<TrainingCard | null, string>> {
  const found = files.filter(({ name }) => name === TRAINING_FILE);
  const [file] = found;
  if (file === undefined) return ok(null);
  if (found.length > 1)
    return err(`These files contain more than one ${TRAINING_FILE}. Choose the adapter's own files.`);
  if (file.size > MAX_TRAINING_FILE_BYTES)
    return err(notACard(`it has ${file.size} bytes; at most ${MAX_TRAINING_FILE_BYTES} are read`));
  return readTrainingText(await file.text());
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
    ? err(refused(`No version of ${name} is live, so nothing can be built on it.`, 'parent'))
    : ok({ chainId: live.chain_id, base: live.base.id });
}

/** How often a file is completed: after each attempt, the edge may find one lost part. */
const MAX_UPLOADS = 4;

/**
 * Sends the parts that the edge lacks, and makes the file a version. After a failure, calling it again
 * continues.
 * @param onProgress bytes that the edge has.
 */
export async function publishFile(
  client: Client,
  wish: PublishWish,
  { file, training }: Checked,
  onProgress: (bytes: number) => void,
): Promise<Result<PublishedVersion, Problem>> {
  for (let tries = 1; ; tries += 1) {
    const sent = await sendParts(client, file, onProgress);
    if (sent.ok) break;
    if (sent.error.code !== 'part_missing' || tries === MAX_UPLOADS) return sent;
  }
  const why = wish.why.trim();
  return client.call('POST /admin/versions', {
    body: {
      ...requestOf(wish, file),
      ...(training === null ? {} : { training }),
      ...(why === '' ? {} : { why }),
    },
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

/** Files of a drop, including those in dropped folders. */

/** A training folder has its checkpoints in subfolders; the adapter itself is at the top or one level below. */
const MAX_DEPTH = 2;

/** @returns files, in no order; unreadable ones are left out. */
export async function droppedFiles({ items, files }: DataTransfer): Promise<File[]> {
  // Entries are valid only while the event is handled: collect them all before the first await.
  const entries = [...items].flatMap((item) => item.webkitGetAsEntry() ?? []);
  if (entries.length === 0) return [...files];
  return (await Promise.all(entries.map((entry) => filesIn(entry, MAX_DEPTH)))).flat();
}

async function filesIn(entry: FileSystemEntry, depth: number): Promise<File[]> {
  if (entry.isFile)
    return new Promise((resolve) =>
      (entry as FileSystemFileEntry).file(
        (file) => resolve([file]),
        () => resolve([]),
      ),
    );
  if (depth === 0) return [];
  const reader = (entry as FileSystemDirectoryEntry).createReader();
  const found: FileSystemEntry[] = [];
  // It returns some at a time, and none at the end.
  for (;;) {
    const some = await new Promise<FileSystemEntry[]>((resolve) =>
      reader.readEntries(resolve, () => resolve([])),
    );
    if (some.length === 0) break;
    found.push(...some);
  }
  return (await Promise.all(found.map((one) => filesIn(one, depth - 1)))).flat();
}

/** File names of weights in PEFT and mlx-lm. */
const WEIGHTS = ['adapter_model.safetensors', 'adapters.safetensors'];
const CONFIG = 'adapter_config.json';
const MODEL_CONFIG = 'config.json';
const READ = /\.(?:safetensors|gguf)$/i;
/** Written by older PEFT and mlx-lm; the toolkit's error says what to do. */
const OLD = /\.(?:bin|npz)$/i;

/** @returns the weights, and the configurations if there are any; or why they are ambiguous. */
export function pickAdapterFiles<F extends { readonly name: string }>(
  files: readonly F[],
): Result<{ weights: F; config: F | null; modelConfig: F | null }, string> {
  const named = files.filter(({ name }) => WEIGHTS.includes(name));
  const readable = files.filter(({ name }) => READ.test(name));
  const found =
    named.length > 0 ? named : readable.length > 0 ? readable : files.filter(({ name }) => OLD.test(name));
  const configs = files.filter(({ name }) => name === CONFIG);
  // Of the labels of a head; beside anything but one adapter, it belongs to something else.
  const modelConfigs = configs.length === 1 ? files.filter(({ name }) => name === MODEL_CONFIG) : [];
  const beside = { config: configs[0] ?? null, modelConfig: modelConfigs[0] ?? null };
  const [weights] = found;
  if (weights === undefined)
    return err(
      'These files contain no adapter. Choose the folder that PEFT or mlx-lm wrote, or one ' +
        '.safetensors or .gguf file.',
    );
  // Read only to be refused with advice.
  const part = found.find(({ name }) => partRefusal(name) !== null);
  if (part !== undefined) return ok({ weights: part, ...beside });
  if (found.length > 1 || configs.length > 1)
    return err(
      'These files contain more than one adapter: ' +
        `${(found.length > 1 ? found : configs).map(({ name }) => name).join(', ')}. Choose one of them.`,
    );
  return ok({ weights, ...beside });
}
