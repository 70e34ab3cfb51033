import { fileFacts, readAdapter } from '../../adapters/index.ts';
import { adapterBaseId } from '../adapter-files/base-id.ts';
import { type AdapterInput, asRefusal, readInput } from '../adapter-files/read-input.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { Output } from '../output.ts';
import { packInput } from './pack-input.ts';
import { packForServer, type Packed, type PublishWish } from './publish-adapter.ts';
import { planUpload } from './upload-blob.ts';

/** What `graft publish` would do; nothing of it is done. */
export interface PublishPlan {
  readonly name: string;
  /** Number that the version would get, or has; null when the server could not be asked. */
  readonly version: number | null;
  /** This very version is there: nothing would change. */
  readonly exists: boolean;
  readonly stage: boolean;
  /** What is live under the name now. Null also, as are the next three, when the server could not be asked. */
  readonly from: number | null;
  /** Of a new name: the name above it that answers for it until then. */
  readonly instead_of: string | null;
  /** `name@version`. */
  readonly parent: string | null;
  /** An origin would try it first. */
  readonly trial: boolean | null;
  /** null when the server could not be asked and the adapter does not say it. */
  readonly base: string | null;
  /** Compared with the server's base; otherwise only what the file says by itself was checked. */
  readonly checked: boolean;
  /** Why not. */
  readonly unchecked_because: string | null;
  /** Of the packed file; null when the server could not be asked: base and parent are part of the file. */
  readonly digest: string | null;
  /** Of the packed file. */
  readonly bytes: number;
  readonly rank: number;
  readonly modules: number;
  readonly bytes_to_send: number | null;
  readonly evaluation_rows: number;
}

/** Stands in the file for a base that nobody names; the file is not kept. */
const UNKNOWN_BASE = 'unknown';

/** @param client null when no server is known. @throws CliError `refused` when publishing would be refused. */
export async function planPublish(
  wish: PublishWish & { client: ApiClient | null; output: Output },
): Promise<PublishPlan> {
  const { client, output } = wish;
  if (client === null) return planAlone(wish, 'no server is known');
  let found: Packed;
  try {
    found = await packForServer(client, wish, output);
  } catch (error) {
    if (error instanceof CliError && error.exitCode === EXIT.unavailable)
      return planAlone(wish, error.message);
    throw error;
  }
  const { packed } = found;
  const { digest } = packed;
  const { record } = await planUpload({ client, digest, bytes: packed.bytes });
  const { name, parent, stage } = wish;
  const body = { name, digest, parent, stage, file: fileFacts(packed, record) };
  const plan = await callOperation(client, `publish ${name}`, 'POST /admin/versions/plan', { body });
  if (plan.notice !== undefined) output.note(plan.notice);
  return {
    name,
    version: plan.version,
    exists: plan.exists,
    stage: plan.stage,
    from: plan.from,
    instead_of: plan.instead_of,
    parent: plan.parent,
    trial: plan.trial,
    base: found.base.id,
    checked: true,
    unchecked_because: null,
    digest,
    bytes: packed.bytes.length,
    rank: plan.rank,
    modules: packed.modules.length,
    bytes_to_send: plan.bytes_to_send,
    evaluation_rows: wish.rows?.rows.length ?? 0,
  };
}

/** What can be said without a server. The base is taken from the adapter's own word. */
async function planAlone(wish: PublishWish & { output: Output }, because: string): Promise<PublishPlan> {
  const input = await readInput(wish.given);
  for (const note of input.notes) wish.output.note(note);
  const { baseId, parentChainId } = ownWord(input);
  const packed = await packInput({
    input,
    base: { id: baseId ?? UNKNOWN_BASE },
    parentChainId,
    bf16: wish.bf16 === true,
  });
  return {
    name: wish.name,
    version: null,
    exists: false,
    stage: wish.stage,
    from: null,
    instead_of: null,
    parent: null,
    trial: null,
    base: baseId,
    checked: false,
    unchecked_because: because,
    digest: null,
    bytes: packed.bytes.length,
    rank: packed.rank,
    modules: packed.modules.length,
    bytes_to_send: null,
    evaluation_rows: wish.rows?.rows.length ?? 0,
  };
}

/** Base and parent as the adapter's files say them. @throws CliError `adapter_invalid` (refused) */
function ownWord(input: AdapterInput): { baseId: string | null; parentChainId: string | null } {
  try {
    const { baseModel, parent } = readAdapter(input.files);
    return { baseId: adapterBaseId(baseModel), parentChainId: parent };
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}
