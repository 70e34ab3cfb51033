import { AdapterFormatError, createHeadReader } from '../../adapters/read-head.ts';
import {
  err,
  MAX_PART_BYTES,
  ok,
  type ApiError,
  type BlobRecord,
  type Result,
} from '../../protocol/index.ts';
import { adapterInvalid } from '../errors.ts';
import type { AdminCaller } from '../access/ports.ts';
import type { GrantLedger } from '../access/ports-grants.ts';
import { finishBlob, receivePart } from '../blobs/receive-blob.ts';
import { MAX_CHECKED_HEADER_BYTES } from '../blobs/limits.ts';
import type { IntakeDeps } from '../registry/registry-deps.ts';

export interface StoreDropDeps extends IntakeDeps {
  grantLedger: GrantLedger;
  /** Owner of what is dropped where no name above it has one. */
  dropTenant: string;
}

/** Who the history says it was. */
const DROP_ACTOR = 'drop';

export interface DroppedFile {
  /** Nearest live name above, when the file was trained on top of something. */
  parent: string | null;
  /** Its owner, as if they had sent it. */
  caller: AdminCaller;
}

/** Keeps a dropped file as a blob that belongs to who owns the name. @throws StoreUnavailable */
export async function storeDrop(
  deps: StoreDropDeps,
  params: { name: string; bytes: Uint8Array<ArrayBuffer>; digest: string },
): Promise<Result<DroppedFile, ApiError>> {
  const { name, bytes, digest } = params;
  const parentChainId = parentChainOf(bytes);
  if (!parentChainId.ok) return parentChainId;
  const { owner, above } = await roomOf(deps, name);
  if (parentChainId.value !== null && above === null)
    return err(
      adapterInvalid(
        'parent_mismatch',
        `The adapter was packed on top of the chain ${parentChainId.value}, but no name above '${name}' has a live version.`,
        'parent',
      ),
    );
  const parent = parentChainId.value === null ? null : above;
  const grants = parent === null ? [] : await deps.grantLedger.usableBy(owner);
  const caller: AdminCaller = { keyId: DROP_ACTOR, tenant: owner, scopes: [], grants, root: false };
  if (await deps.blobLedger.holds(digest, owner)) return ok({ parent, caller });
  const parts: BlobRecord['parts'] = [];
  let offset = 0;
  for (const [index, size] of partSizes(bytes.length).entries()) {
    const slice = bytes.subarray(offset, (offset += size));
    const part = await receivePart(deps, { digest, index, bytes: slice, sha256: null, tenant: owner });
    if (!part.ok) return part;
    parts.push({ bytes: part.value.bytes, sha256: part.value.sha256 });
  }
  const finished = await finishBlob(deps, { digest, record: { bytes: bytes.length, parts }, tenant: owner });
  return finished.ok ? ok({ parent, caller }) : finished;
}

const partSizes = (bytes: number): number[] =>
  Array.from({ length: Math.ceil(bytes / MAX_PART_BYTES) }, (_, index) =>
    Math.min(MAX_PART_BYTES, bytes - index * MAX_PART_BYTES),
  );

function parentChainOf(bytes: Uint8Array): Result<string | null, ApiError> {
  try {
    const reader = createHeadReader({ fileBytes: bytes.length, maxHeaderBytes: MAX_CHECKED_HEADER_BYTES });
    reader.push(bytes);
    return ok(reader.head().config.parent);
  } catch (error) {
    if (!(error instanceof AdapterFormatError)) throw error;
    const message = `This is no packed adapter: ${error.message} \`graft pack\` makes one from PEFT's two files.`;
    return err(adapterInvalid(error.code, message, error.subject));
  }
}

/**
 * @returns the owner of the name, or of the nearest room or name above it, and the nearest name above that has a live
 * version.
 */
async function roomOf(
  deps: Pick<StoreDropDeps, 'registry' | 'dropTenant'>,
  name: string,
): Promise<{ owner: string; above: string | null }> {
  const around = await deps.registry.around(name);
  const owner = around.own ?? around.above?.owner ?? deps.dropTenant;
  for (let path = name; path.includes('/');) {
    path = path.slice(0, path.lastIndexOf('/'));
    if ((await deps.registry.name(path))?.version != null) return { owner, above: path };
  }
  return { owner, above: null };
}
