/** What commands ask a server about experiments, and what they make of versions and flags before. */
import {
  adaptersOf,
  type CreateExperiment,
  type Experiment,
  ExperimentId,
  type ExperimentList,
  type ExperimentStatus,
  type ExperimentView,
  type QueryOf,
  type RequestOf,
} from '../../protocol/index.ts';
import { lookUpVersions } from '../admin/look-up.ts';
import { parseName, parseReference, parseVersion } from '../admin/version-argument.ts';
import type { ApiClient } from '../api-client.ts';
import { callOperation } from '../call-operation.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { usageError } from '../flags.ts';
import { parseShare } from './experiment-numbers.ts';
import { decisionText, presentLook, unitsOf } from './experiment-words.ts';

/** @returns all that match, newest first. */
export async function listExperiments(
  client: ApiClient,
  filter: { name?: string; status?: ExperimentStatus } = {},
): Promise<ExperimentView[]> {
  const found: ExperimentView[] = [];
  for (let cursor: string | null = null; ;) {
    const call: { query: QueryOf<'GET /admin/experiments'> } = { query: { ...filter, cursor } };
    const page: ExperimentList = await callOperation(
      client,
      'list the experiments',
      'GET /admin/experiments',
      call,
    );
    found.push(...page.experiments);
    if (page.cursor === null) return found;
    cursor = page.cursor;
  }
}

const getExperiment = (client: ApiClient, id: string): Promise<ExperimentView> =>
  callOperation(client, `look up ${id}`, 'GET /admin/experiments/:id', { params: { id } });

/** @param what an id, or a name: its one that is not archived. @throws CliError (not found) when it has none. */
export async function findExperiment(client: ApiClient, what: string): Promise<ExperimentView> {
  if (ExperimentId.safeParse(what).success) return getExperiment(client, what);
  const name = parseName(what);
  const all = await listExperiments(client, { name });
  const current = all.find(({ document }) => document.status !== 'archived');
  if (current !== undefined) return current;
  const old = all.length === 0 ? '' : ` (${all.length} archived: graft experiment list --all)`;
  throw new CliError({
    message: `'${name}' has no experiment${old}. Make one: graft experiment create ${name} --variant control=${name}@1 --variant treatment=${name}@2`,
    exitCode: EXIT.notFound,
    code: 'not_found',
  });
}

export const createExperiment = (client: ApiClient, body: CreateExperiment): Promise<ExperimentView> =>
  callOperation(client, `make an experiment on ${body.name}`, 'POST /admin/experiments', { body });

/** @throws CliError when a version that the design names is not there, or is retired. */
export async function checkVersions(client: ApiClient, design: CreateExperiment): Promise<void> {
  const wanted = [...new Set(adaptersOf(design))].map(parseReference);
  const names = [...new Set(wanted.map(({ name }) => name))];
  const known = new Map<string, Awaited<ReturnType<typeof lookUpVersions>>>();
  for (const name of names) known.set(name, await lookUpVersions(client, name));
  for (const { name, version } of wanted) {
    const row = known.get(name)?.versions.find((one) => one.version === version);
    if (row !== undefined && (row.retired_at ?? null) === null) continue;
    throw new CliError({
      message: `${name}@${version} ${row === undefined ? 'does not exist' : 'is retired'}: graft history ${name}`,
      exitCode: row === undefined ? EXIT.notFound : EXIT.refused,
      code: row === undefined ? 'model_not_found' : 'version_conflict',
    });
  }
}

/** @param which `@2`, `2` or `name@2`. @returns the version, as `--variant` has it. @throws CliError (usage) */
export function treatmentOf(which: string, name: string): string {
  const own = which.startsWith(`${name}@`) ? which.slice(name.length) : which;
  const version = /^@?([1-9]\d{0,8})$/.exec(own)?.[1];
  if (version !== undefined) return `@${version}`;
  if (/^[^@]+@[1-9]\d{0,8}$/.test(which)) return which;
  throw usageError(`'${which}' is not a version to compare with the live one, such as @2.`);
}

/**
 * The live version against `treatment`, half of the units each.
 * @param treatment as {@link treatmentOf} gives it. @returns what `--variant` would have said.
 * @throws CliError when the name has no live version, or that one is the treatment.
 */
export async function livePair(client: ApiClient, name: string, treatment: string): Promise<string[]> {
  const versions = await lookUpVersions(client, parseName(name));
  const live = versions?.version ?? null;
  if (live === null)
    throw new CliError({
      message: `'${name}' has no live version to compare with. Publish one: graft publish <folder> --name ${name}`,
      exitCode: EXIT.notFound,
      code: 'model_not_found',
    });
  if (treatment === `@${live}`)
    throw new CliError({
      message: `${name}@${live} is the live version: it would be compared with itself. \`graft history ${name}\` lists the others; \`graft publish … --stage\` brings one without making it live.`,
      exitCode: EXIT.refused,
      code: 'version_conflict',
    });
  return [`control=@${live}`, `treatment=${treatment}`];
}

/** @param document as it was read, with the changes; it is sent as the version after. */
export async function changeExperiment(
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

export type Step = 'start' | 'ramp' | 'stop' | 'kill' | 'promote' | 'archive';

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
  if (share === 0) throw usageError('--coverage 0% would be nobody: use `graft experiment kill` or `stop`.');
  return {
    ...(expect === undefined ? {} : { expect: parseVersion(expect, '--expect') }),
    ...(why === undefined ? {} : { why }),
    ...(step === 'ramp' && share !== undefined ? { coverage: share } : {}),
    ...(step === 'kill' ? { killed: undo !== true } : {}),
    ...(step === 'promote' && variant !== undefined ? { variant } : {}),
  };
}

/**
 * Whether a promotion may replace what is live. Asked when the variant was not proposed as the winner, and when what is
 * live is neither control nor the variant, because it was published meanwhile and nobody has compared it.
 * @param params.ask null = nobody is there. @returns what `over` is to be. @throws CliError (refused)
 */
export async function confirmOver(
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
  // What is not known here the server refuses in its own words.
  if (variant === undefined || live === null) return {};
  const liveAdapter = `${name}@${live}`;
  if (variant.adapter === liveAdapter) return {};
  const isNew = variants[0]?.adapter !== liveAdapter;
  const isProposed = view.proposal?.variant === variant.key;
  if (isProposed && !isNew) return {};
  const said = [
    ...(isProposed ? [] : [`${variant.key} is not proposed as the winner${standing(view)}.`]),
    ...(isNew
      ? [`${liveAdapter} is live, which is neither control nor ${variant.key}: nobody has compared it.`]
      : []),
  ].join(' ');
  const agreed = yes || (await ask(`${said} Replace ${liveAdapter} by ${variant.adapter} for everybody?`));
  if (agreed === true) return isNew ? { over: live } : {};
  throw new CliError({
    message:
      agreed === null
        ? `${said} To replace ${liveAdapter} by ${variant.adapter} all the same, add --yes.`
        : 'nothing was changed',
    exitCode: EXIT.refused,
    code: 'version_conflict',
  });
}

/** How far it has come, in brackets; empty before the first look. */
function standing(view: ExperimentView): string {
  const look = presentLook(view);
  return look === null ? '' : ` (${unitsOf(look)} units; ${decisionText(look.decision)})`;
}
