/**
 * Shared by all changes of an experiment: dependencies, refusals, and the checks of adapters and addresses in a
 * document.
 */
import type { MayUseChain } from '../../registry/assemble-chain.ts';
import type { IntakeDeps, VersionRow, Registry } from '../../registry/ports.ts';
import type { ExperimentLedger, ExperimentTallies, ExperimentRow } from '../ports.ts';
import type { PairTallies } from '../pairs/ports.ts';
import type { Evaluations, NamedScore } from '../../evaluations/ports.ts';
import { ExperimentId } from '../../../protocol/admin-api/experiments.ts';
import { err, ok, type ApiError, type Result } from '../../../protocol/api-error.ts';
import { BASE_JUDGE, type Experiment } from '../../../protocol/experiment.ts';
import { pinOf } from '../../../protocol/identity.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { conflict, adapterInvalid, adapterNotFound } from '../../errors.ts';
import type { WebhookOutbox } from '../../webhooks/ports.ts';
import { webhookRefused } from '../../webhooks/send-webhooks.ts';

/** What leads experiments through their lives. */
export interface LifeDeps extends Pick<IntakeDeps, 'registry' | 'pointers' | 'bases' | 'now'> {
  experimentLedger: ExperimentLedger;
  mayUseChain: MayUseChain;
  pairTallies: Pick<PairTallies, 'forget'>;
  evaluations: Pick<Evaluations, 'list' | 'scoresOfChains'>;
  /** Whether addresses given by tenants may be this machine itself. */
  loopbackCallbacks: boolean;
}

/** What evaluates them. */
export interface EvaluateDeps extends Pick<IntakeDeps, 'pointers' | 'now'> {
  experimentLedger: ExperimentLedger;
  tallies: Pick<ExperimentTallies, 'snapshot'>;
  outbox: Pick<WebhookOutbox, 'add' | 'retract'>;
  pairTallies: Pick<PairTallies, 'snapshot'>;
}

