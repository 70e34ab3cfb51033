/** `graft experiment`: its actions, their requests, and how versions and flags are parsed. */
import { command } from '../command.ts';
import { setTimeout as delay } from 'node:timers/promises';
import {
  type CreateExperiment,
  type ExperimentPlan,
  type ExperimentView,
  ExperimentId,
} from '../../protocol/admin-api/experiments.ts';
import type { RequestOf } from '../../protocol/admin-api/operations.ts';
import { variantScores } from '../../protocol/evaluation-scores.ts';
import { isLive, adaptersOf, type Experiment, type ExperimentStatus } from '../../protocol/experiment.ts';
import { adminClient, lookUpVersions } from '../admin/admin-client.ts';
import { type ApiClient, callOperation, callPages } from '../api-client.ts';
import { askYes } from '../ask-at-terminal.ts';
import {
  checkDesign,
  checkDocument,
  readDesignFile,
  parseDesign,
  type DesignFlags,
  pinJudge,
} from '../experiment/parse-design.ts';
import {
  actionOf,
  actions,
  examples,
  DESIGN_FLAGS,
  experimentArgs,
  type ExperimentAction,
} from '../experiment/experiment-flags.ts';
import {
  experimentTable,
  nextCommand,
  nowText,
  parseShare,
  decisionText,
  presentLook,
  unitsOf,
} from '../experiment/experiment-words.ts';
import { lookUpEvaluations, scoreAll } from '../evaluations/score-evaluations.ts';
import { glyphsFor } from '../experiment/draw-interval.ts';
import { outlookText, planText } from '../experiment/plan-text.ts';
import { keptPairsText, type Screen, statusText, watchStatus } from '../experiment/status-text.ts';
import { isFlagGiven, parseCount, repeatedFlag, usageError } from '../flags.ts';
import { stripControlChars, stripControlCharsJson, terminalWidth, type Output } from '../output.ts';
import { interruptible, CliError, EXIT } from '../cli-error.ts';
import { parseName, parseReference, parseVersion } from '../admin/operation-command.ts';

/** Width of a pipe, and of terminals that report none. */
const DEFAULT_WIDTH = 80;

export const experimentCommand = command({
  verb: 'experiment',
  examples,
  actions,
  args: experimentArgs,
  async run({ args, rawArgs, output }) {
    const action = actionOf(args);
    const flags: Flags = {
      ...{ ...args, rawArgs, dryRun: args['dry-run'] === true, minUnits: args['min-units'] },
      ...{ minDays: args['min-days'], atLeast: args['at-least'], expectUnits: args['expect-units'] },
      shadowCompare: args['shadow-compare'] === true,
      ...{ judgeTokens: args['judge-tokens'], keepPairs: args['keep-pairs'] },
      segmentBy: args['segment-by'],
      requireScores: args['require-scores'] === true,
    };
    await runAction(action, flags, { output, connect: adminClient, ask: askYes });
  },
});

/** Flags as citty parsed them, and as typed; repeatable ones are read from `rawArgs`. */
export interface Flags extends Omit<
  DesignFlags,
  'name' | 'variants' | 'metrics' | 'guardrails' | 'tenants' | 'overrides'
> {
  readonly rawArgs: readonly string[];
  readonly name?: string | undefined;
  readonly which?: string | undefined;
  readonly start?: boolean | undefined;
  readonly requireScores?: boolean | undefined;
  readonly expectUnits?: string | undefined;
  readonly yes?: boolean | undefined;
  readonly file?: string | undefined;
  readonly why?: string | undefined;
  readonly expect?: string | undefined;
  readonly undo?: boolean | undefined;
  readonly all?: boolean | undefined;
  readonly watch?: boolean | undefined;
  readonly dryRun?: boolean | undefined;
}

/** Dependencies of actions besides their flags. */
export interface Runtime {
  output: Output;
  /** Called once the flags are known to be valid. */
  connect: () => Promise<ApiClient>;
  /** @returns null without a terminal. */
  ask: (question: string) => Promise<boolean | null>;
}

