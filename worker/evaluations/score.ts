/** Scores chains of adapters on kept evaluations, some rows a request: each part is recorded when it is answered. */
import type { z } from 'zod';
import {
  JUDGED_ROWS,
  JudgedRow,
  MAX_KEPT_ROW_BYTES,
  SCORED_ROWS,
  type EvaluationScore,
  type KeptRow,
  type ScoredEvaluation,
  type ScoreEvaluation,
} from '../../protocol/admin-api/evaluations.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { addToConfusion, confusionTable, macroF1 } from '../../protocol/confusion.ts';
import { chainId, pinOf, type ChainEntry } from '../../protocol/identity.ts';
import { ScoredRow } from '../../protocol/origin-wire.ts';
import type { AdminCaller } from '../access/ports.ts';
import { adapterNotFound, conflict } from '../errors.ts';
import type { OriginClient } from '../origins/client.ts';
import type { TextSealer } from '../platform/sealed-text.ts';
import { assembleChain, type MayUseChain } from '../registry/assemble-chain.ts';
import { ownName } from '../registry/own-name.ts';
import type { AdapterTrial, IntakeDeps, NameRow, RequestLife } from '../registry/ports.ts';
import { judgeOf, judgeRows } from './judge-rows.ts';
import { MISSED_SHOWN, RESEALED_PER_RUN } from './limits.ts';
import type {
  ChainScore,
  EvaluationJudge,
  EvaluationPart,
  Evaluations,
  KeptEvaluation,
  PlacedPart,
  WholeScore,
} from './ports.ts';

export interface ScoreDeps extends IntakeDeps {
  evaluations: Evaluations;
  evaluationSealer: TextSealer;
  mayUseChain: MayUseChain;
  origins: Pick<OriginClient, 'complete'>;
}

const encoder = new TextEncoder();

/** Rows as JSON, one a line: what is hashed, counted and encrypted. */
export const rowsText = (rows: readonly KeptRow[]): string =>
  rows.map((row) => JSON.stringify(row)).join('\n');

/** @returns rows that are stored and scored together, in order. */
export function partsOf(
  rows: readonly KeptRow[],
  { judged }: { judged: boolean },
): { first: number; rows: KeptRow[] }[] {
  const most = judged ? JUDGED_ROWS : SCORED_ROWS;
  const parts: { first: number; rows: KeptRow[] }[] = [];
  let bytes = Infinity;
  for (const [first, row] of rows.entries()) {
    const size = encoder.encode(JSON.stringify(row)).length + 1;
    const last = parts.at(-1);
    bytes += size;
    if (last === undefined || last.rows.length === most || bytes > MAX_KEPT_ROW_BYTES) {
      parts.push({ first, rows: [row] });
      bytes = size;
    } else last.rows.push(row);
  }
  return parts;
}

/** Where a part belongs, for its encryption. */
export const placeOf = (
  { tenant, name, label, sha256 }: Pick<PlacedPart, 'tenant' | 'name' | 'label' | 'sha256'>,
  first: number,
): string => `${tenant}\n${name}\n${label}\n${sha256}\n${first}`;

const UNREADABLE: ApiError = {
  code: 'not_found',
  message:
    'The rows were encrypted with a secret that this edge no longer has (GRAFT_MAC_KEY). Add the evaluation again.',
};

/** Rows of a part. @param schema of each; an evaluation's rows all have one shape. */
export async function openPart<Row>(
  { evaluationSealer }: Pick<ScoreDeps, 'evaluationSealer'>,
  evaluation: KeptEvaluation,
  { first, sealed }: EvaluationPart,
  schema: z.ZodType<Row>,
): Promise<Result<Row[], ApiError>> {
  const text = await evaluationSealer.open(placeOf(evaluation, first), sealed);
  if (text === null) return err(UNREADABLE);
  return ok(text.split('\n').map((line) => schema.parse(JSON.parse(line))));
}

export const noEvaluation = (name: string, label: string): ApiError => ({
  code: 'not_found',
  message: `'${name}' has no evaluation '${label}'. List them: graft eval list ${name}`,
});

