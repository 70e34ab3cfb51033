import {
  contradictedGuardrail,
  DEFAULT_GUARDRAILS,
  err,
  Experiment,
  guardrailContradiction,
  metricOf,
  ok,
  type ApiError,
  type CreateExperiment,
  type ExperimentGuardrail,
  type ExperimentMetric,
  type Result,
} from '../../../protocol/index.ts';
import { conflict } from '../../errors.ts';
import type { z } from 'zod';
import { ownName } from '../../registry/own-name.ts';
import type { ExperimentRow } from '../ports.ts';
import type { AdminCaller } from '../../access/ports.ts';
import { emptyArm } from '../legal-change.ts';
import { checkJudge, checkAdapters } from './check-adapters.ts';
import { type LifeDeps, guardrailRefused, webhookRefused } from './life-deps.ts';

/** What is measured unless something else is asked for: whether people like the answers. */
export const THUMBS: ExperimentMetric = { key: 'thumbs', kind: 'proportion', better: 'up' };
/** Characters of an id after `exp_`: 16 of 36 are 83 bits. */
const ID_CHARACTERS = 16;
const ALPHABET = 'abcdefghijklmnopqrstuvwxyz0123456789';
/** Bytes from here on would make the first letters likelier. */
const EVEN_BYTES = Math.floor(256 / ALPHABET.length) * ALPHABET.length;

/** Makes a draft. Nothing changes for anybody until it is started. */
export async function createExperiment(
  deps: LifeDeps,
  params: { request: z.output<typeof CreateExperiment>; caller: AdminCaller },
): Promise<Result<ExperimentRow, ApiError>> {
  const { caller } = params;
  const { why, ...asked } = params.request;
  const own = await ownName(deps, { name: asked.name, caller });
  if (!own.ok) return own;
  const { alias, owner } = own.value;
  if (alias !== null)
    return err(conflict(`'${asked.name}' stands for '${alias}'. Make the experiment for that name.`, 'name'));
  const other = await deps.experimentLedger.ofName(asked.name);
  if (other !== null) return err(taken(asked.name, other));
  const id = newId();
  const metrics = asked.metrics ?? [THUMBS];
  const document = parseDocument({
    unit: 'user',
    coverage: 1,
    ...asked,
    metrics,
    guardrails: asked.guardrails ?? fittingGuardrails(metrics),
    // No other experiment has it: else the users who got one name's treatment would get the other's, too.
    seed: asked.seed ?? id,
    version: 1,
    status: 'draft',
    winner: null,
  });
  if (!document.ok) return document;
  const empty = emptyArm(document.value);
  if (empty !== null)
    return err({
      code: 'invalid_request',
      message: `Invalid value for '${empty.field}': ${empty.reason}.`,
      param: empty.field,
    });
  const refused = webhookRefused(document.value.webhook, deps.loopbackCallbacks);
  if (refused !== null) return err(refused);
  const checked = await checkAdapters(deps, { document: document.value, caller, owner });
  if (!checked.ok) return checked;
  const callable = checkJudge(document.value, deps.loopbackCallbacks);
  if (!callable.ok) return callable;
  const at = deps.now();
  const row: ExperimentRow = {
    id,
    owner,
    document: document.value,
    seeds: [document.value.seed],
    createdAt: at,
    createdBy: caller.keyId,
    startedAt: null,
    coverageAt: null,
    stepUnits: 0,
    endedAt: null,
    proposal: null,
    evaluation: null,
  };
  const note = { actor: caller.keyId, at, action: 'experiment_create', why: why ?? null } as const;
  const created = await deps.experimentLedger.create({ row, note });
  if (created.ok) return ok(row);
  const winner = await deps.experimentLedger.ofName(asked.name);
  return err(
    winner === null
      ? conflict('An adapter that the experiment names has just been retired. Name another one.', 'variants')
      : taken(asked.name, winner),
  );
}

const taken = (name: string, { id, document: { status } }: ExperimentRow): ApiError =>
  conflict(
    `'${name}' has experiment '${id}', which is ${status}. End it first: ` +
      `${status === 'running' || status === 'ramping' ? `\`graft experiment stop ${name}\`, then ` : ''}\`graft experiment archive ${name}\`.`,
    'name',
  );

/** All but those that the experiment's own metrics contradict: who measures more of it as better wants no limit. */
const fittingGuardrails = (metrics: readonly ExperimentMetric[]): ExperimentGuardrail[] =>
  DEFAULT_GUARDRAILS.filter((rail) => {
    const better = metricOf({ metrics: [...metrics] }, rail.metric)?.better;
    return better !== undefined && guardrailContradiction(rail, better) === null;
  });

/** @returns `invalid_request` that names the first field at fault. */
function parseDocument(value: unknown): Result<Experiment, ApiError> {
  const parsed = Experiment.safeParse(value);
  if (parsed.success) {
    const contradicted = contradictedGuardrail(parsed.data);
    if (contradicted === null) return ok(parsed.data);
    return err(guardrailRefused(contradicted));
  }
  const issue = parsed.error.issues[0];
  const param = (issue?.path ?? []).map(String).join('.');
  return err({
    code: 'invalid_request',
    message: `Invalid value for '${param}': ${issue?.message}.`,
    param: param === '' ? null : param,
  });
}

function newId(): string {
  let id = 'exp_';
  while (id.length < 4 + ID_CHARACTERS)
    for (const byte of crypto.getRandomValues(new Uint8Array(ID_CHARACTERS)))
      if (byte < EVEN_BYTES && id.length < 4 + ID_CHARACTERS) id += ALPHABET[byte % ALPHABET.length];
  return id;
}
