/** `graft eval`: rows with expected answers, labels or a judge that a name keeps, and how its versions do on them. */
import path from 'node:path';
import {
  EvaluationLabel,
  JudgedRow,
  MAX_KEPT_EVALUATION_BYTES,
  MAX_KEPT_ROWS,
  type EvaluationList,
  type EvaluationScore,
  type KeptRow,
} from '../../protocol/admin-api/evaluations.ts';
import type { VersionList } from '../../protocol/admin-api/versions.ts';
import { rightWords, versionsToScore } from '../../protocol/evaluation-scores.ts';
import { BASE_JUDGE } from '../../protocol/experiment.ts';
import { liveOnce, VERSION_STATE_WORDS, versionState } from '../../protocol/state-words.ts';
import { adminClient, lookUpVersions, ownHistory } from '../admin/admin-client.ts';
import { parseName, parseReference } from '../admin/operation-command.ts';
import { type ApiClient, callOperation, callPages, callWithStatus } from '../api-client.ts';
import { CliError, EXIT, interruptible } from '../cli-error.ts';
import { command, pickAction, type Actions } from '../command.ts';
import {
  confusionText,
  lookUpEvaluations,
  scoreAll,
  scoreTable,
  type Scored,
} from '../evaluations/score-evaluations.ts';
import { usageError } from '../flags.ts';
import { fileSize, plainTable, when, type Output } from '../output.ts';
import { readEvalRows } from '../publish/evaluate-upload.ts';
import { readJsonLines } from '../read-json-lines.ts';

export const actions = {
  add: {
    summary: 'Keep rows with expected answers, labels or a judge, instead of those with the same label',
    arguments: ['name', 'file'],
    flags: ['as', 'judge'],
  },
  list: { summary: 'List the evaluations of a name, and the scores so far', arguments: ['name'], flags: [] },
  show: { summary: 'Print the rows of an evaluation (JSON Lines)', arguments: ['name'], flags: ['as'] },
  remove: { summary: 'Remove an evaluation and its scores', arguments: ['name'], flags: ['as'] },
  score: {
    summary: 'Score a version, or the live and the newest staged one; the default',
    arguments: ['name'],
    flags: ['as', 'adapter', 'again'],
  },
} as const satisfies Actions;
type Action = keyof typeof actions;

export const evalCommand = command({
  verb: 'eval',
  examples: [
    {
      line: 'graft eval add support/intent rows.jsonl --as holdout',
      does: 'keeps the rows, encrypted, under the label holdout',
    },
    {
      line: 'graft eval add support/intent prompts.jsonl --judge medicine',
      does: 'keeps rows whose answers the live version of medicine judges',
    },
    { line: 'graft eval support/intent', does: 'scores the live version and the newest staged one' },
    { line: 'graft eval support/intent@3', does: 'scores version 3' },
    { line: 'graft eval list support/intent', does: 'evaluations and scores, without asking an origin' },
    { line: 'graft eval remove support/intent --as holdout', does: 'removes the rows and their scores' },
  ],
  actions,
  args: {
    action: {
      type: 'positional',
      description: 'add, list, show, remove or score; or at once the name to score',
      valueHint: Object.keys(actions).join('|'),
      required: true,
    },
    name: {
      type: 'positional',
      description: 'Name, such as support/intent; for score also a version of it, such as support/intent@3',
      required: false,
    },
    file: {
      type: 'positional',
      description:
        'For add: rows as for `graft publish --eval`, for classifiers with "label"; with a judge, "expected" is optional',
      valueHint: 'rows.jsonl',
      required: false,
    },
    as: {
      type: 'string',
      description: "Label of the evaluation; default for add: the file's name, for score: all",
      valueHint: 'label',
    },
    judge: {
      type: 'string',
      description: 'For add: the model that accepts answers or does not; a name becomes its live version',
      valueHint: 'base|name[@version]',
    },
    adapter: {
      type: 'string',
      description: "A version of another name, to score on this name's rows",
      valueHint: 'name@version',
    },
    again: { type: 'boolean', description: 'Score every row again' },
  },
  async run({ args, output }) {
    const wish = parseEval(args);
    const client = await adminClient();
    await interruptible((signal) => run(wish, { client, output, signal }));
  },
});

/** Differently answered rows that are named. */
const MISSED_TOLD = 5;

interface EvalWish {
  action: Action;
  name: string;
  /** null = the default. */
  version: number | null;
  file: string;
  label: string | null;
  /** null = answers must be exactly as expected. */
  judge: string | null;
  adapter: string | null;
  again: boolean;
}