export async function runAction(action: ExperimentAction, flags: Flags, runtime: Runtime): Promise<void> {
  const { output, connect } = runtime;
  const { name = '' } = flags;
  switch (action) {
    case 'create':
      return create(flags, runtime);
    case 'change':
      return change(flags, output, connect);
    case 'list':
      return list(await connect(), output, flags.all === true);
    case 'show': {
      const view = await findExperiment(await connect(), name);
      return output.result(view, () => stripControlCharsJson(view.document, 2));
    }
    case 'status':
      if (flags.watch === true && output.json) throw usageError('--watch shows text. Remove --json.');
      if (flags.watch === true && name === '') throw usageError('Which experiment? Give its name.');
      if (name !== '' && flags.all === true) throw usageError('--all is for the list. Remove the name.');
      if (name === '') return list(await connect(), output, flags.all === true);
      return flags.watch === true
        ? watch(await connect(), name)
        : showStatus(await findExperiment(await connect(), name), output);
    case 'evaluate': {
      const client = await connect();
      const { id } = await findExperiment(client, name);
      const route = 'POST /admin/experiments/:id/evaluate';
      return showStatus(await callOperation(client, `evaluate ${name}`, route, { params: { id } }), output);
    }
    case 'pairs': {
      const client = await connect();
      const { id } = await findExperiment(client, name);
      const route = 'GET /admin/experiments/:id/pairs';
      const { pairs } = await callOperation(client, `read the pairs of ${name}`, route, { params: { id } });
      return output.result(pairs, () => keptPairsText(pairs));
    }
    case 'secret': {
      const client = await connect();
      const { id } = await findExperiment(client, name);
      const route = 'GET /admin/experiments/:id/judge-secret';
      const call = { params: { id } };
      const answer = await callOperation(client, `read the secret of ${name}’s judge`, route, call);
      return output.result(answer, () => answer.secret);
    }
    default:
      return step(action, flags, runtime);
  }
}

async function list(client: ApiClient, output: Output, all: boolean): Promise<void> {
  const found = await listExperiments(client);
  const shown = all ? found : found.filter(({ document }) => document.status !== 'archived');
  output.result(shown, () => experimentTable(shown));
  const hidden = found.length - shown.length;
  if (hidden > 0) output.note(`${hidden} more archived: graft experiment list --all`);
}

/**
 * The design in flags or the file. @param variants instead of `--variant`, if only a version was given.
 * @throws CliError (usage)
 */
async function designOf(flags: Flags, variants?: readonly string[]): Promise<ReturnType<typeof checkDesign>> {
  const { name, file, rawArgs, why } = flags;
  const all = (flag: string): string[] => repeatedFlag(rawArgs, flag);
  let design: Record<string, unknown>;
  if (file !== undefined) {
    const stray = DESIGN_FLAGS.find((flag) => isFlagGiven(rawArgs, flag));
    if (stray !== undefined) throw usageError(`Set it in ${file}, or use --${stray} without a file.`);
    design = await readDesignFile(file);
    if (name !== undefined && design['name'] !== undefined && design['name'] !== name)
      throw usageError(`${file} is for '${String(design['name'])}', not for '${name}'.`);
    if (name !== undefined) design = { ...design, name };
  } else {
    const lists = {
      variants: variants ?? all('variant'),
      metrics: all('metric'),
      guardrails: all('guardrail'),
      tenants: all('tenant'),
      overrides: all('override'),
    };
    design = { ...parseDesign({ ...flags, ...lists, name: name ?? '' }) };
  }
  return checkDesign(why === undefined ? design : { ...design, why });
}

async function create(flags: Flags, { output, connect }: Runtime): Promise<void> {
  const { name = '', which, rawArgs, file } = flags;
  const treatment = which === undefined ? undefined : treatmentOf(which, name);
  if (treatment !== undefined && (file !== undefined || isFlagGiven(rawArgs, 'variant')))
    throw usageError(`Give '${which}', or all variants with ${file === undefined ? '--variant' : '--file'}.`);
  const expected =
    flags.expectUnits === undefined ? {} : { expect_units: parseCount(flags.expectUnits, '--expect-units') };
  // Wrong flags are reported before anything is asked; the server knows which version is live.
  let design = await designOf(
    flags,
    treatment === undefined ? undefined : ['control=@1', `treatment=${treatment}`],
  );
  const client = await connect();
  if (treatment !== undefined) design = await designOf(flags, await livePair(client, name, treatment));
  design = await pinJudge(client, design, flags.judge);
  if (flags.dryRun === true) {
    await checkVersions(client, design);
    const plan = await planOf(client, design, expected);
    output.result({ ...design, plan, dry_run: true }, () =>
      [`dry run: this would be a draft`, planText(design), '', outlookText(plan)].join('\n'),
    );
    return;
  }
  const plan = await planOf(client, design, expected);
  const draft = await createExperiment(client, design);
  const started =
    flags.start === true
      ? await startScored(client, { view: draft, output, requireScores: flags.requireScores === true }).catch(
          (error: unknown) => ({ error }),
        )
      : draft;
  // A draft that could not be started exists all the same, and its secret is shown only this once.
  const view = 'error' in started ? draft : started;
  const secret = draft.webhook_secret;
  const shown = secret === undefined ? {} : { webhook_secret: secret };
  output.result({ ...view, ...shown, plan }, () =>
    [
      planText(view.document),
      '',
      outlookText(plan),
      '',
      ...(secret === undefined ? [] : [`webhook secret, shown once: ${secret}`, '']),
      nowText(view),
    ].join('\n'),
  );
  if ('error' in started) throw started.error;
  noteNext(view, output);
}

