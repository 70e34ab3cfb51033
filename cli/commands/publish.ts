import { defineCommand } from 'citty';
import { nameProblem, versionState } from '../../protocol/index.ts';
import { createApiClient, type ApiClient } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { needKey, needUrl, readConnection } from '../connection.ts';
import { commonFlags, usageError } from '../flags.ts';
import { interruptible } from '../interruptible.ts';
import { createOutput, fileSize, type Output } from '../output.ts';
import { failedText, readEvalRows, scoreText } from '../publish/evaluate-upload.ts';
import { planPublish, type PublishPlan } from '../publish/plan-publish.ts';
import { publishAdapter, type Published, type PublishWish } from '../publish/publish-adapter.ts';

export const help: CommandHelp = {
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
      line: 'graft publish ./notes --name alice/notes --eval rows.jsonl --min-score 0.9',
      does: 'only if nine of ten answers are exactly as expected',
    },
    {
      line: 'graft publish ./notes --name alice/notes --dry-run',
      does: 'says what would happen, changes nothing',
    },
  ],
  notes: [
    'The path is a folder that PEFT or mlx-lm wrote, or one file: safetensors, GGUF, or what `graft pack` wrote. The adapter is converted and checked here first, uploaded in parts of at most 24 MiB, and checked again by the server, which has an origin run it before it becomes a version. What the server already has from you is not sent again, so after a cut connection or Ctrl-C the same command goes on where it ended, and the same bytes under the same name and parent make no new version. A request that meets a busy server or a cut connection is sent again up to three times, after 0.5 s and more, or after what the server asks for.',
    '`--parent` pins the live version of the parent: the new adapter is applied on top of the parent’s whole chain. `--bf16` rounds float32 weights to half their size. `--dry-run` asks the server what it would do (version, parent, limits, whose name, what is to be sent) and sends none of the adapter’s values; only an origin’s trial can find more. It needs no server: without one it checks what the file says by itself, and says so.',
    '`--eval` takes JSON Lines, one row a line: `{"user": "…", "expected": "…"}` with an optional `"system"`, in the base’s chat format, or `{"prompt": "…", "expected": "…"}` for text that goes on as it is. After the upload and before anything is published, the server answers every row greedily. The score is the share of rows whose answer is exactly what was expected; beside it stands the mean negative log-likelihood of the expected tokens, in nats a token. The first rows that were answered otherwise are shown, with what was answered as far as it parts from what was expected (`--json`: all of them). Score and likelihood are kept with the version, with the sha256 of the rows. Below `--min-score` nothing is published, and the exit code is 5.',
  ],
};

export default defineCommand({
  meta: { name: 'publish' },
  args: {
    path: {
      type: 'positional',
      description: 'Folder of PEFT or MLX, or a file: .safetensors, .gguf, or a packed one',
      valueHint: 'path',
      required: true,
    },
    name: { type: 'string', description: 'Name, such as alice/notes', valueHint: 'name', required: true },
    parent: {
      type: 'string',
      description: 'Name of the adapter it was trained on top of',
      valueHint: 'name',
    },
    stage: { type: 'boolean', description: 'Add the version without making it live; see `graft promote`' },
    why: { type: 'string', description: 'Reason, for the history', valueHint: 'text' },
    eval: {
      type: 'string',
      description: 'Rows to answer before it is published (JSON Lines)',
      valueHint: 'rows.jsonl',
    },
    'min-score': {
      type: 'string',
      description: 'Publish only if this share of the rows is answered exactly, 0 to 1',
      valueHint: 'share',
    },
    bf16: { type: 'boolean', description: 'Round the weights to bfloat16' },
    'dry-run': { type: 'boolean', description: 'Say what would happen, and change nothing' },
    ...commonFlags,
  },
  async run({ args }) {
    for (const [flag, name] of [
      ['--name', args.name],
      ['--parent', args.parent],
    ] as const) {
      const problem = name === undefined ? null : nameProblem(name);
      if (problem !== null) throw usageError(`${flag} ${name}: ${problem}.`);
    }
    const minScore = parseShare(args['min-score']);
    if (minScore !== null && args.eval === undefined)
      throw usageError('--min-score needs rows to score: give --eval <rows.jsonl>.');
    const wish: PublishWish = {
      given: args.path,
      name: args.name,
      parent: args.parent ?? null,
      stage: args.stage === true,
      why: args.why ?? null,
      bf16: args.bf16 === true,
      rows: args.eval === undefined ? null : await readEvalRows(args.eval),
      minScore,
    };
    const output = createOutput({ json: args.json === true });
    if (args['dry-run'] === true) return dryRun(wish, output);
    const client = await adminClient();
    const published = await interruptible((signal) => publishAdapter({ ...wish, client, output, signal }));
    const { version, created, sent, evaluation, failed } = published;
    output.result(
      {
        ...version,
        ...(evaluation === null ? {} : { score: evaluation, not_as_expected: failed }),
        ...{ created, sent_bytes: sent },
      },
      () => publishedText(published),
    );
  },
});

async function adminClient(): Promise<ApiClient> {
  const connection = await readConnection({ env: process.env, folder: process.cwd() });
  return createApiClient({ url: needUrl(connection), key: needKey(connection, 'adminKey') });
}

async function dryRun(wish: PublishWish, output: Output): Promise<void> {
  const { url, adminKey } = await readConnection({ env: process.env, folder: process.cwd() });
  const client = url === undefined || adminKey === undefined ? null : createApiClient({ url, key: adminKey });
  const plan = await planPublish({ ...wish, client, output });
  output.result({ dry_run: true, ...plan }, () => planText(plan));
}

export function publishedText({ version, created, repeated, evaluation, failed }: Published): string {
  const what = `${version.name}@${version.version}`;
  const size = `rank ${version.rank}, ${fileSize(version.bytes)}, ${version.digest.slice(0, 12)}`;
  const first =
    created || repeated
      ? `${what} is ${versionState(version, null)} (${size})${created ? '' : '; a first attempt of this request may have made it'}`
      : `${what} is this adapter already; nothing changed`;
  if (evaluation === null) return first;
  const kept = version.evaluation?.sha256 === evaluation.sha256;
  const score = `${scoreText(evaluation)}${kept ? '' : ' (not kept: the version was there before)'}`;
  return [first, score, ...(failed.length === 0 ? [] : [failedText(failed)])].join('\n');
}

function planText(plan: PublishPlan): string {
  const size = `rank ${plan.rank}, ${plan.modules} modules, ${fileSize(plan.bytes)}`;
  const rows = plan.evaluation_rows === 0 ? [] : [`${plan.evaluation_rows} rows would be answered first`];
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
      : [`it would answer in the place of ${plan.instead_of}, which answers for it now`];
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
