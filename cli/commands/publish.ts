import { nameProblem } from '../../protocol/identity.ts';
import { versionState } from '../../protocol/state-words.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import { rightWords, shareWords } from '../../protocol/evaluation-scores.ts';
import { adminClient } from '../admin/admin-client.ts';
import { createApiClient, type ApiClient, callOperation } from '../api-client.ts';
import { command } from '../command.ts';
import { readConnection } from '../connection.ts';
import { usageError } from '../flags.ts';
import { interruptible, CliError, EXIT } from '../cli-error.ts';
import { lookUpEvaluations } from '../evaluations/score-evaluations.ts';
import { fileSize, type Output } from '../output.ts';
import { failedText, readEvalRows, scoreText } from '../publish/evaluate-upload.ts';
import {
  cardOf,
  publishAdapter,
  type Published,
  type PublishWish,
  packForServer,
  type Packed,
} from '../publish/publish-adapter.ts';
import { fetchAdapter } from '../adapter-files/fetch-adapter.ts';
import { fileFacts, readAdapter } from '../../adapters/index.ts';
import { adapterBaseId } from '../adapter-files/adapter-base.ts';
import { type AdapterInput, asRefusal, readInput } from '../adapter-files/read-input.ts';
import { packInput } from '../publish/pack-input.ts';
import { sameCard, trainingText } from '../publish/training-card.ts';
import { planUpload } from '../publish/upload-blob.ts';

export const publishCommand = command({
  verb: 'publish',
  examples: [
    {
      line: 'graft publish ./notes --name alice/notes',
      does: 'makes a PEFT folder the live version of alice/notes',
    },
    {
      line: 'graft publish ./bob.gguf --name alice/notes/bob --parent alice/notes',
      does: 'an adapter that was trained on top of alice/notes',
    },
    {
      line: 'graft publish hf:alice/notes-lora@v2 --name alice/notes',
      does: 'an adapter of the Hugging Face Hub, at a tag or commit',
    },
  ],
  args: {
    path: {
      type: 'positional',
      description:
        'PEFT or MLX folder, or a .safetensors, .gguf or packed file; or hf:<owner>/<name>[/<folder or file>][@<revision>], ' +
        'or the https:// or s3:// address of a folder or file, with #sha256=<hex> if it must have that',
      valueHint: 'path',
      required: true,
    },
    name: { type: 'string', description: 'Name, such as alice/notes', valueHint: 'name', required: true },
    parent: {
      type: 'string',
      description: 'Name of the adapter that it was trained on',
      valueHint: 'name',
    },
    stage: { type: 'boolean', description: 'Add the version without making it live; see `graft promote`' },
    why: { type: 'string', description: 'Reason, recorded in the history', valueHint: 'text' },
    eval: {
      type: 'string',
      description: 'Rows to answer before publishing (JSON Lines)',
      valueHint: 'rows.jsonl',
    },
    scores: {
      type: 'boolean',
      description: "Score it first on the name's kept evaluations; see `graft eval`",
    },
    'min-score': {
      type: 'string',
      description:
        'Publish only if at least this share of rows is answered exactly, or accepted by the judge, of each ' +
        'evaluation, 0 to 1',
      valueHint: 'share',
    },
    'made-from-prompts': {
      type: 'boolean',
      description: 'An adapter that was made from prompts: those who were granted the name may use it',
    },
    bf16: { type: 'boolean', description: 'Round the weights to bfloat16' },
    'dry-run': { type: 'boolean', description: 'Show what would happen, but change nothing' },
  },
  async run({ args, output }) {
    for (const [flag, name] of [
      ['--name', args.name],
      ['--parent', args.parent],
    ] as const) {
      const problem = name === undefined ? null : nameProblem(name);
      if (problem !== null) throw usageError(`${flag} ${name}: ${problem}.`);
    }
    const minScore = parseShare(args['min-score']);
    const scores = args.scores === true;
    if (minScore !== null && args.eval === undefined && !scores)
      throw usageError('--min-score needs rows to score: give --eval <rows.jsonl> or --scores.');
    const wish: PublishWish = {
      given: await interruptible((signal) => fetchAdapter(args.path, { env: process.env, output, signal })),
      name: args.name,
      parent: args.parent ?? null,
      stage: args.stage === true,
      why: args.why ?? null,
      bf16: args.bf16 === true,
      madeFromPrompts: args['made-from-prompts'] === true,
      rows: args.eval === undefined ? null : await readEvalRows(args.eval),
      scores,
      minScore,
    };
    if (args['dry-run'] === true) return dryRun(wish, output);
    const client = await adminClient();
    const published = await interruptible((signal) => publishAdapter({ ...wish, client, output, signal }));
    const { version, created, sent, evaluation, macroF1: f1, scores: kept, failed } = published;
    output.result(
      {
        ...version,
        ...(evaluation === null ? {} : { score: evaluation, not_as_expected: failed }),
        ...(f1 === null ? {} : { macro_f1: f1 }),
        ...(scores ? { scores: kept } : {}),
        ...{ created, sent_bytes: sent },
      },
      () => publishedText(published),
    );
  },
});

async function dryRun(wish: PublishWish, output: Output): Promise<void> {
  const { url, adminKey } = await readConnection({ env: process.env, folder: process.cwd() });
  const client = url === undefined || adminKey === undefined ? null : createApiClient({ url, key: adminKey });
  const plan = await planPublish({ ...wish, client, output });
  output.result({ dry_run: true, ...plan }, () => planText(plan));
}

