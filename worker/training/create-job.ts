/** Creates a fine-tuning job: what it trains on, with which settings, under which name. */
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { JobRequest } from '../../protocol/fine-tuning.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { MAX_CHAIN } from '../../protocol/limits.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import {
  ALPHA_PER_RANK,
  TRAINING_DEFAULTS,
  usualBatch,
  usualRate,
  type TrainingRequest,
} from '../../protocol/training.ts';
import { mayUseChain } from '../access/authenticate.ts';
import type { GrantLedger } from '../access/d1-grants.ts';
import type { AdminCaller } from '../access/ports.ts';
import { modelNotFound, modelWithdrawn, ownNameOfBase } from '../errors.ts';
import { parseInput } from '../http/request.ts';
import { budgetWords, type Budgets } from '../metering/meter.ts';
import type { Bases } from '../origins/ports.ts';
import { mayName } from '../registry/own-name.ts';
import type { Registry, VersionRow } from '../registry/ports.ts';
import { newId } from './ids.ts';
import { MAX_OPEN_JOBS } from './limits.ts';
import type { RowFile, RowFiles, Trainer, TrainingJob, TrainingJobs } from './ports.ts';

export interface CreateDeps {
  trainingJobs: TrainingJobs;
  rowFiles: Pick<RowFiles, 'get'>;
  registry: Registry;
  grantLedger: Pick<GrantLedger, 'usableBy'>;
  bases: Bases;
  budgets: Budgets;
  /** Unix ms. */
  now: () => number;
}

type Fields = Readonly<Record<string, unknown>>;
const isFields = (value: unknown): value is Fields =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** What OpenAI's API has and graft does not, by its name. */
function unsupported(body: Fields): ApiError | null {
  const refusal = (param: string, instead: string): ApiError => ({
    code: 'unsupported_parameter',
    message: `'${param}' is not supported. ${instead}`,
    param,
  });
  const { integrations, method } = body;
  if (integrations != null && !(Array.isArray(integrations) && integrations.length === 0))
    return refusal('integrations', 'Remove it: the events of a job have its metrics.');
  if (isFields(method) && method['type'] === 'reinforcement')
    return refusal('method.type', "Use 'supervised' or 'dpo'.");
  return null;
}

export function parseJobRequest(body: unknown): Result<JobRequest, ApiError> {
  const refused = isFields(body) ? unsupported(body) : null;
  return refused === null ? parseInput(JobRequest, body) : err(refused);
}

const invalid = (message: string, param: string): ApiError => ({ code: 'invalid_request', message, param });

/** @throws StoreUnavailable */
export async function createJob(
  deps: CreateDeps,
  { request, trainer }: { request: JobRequest; trainer: Trainer },
): Promise<Result<TrainingJob, ApiError>> {
  const { trainingJobs, registry, now } = deps;
  const at = now();
  const { tenant, keyId } = trainer;
  const caller = { ...trainer, grants: await deps.grantLedger.usableBy(tenant) };
  const model = await modelOf(deps, { model: request.model, caller });
  if (!model.ok) return model;
  const { parent, base } = model.value;
  const id = newId('ftjob', at);
  const name = nameOf(request, { id, below: model.value.name });
  const problem = nameProblem(name);
  const param = request.graft?.name === undefined ? 'suffix' : 'graft.name';
  if (problem !== null) return err(invalid(`The result's name '${name}' is invalid: ${problem}.`, param));
  const taken = await mayName(deps, { name, owner: null, caller, before: await registry.name(name) });
  if (!taken.ok) return taken;
  const bases = await deps.bases.ids();
  if (!bases.ok) return bases;
  if (bases.value.includes(name)) return err(ownNameOfBase(name));
  const settings = settingsOf(request, { base, parent });
  if (!settings.ok) return settings;
  const file = await deps.rowFiles.get({ id: request.training_file, tenant, now: at });
  if (file === null)
    return err(invalid(`There is no file '${request.training_file}'. Send it first.`, 'training_file'));
  let validation: RowFile | null = null;
  if (request.validation_file != null) {
    if (request.graft?.validation !== undefined)
      return err(
        invalid("Give either 'validation_file' or 'graft.validation', not both.", 'graft.validation'),
      );
    validation = await deps.rowFiles.get({ id: request.validation_file, tenant, now: at });
    if (validation === null)
      return err(invalid(`There is no file '${request.validation_file}'. Send it first.`, 'validation_file'));
  }
  const affordable = await mayAfford(deps, { id, trainer, tokens: expectedTokens(settings.value, file) });
  if (!affordable.ok) return affordable;
  const job: TrainingJob = {
    id,
    tenant,
    name,
    parent: parent === null ? null : `${parent.name}@${parent.version}`,
    base: base.id,
    status: 'queued',
    origin: null,
    finishedAt: null,
    lookedAt: at,
    revision: 1,
    keyId,
    createdAt: at,
    asked: askedOf(request),
    request: settings.value,
    chain: (parent?.chain ?? []).map(({ digest, scale }) => ({ digest, scale })),
    rows: sentFile(file),
    validation: validation === null ? null : sentFile(validation),
    wanted: 'run',
    checkpoints: request.graft?.checkpoints === true ? [] : null,
    heardAt: at,
    doneAt: null,
    startedAt: null,
    seen: 0,
    trained: 0,
    spent: 0,
    events: 1,
    estimatedFinish: null,
    error: null,
    result: null,
  };
  const message = `Created. The result will be a staged version of '${name}'.`;
  const created = await trainingJobs.create(job, { at, level: 'info', message, metrics: null });
  if (created === 'created') return ok(job);
  return err(created === 'full' ? TOO_MANY : notFree(name));
}