const planOf = (
  client: ApiClient,
  design: CreateExperiment,
  expected: { expect_units?: number },
): Promise<ExperimentPlan> =>
  callOperation(client, `plan an experiment on ${design.name}`, 'POST /admin/experiments/plan', {
    body: { ...design, ...expected },
  });

async function change(flags: Flags, output: Output, connect: () => Promise<ApiClient>): Promise<void> {
  const { file, name, why, dryRun = false } = flags;
  if (file === undefined)
    throw usageError(
      'What should change? Print the document with `graft experiment show`, edit it, and give it with ' +
        '--file.',
    );
  const document = checkDocument(await readDesignFile(file));
  const client = await connect();
  const { id } = await findExperiment(client, name ?? document.name);
  const view = await changeExperiment(client, { id, document, why, dryRun });
  output.result({ ...view, ...(dryRun ? { dry_run: true } : {}) }, () =>
    dryRun ? `dry run: document ${view.document.version} would be accepted` : nowText(view),
  );
  if (!dryRun) noteNext(view, output);
}

/**
 * Scores the variants on the kept evaluations of the name, warns of one that is worse than control, and starts the
 * experiment. What cannot be scored is said, and stops it only if scores are required.
 */
async function startScored(
  client: ApiClient,
  params: {
    view: ExperimentView;
    output: Output;
    requireScores: boolean;
    body?: RequestOf<'POST /admin/experiments/:id/start'>;
  },
): Promise<ExperimentView> {
  const { view, output, requireScores, body = {} } = params;
  const { id, document } = view;
  const { name } = document;
  try {
    await interruptible((signal) => scoreVariants(client, { document, output, signal }));
  } catch (error) {
    const said = error instanceof CliError && error.exitCode !== EXIT.interrupted;
    if (requireScores || !said) throw error;
    output.note(`warning: the variants are not all scored. ${error.message}`);
  }
  const required = requireScores ? { require_scores: true } : {};
  const call = { params: { id }, body: { ...body, ...required } };
  return callOperation(client, `start ${name}`, 'POST /admin/experiments/:id/start', call);
}

async function scoreVariants(
  client: ApiClient,
  params: { document: Experiment; output: Output; signal: AbortSignal },
): Promise<void> {
  const { document, output, signal } = params;
  const { name, variants } = document;
  const { evaluations } = (await lookUpEvaluations(client, name)) ?? { evaluations: [] };
  if (evaluations.length === 0) return;
  const scored = variants.map(({ adapter }) => ({ adapter }));
  const scores = await scoreAll({ client, output, name, evaluations, scored, signal });
  for (const { worse, text } of variantScores(variants, evaluations, scores))
    output.note(`${worse ? 'warning: ' : ''}${text}`);
}

async function step(action: Step, flags: Flags, { output, connect, ask }: Runtime): Promise<void> {
  const { name = '', which } = flags;
  const body = stepRequest(action, { ...flags, variant: which });
  const client = await connect();
  const found = await findExperiment(client, name);
  const over =
    action === 'promote' && isLive(found.document)
      ? await confirmOver(client, { view: found, variant: which, yes: flags.yes === true, ask })
      : {};
  const route = `POST /admin/experiments/:id/${action}` as const;
  const params = { id: found.id };
  const requireScores = flags.requireScores === true;
  const view =
    action === 'start' && found.document.status === 'draft'
      ? await startScored(client, { view: found, output, requireScores, body })
      : await callOperation(client, `${action} ${name}`, route, { params, body: { ...body, ...over } });
  output.result(view, () => nowText(view));
  noteNext(view, output);
}