export function publishedText(published: Published): string {
  const { version, created, repeated, evaluation, macroF1: f1, failed, training } = published;
  const what = `${version.name}@${version.version}`;
  const size = `rank ${version.rank}, ${fileSize(version.bytes)}, ${version.digest.slice(0, 12)}`;
  const first =
    created || repeated
      ? `${what} is ${versionState(version, null)} ` +
        `(${size})${created ? '' : '; an earlier attempt of this request may have created it'}`
      : `${what} is this adapter already; nothing changed`;
  const card =
    training === null ? [] : [`${trainingText(training)}${notKept(sameCard(version.training, training))}`];
  const kept = published.scores.map((one) => `${one.label}: ${shareWords(one)} ${rightWords(one)}`);
  if (evaluation === null) return [first, ...card, ...kept].join('\n');
  const score = `${scoreText(evaluation, f1)}${notKept(version.evaluation?.sha256 === evaluation.sha256)}`;
  return [
    first,
    ...card,
    ...kept,
    score,
    ...(failed.length === 0 ? [] : [failedText(failed, { labelled: f1 !== null })]),
  ].join('\n');
}

const notKept = (isKept: boolean): string => (isKept ? '' : ' (not kept: the version was there before)');

function planText(plan: PublishPlan): string {
  const size = `rank ${plan.rank}, ${plan.modules} modules, ${fileSize(plan.bytes)}`;
  const rows = [
    ...(plan.training === null ? [] : [trainingText(plan.training)]),
    ...(plan.evaluation_rows === 0 ? [] : [`${plan.evaluation_rows} rows would be answered first`]),
  ];
  if (!plan.checked)
    return [
      `dry run: the adapter can be read (${size})`,
      `not checked against the base: ${plan.unchecked_because}`,
      ...rows,
    ].join('\n');
  const what = `${plan.name}@${plan.version}`;
  if (plan.exists) return `dry run: ${what} is this adapter already; nothing would change`;
  const fits = `it fits ${plan.base} (${size}, ${plan.digest?.slice(0, 12)})`;
  const send = plan.bytes_to_send ?? 0;
  const upload =
    send === 0 ? 'the server has the whole file; nothing would be sent' : `${fileSize(send)} would be sent`;
  const now = plan.from === null ? '' : ` (now: ${plan.name}@${plan.from})`;
  const effect = plan.stage ? 'staged' : `live${now}`;
  const heirs =
    plan.instead_of === null || plan.stage
      ? []
      : [`it would replace ${plan.instead_of}, which answers for it now`];
  return [`dry run: ${what} would be ${effect}`, fits, ...heirs, upload, ...rows].join('\n');
}

/** @throws CliError (usage) unless it is a number from 0 to 1. */
function parseShare(text: string | undefined): number | null {
  if (text === undefined) return null;
  const share = Number(text);
  if (text.trim() === '' || !(share >= 0 && share <= 1))
    throw usageError(`--min-score ${text} is not a share from 0 to 1, such as 0.9.`);
  return share;
}

/** What `graft publish` would do; nothing is done. */
interface PublishPlan {
  readonly name: string;
  /** Number that the version would get, or has; null without a server. */
  readonly version: number | null;
  /** This version exists already: nothing would change. */
  readonly exists: boolean;
  readonly stage: boolean;
  /** Live version of the name now. Null without a server, like the next three. */
  readonly from: number | null;
  /** For a new name: the name above it that answers for it until then. */
  readonly instead_of: string | null;
  /** `name@version`. */
  readonly parent: string | null;
  /** An origin would test it first. */
  readonly trial: boolean | null;
  /** null without a server, if the adapter does not name it. */
  readonly base: string | null;
  /** Checked against the server's base; otherwise only the file itself was checked. */
  readonly checked: boolean;
  /** Why not. */
  readonly unchecked_because: string | null;
  /** Of the packed file; null without a server: base and parent are part of the file. */
  readonly digest: string | null;
  /** Of the packed file. */
  readonly bytes: number;
  readonly rank: number;
  readonly modules: number;
  readonly bytes_to_send: number | null;
  readonly evaluation_rows: number;
  /** The card that would be sent. */
  readonly training: TrainingCard | null;
}

/** Placeholder for an unknown base; this file is not kept. */
const UNKNOWN_BASE = 'unknown';

/** @param client null without a known server. @throws CliError `refused` when publishing would be refused. */
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
    evaluation_rows:
      (wish.rows?.rows.length ?? 0) + (wish.scores === true ? await keptRows(client, name) : 0),
    training: found.training,
  };
}

/** Of all kept evaluations of a name. */
async function keptRows(client: ApiClient, name: string): Promise<number> {
  const { evaluations } = (await lookUpEvaluations(client, name)) ?? { evaluations: [] };
  return evaluations.reduce((sum, { rows }) => sum + rows, 0);
}

/** The plan without a server. The base is the one that the adapter names. */
async function planAlone(wish: PublishWish & { output: Output }, because: string): Promise<PublishPlan> {
  const input = await readInput(wish.given);
  for (const note of input.notes) wish.output.note(note);
  const training = await cardOf(wish, input);
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
    training,
  };
}

/** Base and parent as named in the adapter's files. @throws CliError `adapter_invalid` (refused) */
function ownWord(input: AdapterInput): { baseId: string | null; parentChainId: string | null } {
  try {
    const { baseModel, parent } = readAdapter(input.files);
    return { baseId: adapterBaseId(baseModel), parentChainId: parent };
  } catch (error) {
    throw asRefusal(error, input.where);
  }
}