const sentFile = ({ id: file, bytes, sha256 }: RowFile): TrainingJob['rows'] => ({ file, bytes, sha256 });

/** Of a file of rows: English text has about as many a token. */
const BYTES_PER_TOKEN = 4;

/** About as many as a job trains; its origin knows them exactly. */
function expectedTokens(
  { batch, epochs, least_steps: steps, validation }: TrainingRequest,
  { bytes, lines }: Pick<RowFile, 'bytes' | 'lines'>,
): number {
  const rows = Math.max(1, Math.round(lines * (1 - validation)));
  const uses = Math.max(epochs * rows, steps * Math.min(rows, batch ?? usualBatch(rows)));
  return Math.ceil((uses * bytes) / Math.max(1, lines) / BYTES_PER_TOKEN);
}

/** Running jobs may exceed a budget together, as running completions may. */
async function mayAfford(
  { budgets, now }: CreateDeps,
  { id, trainer, tokens }: { id: string; trainer: Trainer; tokens: number },
): Promise<Result<null, ApiError>> {
  const { least, error } = await budgets.spend(trainer.limited, { job: id, from: 0, total: 0 });
  if (error !== null) return err(error);
  if (least === null || tokens <= least.left) return ok(null);
  const { budget, renewed } = budgetWords(least, now());
  return err({
    code: 'insufficient_quota',
    message:
      `This job would train about ${tokens} tokens; ${budget[0]?.toLowerCase()}${budget.slice(1)} has ${least.left} ` +
      `left. ${renewed}. Use fewer rows or epochs, or ask for a larger budget.`,
    param: 'training_file',
  });
}

const TOO_MANY: ApiError = {
  code: 'rate_limit_exceeded',
  message: `This tenant has ${MAX_OPEN_JOBS} jobs that have not ended, the most it may have. Wait for one, or cancel it.`,
  retryAfterMs: 60_000,
};

const notFree = (name: string): ApiError => ({
  code: 'insufficient_scope',
  message: `This key may not publish '${name}': the name is not available.`,
});

/** @returns `name`: what the result's name stands below; null = the base. */
async function modelOf(
  { registry, bases }: CreateDeps,
  { model, caller }: { model: string; caller: AdminCaller },
): Promise<Result<{ name: string | null; parent: VersionRow | null; base: BaseInfo }, ApiError>> {
  const ids = await bases.ids();
  if (!ids.ok) return ids;
  if (model === 'base' || ids.value.includes(model)) {
    const base = await bases.info(model === 'base' ? null : model);
    return base.ok ? ok({ name: null, parent: null, base: base.value }) : base;
  }
  const [name = '', version, ...more] = model.split('@');
  const isNumber = version === undefined || /^[1-9]\d{0,8}$/.test(version);
  if (nameProblem(name) !== null || !isNumber || more.length > 0) return err(modelNotFound(model, []));
  const target = version === undefined ? ((await registry.name(name))?.alias ?? name) : name;
  const parent = await (version === undefined
    ? registry.live(target)
    : registry.version(name, Number(version)));
  if (parent === null || !mayUseChain(caller, parent)) return err(modelNotFound(model, []));
  if (parent.retiredAt !== null || parent.withdrawnAt !== null) return err(modelWithdrawn(model));
  const base = await bases.info(parent.base.id);
  return base.ok ? ok({ name, parent, base: base.value }) : base;
}

