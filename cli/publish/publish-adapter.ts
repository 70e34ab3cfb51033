import type { EvaluationScore } from '../../protocol/admin-api/evaluations.ts';
import type { VersionView } from '../../protocol/admin-api/versions.ts';
import type { Evaluation } from '../../protocol/origin-wire.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import { rightWords, shareWords } from '../../protocol/evaluation-scores.ts';
import { type AdapterInput, readInput } from '../adapter-files/read-input.ts';
import { lookUpBases, lookUpVersions } from '../admin/admin-client.ts';
import { type ApiClient, type Retrying, callWithStatus } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { lookUpEvaluations, scoreAll } from '../evaluations/score-evaluations.ts';
import { fileSize, type Output, type Unit } from '../output.ts';
import { type EvalRows, evaluateUpload, type FailedRow, refuseLowScore } from './evaluate-upload.ts';
import { type PackedForBase, packForBase, refuseUnfit } from './pack-input.ts';
import { readTrainingCard } from './training-card.ts';
import { uploadBlob } from './upload-blob.ts';

/** The user's request. */
export interface PublishWish {
  /** Folder or file of the adapter, in any readable format. */
  readonly given: string;
  readonly name: string;
  /** Name whose live version the adapter was trained on; null = on the base. */
  readonly parent: string | null;
  /** Refuse to publish if the parent's live version has another chain by now. */
  readonly parentChainId?: string;
  /** Keep the live version as it is. */
  readonly stage: boolean;
  /** For the history. */
  readonly why?: string | null;
  /** Round the weights to bfloat16: half the bytes of float32. */
  readonly bf16?: boolean;
  readonly rows?: EvalRows | null;
  /** Score it on the name's kept evaluations first. */
  readonly scores?: boolean;
  /** Minimum share of exact answers for publishing, of the rows and of each kept evaluation. */
  readonly minScore?: number | null;
  /** How it was trained; null = no card. Default: the folder's `training.json`. */
  readonly training?: TrainingCard | null;
  /** The user confirmed that those to whom the name is granted may use what was made from prompts. */
  readonly madeFromPrompts?: boolean;
}

export interface Published {
  version: VersionView;
  /** False when this version existed already. */
  created: boolean;
  /** The request was retried, so that its first attempt may have created what existed already. */
  repeated: boolean;
  /** Bytes that had to be sent. */
  sent: number;
  evaluation: Evaluation | null;
  /** On the same rows, if they are a classifier's. */
  macroF1: number | null;
  /** On the name's kept evaluations; empty unless wanted. */
  scores: readonly EvaluationScore[];
  /** Rows with another answer than expected. */
  failed: readonly FailedRow[];
  /** The card that was sent. */
  training: TrainingCard | null;
}

export interface Packed extends PackedForBase {
  readonly parent: VersionView | null;
  readonly training: TrainingCard | null;
}

/** Code of the error for a parent that is not the one it was trained on. */
export const PARENT_CHANGED = 'parent_changed';

/**
 * Reads, packs and checks against the server's base that the adapter is for. @throws CliError `adapter_invalid`
 * (refused), `training_invalid` (usage)
 */
export async function packForServer(
  client: ApiClient,
  wish: Pick<PublishWish, 'given' | 'parent' | 'parentChainId' | 'bf16' | 'training'>,
  output: Output,
): Promise<Packed> {
  const bases = await lookUpBases(client);
  const parent = wish.parent === null ? null : await liveVersion(client, wish.parent);
  if (parent !== null && wish.parentChainId !== undefined && parent.chain_id !== wish.parentChainId)
    throw new CliError({
      message: `The live version of '${parent.name}' is ${parent.version} now, not the one it was trained on.`,
      exitCode: EXIT.refused,
      code: PARENT_CHANGED,
    });
  const input = await readInput(wish.given);
  for (const note of input.notes) output.note(note);
  const training = await cardOf(wish, input);
  const progress = output.progress('packing');
  let found: PackedForBase;
  try {
    progress.update(0, input.bytes);
    const parentChainId = parent?.chain_id ?? null;
    const parentBase = parent?.base.id ?? null;
    found = await packForBase({ input, bases, parentBase, parentChainId, bf16: wish.bf16 === true });
    progress.update(input.bytes, input.bytes);
  } finally {
    progress.end();
  }
  const { base, packed } = found;
  if (parent !== null && parent.base.id !== base.id)
    throw new CliError({
      message:
        `${input.where}: The adapter is for the base ${base.id}, but its parent ` +
        `'${parent.name}@${parent.version}' is for ${parent.base.id}: a chain has one base. ` +
        '(base_mismatch)',
      exitCode: EXIT.refused,
      code: 'adapter_invalid',
      reason: 'base_mismatch',
    });
  for (const warning of packed.warnings) output.note(`warning: ${warning}`);
  refuseUnfit(packed, base, input.where);
  return { base, parent, packed, training };
}

/** @throws CliError `training_invalid` (usage) */
export async function cardOf(
  { training }: Pick<PublishWish, 'training'>,
  { folder }: Pick<AdapterInput, 'folder'>,
): Promise<TrainingCard | null> {
  if (training !== undefined) return training;
  return folder === null ? null : readTrainingCard(folder);
}

/**
 * Packs an adapter, uploads it, evaluates it if there are rows, and makes it a version of its name. Repeating
 * it changes nothing, continues an earlier attempt, and sends again what the server has lost.
 * @throws CliError `refused` when the adapter does not fit this base or its score is too low.
 */