function noteNext(view: ExperimentView, output: Output): void {
  const next = nextCommand(view);
  if (next !== null) output.note(`next: ${next}`);
}

const screen = (): Screen => ({
  width: terminalWidth() ?? DEFAULT_WIDTH,
  glyphs: glyphsFor(process.env),
});

function showStatus(view: ExperimentView, output: Output): void {
  output.result(view, () => statusText(view, screen()));
}

const watch = (client: ApiClient, name: string): Promise<void> =>
  interruptible((signal) =>
    watchStatus({
      look: async () =>
        stripControlChars(statusText(await findExperiment(client, name), screen()), { colours: true }),
      screen: process.stdout,
      signal,
      sleep: (ms) => delay(ms, undefined, { signal }).catch(() => undefined),
    }),
  );

/** @returns all that match, newest first. */
const listExperiments = (
  client: ApiClient,
  filter: { name?: string; status?: ExperimentStatus } = {},
): Promise<ExperimentView[]> =>
  callPages(client, 'list the experiments', 'GET /admin/experiments', filter, (page) => page.experiments);

const getExperiment = (client: ApiClient, id: string): Promise<ExperimentView> =>
  callOperation(client, `look up ${id}`, 'GET /admin/experiments/:id', { params: { id } });

/**
 * @param what an id, or a name with one experiment that is not archived. @throws CliError (not found) if it has
 * none.
 */
async function findExperiment(client: ApiClient, what: string): Promise<ExperimentView> {
  if (ExperimentId.safeParse(what).success) return getExperiment(client, what);
  const name = parseName(what);
  const all = await listExperiments(client, { name });
  const current = all.find(({ document }) => document.status !== 'archived');
  if (current !== undefined) return current;
  const old = all.length === 0 ? '' : ` (${all.length} archived: graft experiment list --all)`;
  throw new CliError({
    message:
      `'${name}' has no experiment${old}. Create one: graft experiment create ${name} --variant ` +
      `control=${name}@1 --variant treatment=${name}@2`,
    exitCode: EXIT.notFound,
    code: 'not_found',
  });
}

const createExperiment = (client: ApiClient, body: CreateExperiment): Promise<ExperimentView> =>
  callOperation(client, `create an experiment on ${body.name}`, 'POST /admin/experiments', { body });

/** @throws CliError when a version of the design does not exist or is retired. */
async function checkVersions(client: ApiClient, design: CreateExperiment): Promise<void> {
  const wanted = [...new Set(adaptersOf(design))].map(parseReference);
  const names = [...new Set(wanted.map(({ name }) => name))];
  const known = new Map<string, Awaited<ReturnType<typeof lookUpVersions>>>();
  for (const name of names) known.set(name, await lookUpVersions(client, name));
  for (const { name, version } of wanted) {
    const row = known.get(name)?.versions.find((one) => one.version === version);
    if (row !== undefined && (row.retired_at ?? null) === null) continue;
    throw new CliError({
      message: `${name}@${version} ${row === undefined ? 'does not exist' : 'is retired'}.`,
      next: `graft versions ${name}`,
      exitCode: row === undefined ? EXIT.notFound : EXIT.refused,
      code: row === undefined ? 'model_not_found' : 'version_conflict',
    });
  }
}

/** @param which `@2`, `2` or `name@2`. @returns the version, as `--variant` has it. @throws CliError (usage) */
function treatmentOf(which: string, name: string): string {
  const own = which.startsWith(`${name}@`) ? which.slice(name.length) : which;
  const version = /^@?([1-9]\d{0,8})$/.exec(own)?.[1];
  if (version !== undefined) return `@${version}`;
  if (/^[^@]+@[1-9]\d{0,8}$/.test(which)) return which;
  throw usageError(`'${which}' is not a version to compare with the live one, such as @2.`);
}

/**
 * The live version against `treatment`, half of the units each.
 * @param treatment from {@link treatmentOf}. @returns the equivalent of `--variant`.
 * @throws CliError when the name has no live version, or that one is the treatment.
 */