/** A path of OpenAI's clients has no name: the id's last digits make one. */
function nameOf({ suffix, graft }: JobRequest, { id, below }: { id: string; below: string | null }): string {
  if (graft?.name !== undefined) return graft.name;
  const last = suffix ?? `ft-${id.slice(-8)}`;
  return below === null ? last : `${below}/${last}`;
}

function hyperparametersOf({ method, hyperparameters }: JobRequest) {
  const own = method?.type === 'dpo' ? method.dpo : method?.supervised;
  return own?.hyperparameters ?? hyperparameters ?? {};
}

function askedOf(request: JobRequest): TrainingJob['asked'] {
  const hyper = hyperparametersOf(request);
  return {
    model: request.model,
    suffix: request.suffix ?? null,
    method: request.method?.type ?? 'supervised',
    n_epochs: hyper.n_epochs ?? 'auto',
    batch_size: hyper.batch_size ?? 'auto',
    learning_rate_multiplier: hyper.learning_rate_multiplier ?? 'auto',
    beta: (request.method?.type === 'dpo' ? request.method.dpo?.hyperparameters?.beta : null) ?? 'auto',
    metadata: request.metadata ?? null,
  };
}

const numberOr = <Otherwise>(value: number | 'auto', otherwise: Otherwise): number | Otherwise =>
  value === 'auto' ? otherwise : value;

/** The settings that `graft train` would have, with those that were asked for. */
function settingsOf(
  request: JobRequest,
  { base, parent }: { base: BaseInfo; parent: VersionRow | null },
): Result<TrainingRequest, ApiError> {
  const asked = askedOf(request);
  const own = request.graft ?? {};
  const method = asked.method === 'dpo' ? 'dpo' : 'sft';
  const rank = own.rank ?? TRAINING_DEFAULTS.rank;
  if ((parent?.chain.length ?? 0) >= MAX_CHAIN)
    return err(invalid(`'${request.model}' has the longest chain there is. Train on one below it.`, 'model'));
  if ((parent?.rankSum ?? 0) + rank > base.max_rank_sum)
    return err(
      invalid(
        `With rank ${rank} the chain's ranks add up to ${(parent?.rankSum ?? 0) + rank}; the origin accepts at most ` +
          `${base.max_rank_sum}.`,
        'graft.rank',
      ),
    );
  const above = parent?.chain.findLast((member) => member.activated === true);
  if (above !== undefined && own.activated === undefined && own.activated_by === undefined)
    return err(
      invalid(
        `'${above.name}' acts from its alora_invocation_tokens on only. Set graft.activated_by for what is trained on top.`,
        'graft.activated_by',
      ),
    );
  const factor = numberOr(asked.learning_rate_multiplier, null);
  const rate = factor === null ? null : factor * usualRate(method, widthOf(base));
  if (rate !== null && rate > 1)
    return err(
      invalid('The learning rate would be above 1. Use a smaller factor.', 'learning_rate_multiplier'),
    );
  return ok({
    method,
    rank,
    alpha: own.alpha ?? rank * ALPHA_PER_RANK,
    targets: own.targets ?? [...TRAINING_DEFAULTS.targets],
    epochs: numberOr(asked.n_epochs, TRAINING_DEFAULTS.epochs),
    least_steps: own.least_steps ?? TRAINING_DEFAULTS.least_steps,
    rate,
    batch: numberOr(asked.batch_size, TRAINING_DEFAULTS.batch),
    max_length: own.max_length ?? TRAINING_DEFAULTS.max_length,
    validation: request.validation_file != null ? 0 : (own.validation ?? TRAINING_DEFAULTS.validation),
    seed: request.seed ?? TRAINING_DEFAULTS.seed,
    beta: numberOr(asked.beta, TRAINING_DEFAULTS.beta),
    ...(own.activated === undefined ? {} : { activated: own.activated }),
    ...(own.activated_by === undefined ? {} : { activated_by: own.activated_by }),
  });
}

/** What goes into the attention is as wide as the base. */
const widthOf = ({ modules }: BaseInfo): number =>
  (modules.find(({ name }) => /\.(q|qkv)_proj$/.test(name)) ?? modules[0])?.in ?? 1;