export async function publishAdapter(
  params: PublishWish & { client: ApiClient; output: Output; signal?: AbortSignal },
): Promise<Published> {
  const { client, output, signal, name, parent, stage, why = null, rows = null } = params;
  const { packed, training } = await packForServer(client, params, output);
  const { digest, bytes } = packed;
  let uploaded = 0;
  const attempt = async (): Promise<Published> => {
    const sent = await withProgress(output, 'uploading', 'bytes', signal, (update, retrying) =>
      uploadBlob({
        client,
        digest,
        bytes,
        onProgress: (done) => update((uploaded = done), bytes.length),
        retrying,
      }),
    );
    const evaluated =
      rows === null
        ? null
        : await withProgress(output, 'evaluating', 'rows', signal, (update, retrying) =>
            evaluateUpload({
              client,
              digest,
              parent,
              rows,
              onProgress: (done) => update(done, rows.rows.length),
              retrying,
            }),
          );
    if (evaluated !== null) refuseLowScore(evaluated, params.minScore ?? null);
    const scores =
      params.scores === true
        ? await scoreUpload({
            client,
            output,
            signal,
            name,
            digest,
            parent,
            minScore: params.minScore ?? null,
          })
        : [];
    const evaluation = evaluated?.evaluation ?? null;
    const body = {
      name,
      digest,
      parent,
      stage,
      why,
      ...(evaluation === null ? {} : { evaluation }),
      ...(training === null ? {} : { training }),
      ...(params.madeFromPrompts === true ? { made_from_prompts: true } : {}),
    };
    let repeated = false;
    const onWait: Retrying['onWait'] = (ms, reason) => {
      repeated = true;
      output.note(waitText(ms, reason));
    };
    const call = { body, retrying: { signal, onWait } };
    const published = await callWithStatus(client, `publish ${name}`, 'POST /admin/versions', call);
    const { answer: version, status } = published;
    if (version.notice !== undefined) output.note(version.notice);
    const created = status === 201;
    const failed = evaluated?.failed ?? [];
    const f1 = evaluated?.macroF1 ?? null;
    return { version, created, repeated, sent, evaluation, macroF1: f1, scores, failed, training };
  };
  try {
    return await attempt().catch((error: unknown) => {
      if (!(error instanceof CliError) || error.reason !== 'blob_damaged') throw error;
      output.note('the server has lost bytes of this adapter; sending it again');
      return attempt();
    });
  } catch (error) {
    throw goesOn(error, `${fileSize(uploaded)} of ${fileSize(bytes.length)}`);
  }
}

/**
 * Scores an uploaded file on the kept evaluations of the name that it is for. The scores are kept, and are those of
 * the version that it becomes.
 * @throws CliError `no_evaluations`, if a score is required; `score_too_low` (refused)
 */
async function scoreUpload(params: {
  client: ApiClient;
  output: Output;
  signal: AbortSignal | undefined;
  name: string;
  digest: string;
  parent: string | null;
  minScore: number | null;
}): Promise<EvaluationScore[]> {
  const { client, output, signal, name, digest, parent, minScore } = params;
  const { evaluations } = (await lookUpEvaluations(client, name)) ?? { evaluations: [] };
  if (evaluations.length === 0) {
    const none = `'${name}' has no evaluations, so nothing was scored. Add one: graft eval add ${name} rows.jsonl`;
    if (minScore !== null)
      throw new CliError({
        message: `Nothing was published: ${none}`,
        exitCode: EXIT.refused,
        code: 'no_evaluations',
      });
    output.note(none);
    return [];
  }
  const scores = await scoreAll({
    ...{ client, output, name, evaluations },
    scored: [{ digest, parent }],
    ...(signal === undefined ? {} : { signal }),
  });
  const low = scores.find(({ exact, rows }) => minScore !== null && exact / rows < minScore);
  if (low === undefined) return scores;
  throw new CliError({
    message: `Nothing was published: ${low.label}: ${shareWords(low)} ${rightWords(low)}; --min-score is ${minScore}.`,
    exitCode: EXIT.refused,
    code: 'score_too_low',
  });
}

/** Failures that a repetition can fix say so. */
function goesOn(error: unknown, uploaded: string): unknown {
  if (!(error instanceof CliError)) return error;
  if (error.exitCode !== EXIT.unavailable && error.exitCode !== EXIT.interrupted) return error;
  return new CliError({
    message: `${error.message} The server has ${uploaded}; run the same command to continue from there.`,
    exitCode: error.exitCode,
    code: error.code,
  });
}

async function withProgress<T>(
  output: Output,
  label: string,
  unit: Unit,
  signal: AbortSignal | undefined,
  run: (update: (done: number, total: number) => void, retrying: Retrying) => Promise<T>,
): Promise<T> {
  const progress = output.progress(label, unit);
  const retrying: Retrying = { signal, onWait: (ms, reason) => progress.end(waitText(ms, reason)) };
  try {
    return await run(progress.update, retrying);
  } finally {
    progress.end();
  }
}

const waitText = (ms: number, reason: string): string => `${reason}; trying again in ${ms / 1_000} s`;

/** @throws CliError `model_not_found` */
export async function liveVersion(client: ApiClient, parent: string): Promise<VersionView> {
  const live = (await lookUpVersions(client, parent))?.versions.find((version) => version.live);
  if (live !== undefined) return live;
  throw new CliError({
    message: `The parent '${parent}' has no live version that this key may use.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
    next: 'graft ls',
  });
}