/** The experiment, if the caller owns its name; missing ones and those of others look alike. */
export async function ownExperiment(
  deps: { experimentLedger: Pick<ExperimentLedger, 'get'> },
  { id, caller }: { id: string; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> {
  const row = ExperimentId.safeParse(id).success ? await deps.experimentLedger.get(id) : null;
  return row !== null && (caller.root || row.owner === caller.tenant)
    ? ok(row)
    : err({
        code: 'not_found',
        message: 'This experiment does not exist or you do not have access to it.',
      });
}

/** Somebody else changed it, or the caller knows an older document. */
export const changedMeanwhile = ({ id, document: { version, status } }: ExperimentRow): ApiError =>
  conflict(
    `Experiment '${id}' has changed: its document is version ${version} now, and it is ${status}. Read ` +
      'it and try again.',
    'version',
  );

export const overlaps = (others: readonly string[]): ApiError =>
  conflict(
    `Experiment '${others.join("', '")}' is live in this namespace with an overlapping range. Use a ` +
      'free range, or stop the other experiment first.',
    'namespace',
  );

/** A guardrail contradicts the direction of its metric. @param prefix of the field's path. */
export const guardrailRefused = (
  { index, message }: { index: number; message: string },
  prefix = '',
): ApiError => {
  const param = `${prefix}guardrails.${index}`;
  return { code: 'invalid_request', message: `Invalid value for '${param}': ${message}.`, param };
};

/**
 * Checks that all adapters in the document exist, are not retired, have a served base, and may be used by the
 * owner of the name. An edge that does not know its origins' bases uses that of the name's own versions.
 * Errors: `model_not_found`, also for adapters that may not be used; `version_conflict`; `adapter_invalid`.
 */
export async function checkAdapters(
  deps: Pick<LifeDeps, 'registry' | 'bases' | 'mayUseChain'>,
  params: { document: Experiment; caller: AdminCaller; owner: string },
): Promise<Result<null, ApiError>> {
  const { document, caller, owner } = params;
  const { variants, shadow, judge } = document;
  const named = [
    ...variants.map(({ adapter }, i) => ({ adapter, param: `variants.${i}.adapter` })),
    ...(shadow === undefined ? [] : [{ adapter: shadow.adapter, param: 'shadow.adapter' }]),
    ...(judge?.model === undefined || judge.model === BASE_JUDGE
      ? []
      : [{ adapter: judge.model, param: 'judge.model' }]),
  ];
  const rows = await Promise.all(
    named.map(({ adapter }) => {
      const { name, version } = pinOf(adapter);
      return deps.registry.version(name, version);
    }),
  );
  const rights = { ...caller, tenant: owner };
  const usable = (row: VersionRow | null): row is VersionRow =>
    row !== null && (caller.root || deps.mayUseChain(rights, row));
  let base = (await deps.registry.live(document.name))?.base ?? null;
  for (const [i, { adapter, param }] of named.entries()) {
    const row = rows[i] ?? null;
    if (!usable(row)) return err(adapterNotFound(adapter));
    if (row.retiredAt !== null || row.withdrawnAt !== null)
      return err(
        conflict(`'${adapter}' is retired, or depends on an adapter that is. Use another version.`, param),
      );
    base ??= row.base;
    const { declared } = deps.bases;
    if (declared?.includes(row.base.id) === false)
      return err(
        adapterInvalid(
          'base_mismatch',
          `'${adapter}' is for the base '${row.base.id}', but this edge serves ${declared.join(', ')}.`,
          param,
        ),
      );
    if (declared === null && row.base.digest !== base.digest)
      return err(
        adapterInvalid(
          'base_mismatch',
          `'${adapter}' is for the base '${row.base.id}', but the others are for '${base.id}'. Compare ` +
            'adapters of one base.',
          param,
        ),
      );
  }
  return ok(null);
}

/** The judge's address is one that this edge may call. @param loopback whether this machine itself is. */
export function checkJudge({ judge }: Experiment, loopback: boolean): Result<null, ApiError> {
  const refused = webhookRefused(judge?.url, loopback, 'judge.url');
  return refused === null ? ok(null) : err(refused);
}

/** If nobody is in the experiment, users get the live version, so pairs need that to be control. */
export async function checkControlAnswers(
  registry: Pick<Registry, 'live' | 'version'>,
  { judge, coverage, ramp, name, variants }: Experiment,
): Promise<Result<null, ApiError>> {
  const [control] = variants;
  if (judge === undefined || coverage > 0 || ramp !== undefined || control === undefined) return ok(null);
  const pin = pinOf(control.adapter);
  const [live, row] = await Promise.all([registry.live(name), registry.version(pin.name, pin.version)]);
  if (live === null || live.chainId === row?.chainId) return ok(null);
  return err(
    conflict(
      `'${name}@${live.version}' is live, but control is '${control.adapter}'. With a coverage of 0 ` +
        'control answers nothing, so there would be no pairs. Make the live version control, or set a ' +
        'coverage.',
      'variants.0.adapter',
    ),
  );
}

const rightOf = ({ exact }: NamedScore): number => exact.split('1').length - 1;

/**
 * Every variant has a complete score on each kept evaluation of the name, and none has fewer rows right than control.
 */
export async function checkScores(
  { registry, evaluations }: Pick<LifeDeps, 'registry' | 'evaluations'>,
  { name, variants }: Experiment,
): Promise<Result<null, ApiError>> {
  const refused = (message: string) => err(conflict(message, 'require_scores'));
  const kept = await evaluations.list(name);
  if (kept.length === 0)
    return refused(`'${name}' has no evaluations. Add one: graft eval add ${name} rows.jsonl`);
  const rows = await Promise.all(
    variants.map(({ adapter }) => {
      const pin = pinOf(adapter);
      return registry.version(pin.name, pin.version);
    }),
  );
  const chainIds = rows.flatMap((row) => row?.chainId ?? []);
  const scores = await evaluations.scoresOfChains({ name, chainIds });
  for (const { label, judge, rows: all } of kept) {
    let control: number | null = null;
    for (const [i, { adapter }] of variants.entries()) {
      const score = scores.find((one) => one.label === label && one.chainId === rows[i]?.chainId);
      if (score === undefined || score.exact.length < all)
        return refused(
          `'${adapter}' has no complete score on the evaluation '${label}'. Score it: graft eval score ${name} ` +
            `--adapter ${adapter}`,
        );
      const right = rightOf(score);
      control ??= right;
      if (right < control)
        return refused(
          judge === null
            ? `'${adapter}' answers ${right} of ${all} rows of '${label}' exactly, and control ${control}.`
            : `'${adapter}' has ${right} of ${all} rows of '${label}' accepted by ${judge.model}, and control ${control}.`,
        );
    }
  }
  return ok(null);
}