/** @throws CliError (usage) */
export function parseEval(args: Readonly<Record<string, unknown>>): EvalWish {
  const text = (flag: string): string | null => (typeof args[flag] === 'string' ? args[flag] : null);
  const first = text('action') ?? '';
  // A name stands for its scoring; one that is called like an action needs the word.
  const isName = !Object.hasOwn(actions, first) && text('name') === null;
  const action = pickAction({ verb: 'eval', actions, word: isName ? 'score' : first, args });
  const given = isName ? first : text('name');
  if (given === null) throw usageError(`Which name? For example graft eval ${action} support/intent.`);
  const { name, version } =
    action === 'score' ? parseReference(given) : { name: parseName(given), version: null };
  const file = text('file');
  if (action === 'add' && file === null)
    throw usageError(`Which rows? Give a file: graft eval add ${name} rows.jsonl.`);
  if (action !== 'add' && file !== null) throw usageError(`\`graft eval ${action}\` takes no '${file}'.`);
  const label = text('as') ?? (action === 'add' ? path.parse(file ?? '').name.toLowerCase() : null);
  const problem = label === null ? undefined : EvaluationLabel.safeParse(label).error?.issues[0]?.message;
  if (problem !== undefined) throw usageError(`The label '${label}' ${problem}. Give another with --as.`);
  if (label === null && (action === 'show' || action === 'remove'))
    throw usageError(`Which evaluation? Give its label with --as; \`graft eval list ${name}\` shows them.`);
  const judge = text('judge');
  if (judge !== null && judge !== BASE_JUDGE) parseReference(judge);
  const adapter = text('adapter');
  if (adapter !== null && (version !== null || parseReference(adapter).version === null))
    throw usageError(`--adapter ${adapter}: give one version, such as other/name@2.`);
  return { action, name, version, file: file ?? '', label, judge, adapter, again: args['again'] === true };
}

interface Runtime {
  client: ApiClient;
  output: Output;
  signal: AbortSignal;
}

async function run(wish: EvalWish, runtime: Runtime): Promise<void> {
  const { client, output } = runtime;
  const { action, name } = wish;
  const label = wish.label ?? '';
  switch (action) {
    case 'add':
      return add(wish, runtime);
    case 'show': {
      const what = `read ${label} of ${name}`;
      const query = { name, label };
      const rows = await callPages(client, what, 'GET /admin/evaluations/rows', query, (page) => page.rows);
      return output.result(rows, () => rows.map((row) => JSON.stringify(row)).join('\n'));
    }
    case 'remove': {
      const call = { query: { name, label } };
      await callOperation(client, `remove ${label} of ${name}`, 'DELETE /admin/evaluations', call);
      return output.result({ name, label, removed: true }, () => `${name} no longer has ${label}`);
    }
    case 'list': {
      const list = await found(client, name);
      const stateOf = await stateWords(client, name, await lookUpVersions(client, name));
      return output.result(list, () => listText(list, stateOf));
    }
    case 'score':
      return score(wish, runtime);
  }
}

async function add({ name, label, file, judge }: EvalWish, { client, output }: Runtime): Promise<void> {
  const { rows } = await (judge === null
    ? readEvalRows(file)
    : readJsonLines<KeptRow>({ file, what: file, schema: JudgedRow }));
  if (rows.length > MAX_KEPT_ROWS)
    throw usageError(`${file} has ${rows.length} rows; an evaluation keeps at most ${MAX_KEPT_ROWS}.`);
  const body = {
    name,
    label: label ?? '',
    rows: rows.map(({ row }) => row),
    ...(judge === null ? {} : { judge }),
  };
  if (Buffer.byteLength(body.rows.map((row) => JSON.stringify(row)).join('\n')) > MAX_KEPT_EVALUATION_BYTES)
    throw usageError(`${file}: an evaluation keeps at most ${MAX_KEPT_EVALUATION_BYTES} bytes of rows.`);
  const call = { body };
  const { answer, status } = await callWithStatus(client, `add ${label}`, 'POST /admin/evaluations', call);
  const judged = answer.judge === null ? '' : `, judged by ${answer.judge}`;
  output.result({ name, ...answer, created: status === 201 }, () =>
    status === 201
      ? `${name} keeps ${answer.rows} rows as ${answer.label}${judged}`
      : `${name} keeps these rows as ${answer.label} already${judged}; nothing changed`,
  );
  output.note(`next: graft eval ${name}`);
}