/** @param score null = no row is scored yet. */
export function scoreJson(
  {
    label,
    sha256,
    judge,
    labelled,
    rows,
  }: Pick<KeptEvaluation, 'label' | 'sha256' | 'judge' | 'labelled' | 'rows'>,
  score: ChainScore | null,
): EvaluationScore {
  const { exact = '', nats = 0, tokens = 0, macroF1: f1 = null, at = null } = score ?? {};
  const missed = [...exact].flatMap((one, row) => (one === '1' ? [] : [row + 1]));
  return {
    label,
    sha256,
    judge: judge?.model ?? null,
    labelled,
    rows,
    scored: exact.length,
    exact: exact.length - missed.length,
    unclear: exact.split('?').length - 1,
    mean_nll: tokens === 0 ? null : nats / tokens,
    macro_f1: f1,
    missed: missed.slice(0, MISSED_SHOWN),
    at,
  };
}

const wholeJson = (evaluation: KeptEvaluation, score: WholeScore | null): ScoredEvaluation => ({
  ...scoreJson(evaluation, score),
  confusion: confusionTable(score?.confusion ?? []),
});

interface Scored {
  base: string;
  chain: ChainEntry[];
  chainId: string;
  /** Of its last file. */
  digest: string;
  /** Whose usual origin is asked first. */
  at: string;
}

/** What the request wants scored. */
async function scoredChain(
  deps: ScoreDeps,
  { request, caller, owned }: { request: ScoreEvaluation; caller: AdminCaller; owned: NameRow },
): Promise<Result<Scored, ApiError>> {
  const { digest, parent = null, adapter } = request;
  if (digest != null) {
    const assembled = await assembleChain(deps, { digest, parent, caller, owner: owned.owner });
    if (!assembled.ok) return assembled;
    const below = assembled.value.parent?.chain ?? [];
    const chain = [
      ...below.map((member) => ({ digest: member.digest, scale: member.scale })),
      { digest, scale: 1 },
    ];
    return ok({
      base: assembled.value.base.id,
      chain,
      chainId: await chainId(chain),
      digest,
      at: owned.name,
    });
  }
  if (adapter == null && owned.version === null)
    return err(conflict(`'${owned.name}' has no live version. Say which version to score.`, 'adapter'));
  const pin = adapter == null ? { name: owned.name, version: owned.version ?? 0 } : pinOf(adapter);
  const what = `${pin.name}@${pin.version}`;
  const row = await deps.registry.version(pin.name, pin.version);
  const own = row !== null && row.name === owned.name;
  if (row === null || !(own || deps.mayUseChain(caller, row))) return err(adapterNotFound(what));
  if (row.retiredAt !== null || row.withdrawnAt !== null)
    return err(
      conflict(`'${what}' is retired or depends on an adapter that is, and is no longer served.`, 'adapter'),
    );
  const chain = row.chain.map((member) => ({ digest: member.digest, scale: member.scale }));
  return ok({ base: row.base.id, chain, chainId: row.chainId, digest: row.digest, at: row.name });
}

/**
 * Scores the next part of an evaluation. Errors: `invalid_request` for a row that no origin can score;
 * `label_unknown` for one whose label is none of the head's; `wrong_endpoint` for labels and no head, or the reverse;
 * `model_not_found` or `version_conflict` when its judge may not be asked; `version_conflict` when the evaluation was
 * replaced meanwhile.
 */
export async function scoreNext(
  deps: ScoreDeps,
  params: { request: ScoreEvaluation; caller: AdminCaller; life: RequestLife; requestId: string },
): Promise<Result<ScoredEvaluation, ApiError>> {
  const { request, caller, life, requestId } = params;
  const { name, label } = request;
  const owned = await ownName(deps, { name, caller });
  if (!owned.ok) return owned;
  const evaluation = await deps.evaluations.get({ name, label });
  if (evaluation === null) return err(noEvaluation(name, label));
  const scored = await scoredChain(deps, { request, caller, owned: owned.value });
  if (!scored.ok) return scored;
  const { base, chain, at } = scored.value;
  const key = { name, sha256: evaluation.sha256, chainId: scored.value.chainId };
  if (request.again === true) await deps.evaluations.forgetScore(key);
  const before = await deps.evaluations.score(key);
  const first = before?.exact.length ?? 0;
  if (first >= evaluation.rows) return ok(wholeJson(evaluation, before));
  const part = await deps.evaluations.part({ name, label, first });
  if (part === null) return err(replaced(label));
  const of = { ...life, name: at, base, tenant: caller.tenant, chain };
  const added = await (evaluation.judge === null
    ? scoreExactly(deps, { of, evaluation, part, before })
    : scoreByJudge(deps, {
        ...{ of, evaluation, part, judge: evaluation.judge },
        ...{ caller, owner: owned.value.owner, requestId },
      }));
  if (!added.ok) return added;
  await deps.evaluations.addScore({
    evaluation,
    chainId: key.chainId,
    digest: scored.value.digest,
    after: first,
    added: added.value,
  });
  // Another request may have scored the same rows first, and is as good.
  const now = await deps.evaluations.score(key);
  return now === null ? err(replaced(label)) : ok(wholeJson(evaluation, now));
}