async function livePair(client: ApiClient, name: string, treatment: string): Promise<string[]> {
  const versions = await lookUpVersions(client, parseName(name));
  const live = versions?.version ?? null;
  if (live === null)
    throw new CliError({
      message: `'${name}' has no live version to compare with. Publish one.`,
      next: `graft publish <folder> --name ${name}`,
      exitCode: EXIT.notFound,
      code: 'model_not_found',
    });
  if (treatment === `@${live}`)
    throw new CliError({
      message:
        `${name}@${live} is the live version itself. Test another one, or add one with ` +
        '`graft publish … --stage`.',
      next: `graft versions ${name}`,
      exitCode: EXIT.refused,
      code: 'version_conflict',
    });
  return [`control=@${live}`, `treatment=${treatment}`];
}

/** @param document the document that was read, with the changes; it is sent as the next version. */
async function changeExperiment(
  client: ApiClient,
  params: { id: string; document: Experiment; why: string | undefined; dryRun: boolean },
): Promise<ExperimentView> {
  const { id, document, why, dryRun } = params;
  const body = {
    document: { ...document, version: document.version + 1 },
    ...(why === undefined ? {} : { why }),
    ...(dryRun ? { dry_run: true } : {}),
  };
  const what = `change the experiment on ${document.name}`;
  return callOperation(client, what, 'PUT /admin/experiments/:id', { params: { id }, body });
}

type Step = 'start' | 'ramp' | 'stop' | 'kill' | 'promote' | 'archive';

interface StepFlags {
  readonly why?: string | undefined;
  /** Version of the document. */
  readonly expect?: string | undefined;
  readonly coverage?: string | undefined;
  readonly variant?: string | undefined;
  readonly undo?: boolean | undefined;
}

/** @returns the step's body. @throws CliError (usage) */
export function stepRequest(step: Step, flags: StepFlags): RequestOf<`POST /admin/experiments/:id/${Step}`> {
  const { why, expect, coverage, variant, undo } = flags;
  const share = coverage === undefined ? undefined : parseShare(coverage, '--coverage');
  if (share === 0)
    throw usageError('--coverage 0% would include nobody. Use `graft experiment kill` or `stop`.');
  return {
    ...(expect === undefined ? {} : { expect: parseVersion(expect, '--expect') }),
    ...(why === undefined ? {} : { why }),
    ...(step === 'ramp' && share !== undefined ? { coverage: share } : {}),
    ...(step === 'kill' ? { killed: undo !== true } : {}),
    ...(step === 'promote' && variant !== undefined ? { variant } : {}),
  };
}

/**
 * Whether a promotion may replace the live version. Asked when the variant is not the proposed winner, and when
 * the live version is neither control nor the variant, because it was published in the meantime and was never
 * compared.
 * @param params.ask null = no terminal. @returns the value of `over`. @throws CliError (refused)
 */
async function confirmOver(
  client: ApiClient,
  params: {
    view: ExperimentView;
    variant: string | undefined;
    yes: boolean;
    ask: (question: string) => Promise<boolean | null>;
  },
): Promise<{ over?: number }> {
  const { view, yes, ask } = params;
  const { name, variants } = view.document;
  const key = params.variant ?? view.proposal?.variant;
  const variant = variants.find((one) => one.key === key);
  const live = (await lookUpVersions(client, name))?.version ?? null;
  // Other problems are refused by the server, in its own words.
  if (variant === undefined || live === null) return {};
  const liveAdapter = `${name}@${live}`;
  if (variant.adapter === liveAdapter) return {};
  const isNew = variants[0]?.adapter !== liveAdapter;
  const isProposed = view.proposal?.variant === variant.key;
  if (isProposed && !isNew) return {};
  const said = [
    ...(isProposed ? [] : [`${variant.key} is not proposed as the winner${standing(view)}.`]),
    ...(isNew
      ? [`${liveAdapter} is live, which is neither control nor ${variant.key}, so they were never compared.`]
      : []),
  ].join(' ');
  const agreed = yes || (await ask(`${said} Replace ${liveAdapter} with ${variant.adapter} for everybody?`));
  if (agreed === true) return isNew ? { over: live } : {};
  throw new CliError({
    message:
      agreed === null
        ? `${said} To replace ${liveAdapter} with ${variant.adapter} anyway, add --yes.`
        : 'nothing was changed',
    exitCode: EXIT.refused,
    code: 'version_conflict',
  });
}

/** Progress in brackets; empty before the first look. */
function standing(view: ExperimentView): string {
  const look = presentLook(view);
  return look === null ? '' : ` (${unitsOf(look)} units; ${decisionText(look.decision)})`;
}