/** @throws CliError (not found) */
async function found(client: ApiClient, name: string): Promise<EvaluationList> {
  const list = await lookUpEvaluations(client, name);
  if (list !== null) return list;
  throw new CliError({
    message: `'${name}' does not exist or you do not have access to it.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
    next: 'graft ls',
  });
}

async function score(wish: EvalWish, { client, output, signal }: Runtime): Promise<void> {
  const { name, label, again } = wish;
  const list = await found(client, name);
  const evaluations = list.evaluations.filter((one) => label === null || one.label === label);
  if (evaluations.length === 0)
    throw new CliError({
      message:
        label === null
          ? `'${name}' has no evaluations. Add one: graft eval add ${name} rows.jsonl`
          : `'${name}' has no evaluation '${label}'. List them: graft eval list ${name}`,
      exitCode: EXIT.notFound,
      code: 'not_found',
    });
  const versions = await lookUpVersions(client, name);
  const scored = await wanted(wish, versions);
  const scores = await scoreAll({ client, output, name, evaluations, scored, again, signal });
  if (wish.adapter !== null) {
    // Of another name: it is no version in the list.
    const { adapter } = wish;
    return output.result({ name, adapter, scores }, () =>
      scores
        .map((one) => `${adapter}: ${one.exact} of ${one.rows} rows of ${one.label} ${rightWords(one)}`)
        .join('\n'),
    );
  }
  const now = await found(client, name);
  const shown = { ...now, scores: now.scores.filter((one) => label === null || one.label === label) };
  const stateOf = await stateWords(client, name, versions);
  const adapterOf = (at: number): string => scored[Math.floor(at / evaluations.length)]?.adapter ?? name;
  const confusions = scores.flatMap(({ label: of, confusion }, at) =>
    confusion === null ? [] : [{ adapter: adapterOf(at), label: of, ...confusion }],
  );
  output.result({ ...shown, ...(confusions.length === 0 ? {} : { confusions }) }, () =>
    [
      scoreTable(shown, stateOf),
      ...confusions.map((one) => `classes that ${one.adapter} gives ${one.label}:\n${confusionText(one)}`),
    ].join('\n\n'),
  );
  for (const [at, one] of scores.entries()) {
    const adapter = adapterOf(at);
    for (const line of missedLines(adapter, one)) output.note(line);
  }
}

/** Which rows were not right, and on how many the judge was unclear. */
export function missedLines(adapter: string, score: EvaluationScore): string[] {
  const { label, rows, exact, judge, labelled, unclear, missed } = score;
  const first = missed.slice(0, MISSED_TOLD);
  if (first.length === 0) return [];
  const more = rows - exact - first.length;
  const numbers = `rows ${first.join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
  if (labelled) return [`${adapter} gives other classes than ${label} in ${numbers}`];
  if (judge === null) return [`${adapter} differs from ${label} in ${numbers}`];
  return [
    `${judge} does not accept the answers of ${adapter} to ${label}, ${numbers}`,
    ...(unclear === 0 ? [] : [`${judge} gave no clear verdict on ${unclear} of them`]),
  ];
}

/** @throws CliError (not found) when there is nothing to score. */
function wanted({ name, version, adapter }: EvalWish, list: VersionList | null): Scored[] {
  if (adapter !== null) return [{ adapter }];
  if (version !== null) return [{ adapter: `${name}@${version}` }];
  const usable = list === null ? [] : versionsToScore(list);
  const live = usable.find((one) => one.version === list?.version);
  // Newest first.
  const staged = usable.find((one) => one !== live);
  const scored = [live, staged].flatMap((one) =>
    one === undefined ? [] : [{ adapter: `${name}@${one.version}` }],
  );
  if (scored.length > 0) return scored;
  throw new CliError({
    message: `'${name}' has no version to score.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
  });
}

async function stateWords(
  client: ApiClient,
  name: string,
  list: VersionList | null,
): Promise<(version: number) => string> {
  const wasLive = liveOnce(await ownHistory(client, name));
  return (version) => {
    const view = list?.versions.find((one) => one.version === version);
    return view === undefined
      ? '-'
      : VERSION_STATE_WORDS[versionState(view, list?.version ?? null, wasLive.has(version))];
  };
}

export function listText(list: EvaluationList, stateOf: (version: number) => string): string {
  const { name, evaluations, scores } = list;
  if (evaluations.length === 0) return `no evaluations; add one: graft eval add ${name} rows.jsonl`;
  const judged = evaluations.some(({ judge }) => judge !== null);
  const table = plainTable(
    ['EVALUATION', ...(judged ? ['JUDGE'] : []), 'ROWS', 'SIZE', 'SINCE', 'BY', 'SHA256'],
    evaluations.map(({ label, judge, rows, bytes, created_at, created_by, sha256 }) => [
      label,
      ...(judged ? [judge ?? '-'] : []),
      String(rows),
      fileSize(bytes),
      when(created_at),
      created_by,
      sha256.slice(0, 12),
    ]),
  );
  return scores.length === 0
    ? `${table}\n\nno scores; score the live version: graft eval ${name}`
    : `${table}\n\n${scoreTable(list, stateOf)}`;
}