interface ScorePart {
  /** What answers. */
  of: AdapterTrial;
  evaluation: KeptEvaluation;
  part: EvaluationPart;
}

/** Compares each answer with the expected one, or each class with the label. @param params.before the rows so far. */
async function scoreExactly(
  deps: ScoreDeps,
  { of, evaluation, part, before }: ScorePart & { before: WholeScore | null },
): Promise<Result<WholeScore, ApiError>> {
  const rows = await openPart(deps, evaluation, part, ScoredRow);
  if (!rows.ok) return rows;
  const answer = await deps.trials.evaluate(of, rows.value);
  if (!answer.ok) return answer;
  const added = { exact: '', nats: 0, tokens: 0, at: deps.now() };
  const classes: [label: string, got: string][] = [];
  for (const [index, row] of answer.value.rows.entries()) {
    if ('error' in row) return err(unscorable(evaluation.label, part.first + index + 1, row));
    const asked = rows.value[index];
    if (asked !== undefined && 'label' in asked)
      classes.push([asked.label, row.exact ? asked.label : (row.got ?? '')]);
    added.exact += row.exact ? '1' : '0';
    added.nats += row.nll * row.tokens;
    added.tokens += row.tokens;
  }
  if (!evaluation.labelled) return ok({ ...added, macroF1: null, confusion: null });
  const confusion = addToConfusion(before?.confusion ?? [], classes);
  return ok({ ...added, macroF1: macroF1(confusion), confusion });
}

/** Has each answer judged. */
async function scoreByJudge(
  deps: ScoreDeps,
  params: ScorePart & { judge: EvaluationJudge; caller: AdminCaller; owner: string; requestId: string },
): Promise<Result<WholeScore, ApiError>> {
  const { of, evaluation, part, judge, requestId } = params;
  const asked = await judgeOf(deps, { ...params, model: judge.model });
  const again = ' Add the evaluation again with another judge.';
  if (!asked.ok) return err({ ...asked.error, message: `${asked.error.message}${again}` });
  if (asked.value.chainId !== judge.chainId)
    return err(conflict(`The judge '${judge.model}' is another adapter now.${again}`, 'judge'));
  const rows = await openPart(deps, evaluation, part, JudgedRow);
  if (!rows.ok) return rows;
  const judged = await judgeRows(deps.origins, { of, judge: asked.value, rows: rows.value, requestId });
  if (judged.ok) {
    const none = { nats: 0, tokens: 0, macroF1: null, confusion: null };
    return ok({ exact: judged.value, ...none, at: deps.now() });
  }
  const { index, error } = judged.error;
  const isRows = error.code === 'context_length_exceeded' || error.code === 'invalid_request';
  return err(isRows ? unscorable(evaluation.label, part.first + index + 1, { error: error.message }) : error);
}

const replaced = (label: string): ApiError =>
  conflict(`The evaluation '${label}' was just changed. Score it again.`, 'label');

function unscorable(
  label: string,
  row: number,
  { error, code }: { error: string; code?: 'label_unknown' | undefined },
): ApiError {
  const message = `Row ${row} of '${label}' cannot be scored. ${error} Correct it, and add the evaluation again.`;
  return code === undefined
    ? { code: 'invalid_request', message, param: 'label' }
    : { code, message, param: 'label' };
}

/**
 * The schedule's part of a rotation of the edge's secret: encrypts rows with the new one, while the old one still
 * opens them. @throws StoreUnavailable
 */
export async function resealRows({
  evaluations,
  evaluationSealer,
}: Pick<ScoreDeps, 'evaluations' | 'evaluationSealer'>): Promise<void> {
  const [secret, ...accepted] = await evaluationSealer.secretIds();
  // During a rotation the new one is among them, too.
  const secrets = accepted.filter((id) => id !== secret);
  if (secrets.length === 0) return;
  for (const part of await evaluations.sealedBy({ secrets, limit: RESEALED_PER_RUN })) {
    const place = placeOf(part, part.first);
    const text = await evaluationSealer.open(place, part.sealed);
    if (text === null) continue;
    const sealed = await evaluationSealer.seal(place, text);
    await evaluations.reseal({ ...part, was: part.sealed, sealed, secret });
  }
}
