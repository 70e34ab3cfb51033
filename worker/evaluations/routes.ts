/** The admin API's kept evaluations: keep, list, read back, remove, score. */
import { Hono } from 'hono';
import {
  MAX_KEPT_EVALUATIONS,
  MAX_KEPT_EVALUATION_BYTES,
  MAX_KEPT_ROW_BYTES,
  KeptRow,
  MAX_SCORES_SHOWN,
  type EvaluationList,
  type ScoredEvaluation,
  type EvaluationView,
  type KeptRows,
  type VersionScore,
} from '../../protocol/admin-api/evaluations.ts';
import { err, ok, type ApiError, type Result } from '../../protocol/api-error.ts';
import { sha256Hex } from '../../protocol/identity.ts';
import { mayUseChain } from '../access/authenticate.ts';
import type { AdminCaller } from '../access/ports.ts';
import { conflict } from '../errors.ts';
import { adminRoute } from '../http/admin-route.ts';
import { fail, requestLife, type AppEnv } from '../http/request.ts';
import { ownName } from '../registry/own-name.ts';
import { judgeOf } from './judge-rows.ts';
import type { ChainScore, KeptEvaluation } from './ports.ts';
import {
  noEvaluation,
  openPart,
  partsOf,
  placeOf,
  rowsText,
  scoreJson,
  scoreNext,
  type ScoreDeps,
} from './score.ts';

const viewOf = (evaluation: KeptEvaluation): EvaluationView => {
  const { label, rows, bytes, sha256, judge, labelled, createdAt, createdBy } = evaluation;
  return {
    label,
    rows,
    bytes,
    sha256,
    judge: judge?.model ?? null,
    labelled,
    created_at: createdAt,
    created_by: createdBy,
  };
};

/** Kept evaluations, for the owner of their name. Scoring returns 503 if no origin answers. */
export function adminEvaluationRoutes(deps: Omit<ScoreDeps, 'mayUseChain'>): Hono<AppEnv> {
  const { evaluations } = deps;
  const routes = new Hono<AppEnv>();

  adminRoute(routes, 'POST /admin/evaluations', async ({ context, caller, request }) => {
    const kept = await keep({ ...deps, mayUseChain }, { ...request, caller });
    if (!kept.ok) return fail(kept.error);
    const { evaluation, same } = kept.value;
    return context.json(viewOf(evaluation) satisfies EvaluationView, same ? 200 : 201);
  });

  adminRoute(routes, 'GET /admin/evaluations', async ({ context, caller, query: { name } }) => {
    const own = await ownName(deps, { name, caller });
    if (!own.ok) return fail(own.error);
    const [kept, scores] = await Promise.all([
      evaluations.list(name),
      evaluations.scoresOfVersions({ name, limit: MAX_SCORES_SHOWN }),
    ]);
    const { version: live } = own.value;
    const row = live === null ? null : await deps.registry.version(name, live);
    const ofLive = row === null ? [] : await evaluations.scoresOfChains({ name, chainIds: [row.chainId] });
    return context.json({
      name,
      live,
      evaluations: kept.map(viewOf),
      scores: scores.map((score): VersionScore => {
        const other = ofLive.find(({ label }) => label === score.label);
        return {
          ...scoreJson(score, score),
          version: score.version,
          against_live: other === undefined ? null : comparison(score, other, score.rows),
        };
      }),
    } satisfies EvaluationList);
  });

  adminRoute(routes, 'DELETE /admin/evaluations', async ({ context, caller, query: { name, label } }) => {
    const own = await ownName(deps, { name, caller });
    if (!own.ok) return fail(own.error);
    return (await evaluations.remove({ name, label }))
      ? context.body(null, 204)
      : fail(noEvaluation(name, label));
  });

  adminRoute(routes, 'GET /admin/evaluations/rows', async ({ context, caller, query }) => {
    const { name, label, cursor = '0' } = query;
    // The operator must not read what belongs to a tenant.
    const own = await ownName(deps, { name, caller: { ...caller, root: false } });
    if (!own.ok) return fail(own.error);
    const evaluation = await evaluations.get({ name, label });
    if (evaluation === null) return fail(noEvaluation(name, label));
    const part = await evaluations.part({ name, label, first: Number(cursor) });
    if (part === null)
      return fail(conflict(`The evaluation '${label}' was just changed. Read it again.`, 'cursor'));
    const rows = await openPart(deps, evaluation, part, KeptRow);
    if (!rows.ok) return fail(rows.error);
    const { next } = part;
    return context.json({
      rows: rows.value,
      cursor: next === null ? null : String(next),
    } satisfies KeptRows);
  });

  adminRoute(routes, 'POST /admin/evaluations/score', async ({ context, caller, request }) => {
    const life = requestLife(context);
    const requestId = context.get('requestId');
    const scored = await scoreNext({ ...deps, mayUseChain }, { request, caller, life, requestId });
    return scored.ok ? context.json(scored.value satisfies ScoredEvaluation) : fail(scored.error);
  });
  return routes;
}

async function keep(
  deps: ScoreDeps,
  params: {
    name: string;
    label: string;
    rows: KeptRow[];
    judge?: string | null | undefined;
    caller: AdminCaller;
  },
): Promise<Result<{ evaluation: KeptEvaluation; same: boolean }, ApiError>> {
  const { name, label, rows, caller } = params;
  const own = await ownName(deps, { name, caller });
  if (!own.ok) return own;
  const { owner, alias } = own.value;
  if (alias !== null)
    return err(conflict(`'${name}' is an alias of '${alias}'. Give the evaluation to that name.`, 'name'));
  const asked = params.judge == null ? null : await judgeOf(deps, { model: params.judge, caller, owner });
  if (asked !== null && !asked.ok) return asked;
  const judge = asked === null ? null : { model: asked.value.model, chainId: asked.value.chainId };
  const text = rowsText(rows);
  const bytes = sizeOf(rows);
  const parts = partsOf(rows, { judged: judge !== null });
  // A longer row is alone in its part.
  const tooLong = parts.find((part) => part.rows.length === 1 && sizeOf(part.rows) > MAX_KEPT_ROW_BYTES);
  if (tooLong !== undefined)
    return err(tooLarge(`Row ${tooLong.first + 1} is longer than ${MAX_KEPT_ROW_BYTES} bytes.`));
  if (bytes > MAX_KEPT_EVALUATION_BYTES)
    return err(tooLarge(`The rows have more than ${MAX_KEPT_EVALUATION_BYTES} bytes.`));
  const evaluation: KeptEvaluation = {
    name,
    label,
    tenant: owner,
    rows: rows.length,
    bytes,
    sha256: await sha256Hex(judge === null ? text : `${judge.model} ${judge.chainId}\n${text}`),
    judge,
    labelled: rows[0]?.label !== undefined,
    createdAt: deps.now(),
    createdBy: caller.keyId,
  };
  const before = await deps.evaluations.get({ name, label });
  const [secret] = await deps.evaluationSealer.secretIds();
  const sealed = await Promise.all(
    parts.map(async ({ first, rows: some }) => ({
      first,
      sealed: await deps.evaluationSealer.seal(placeOf(evaluation, first), rowsText(some)),
    })),
  );
  if (!(await deps.evaluations.keep({ evaluation, parts: sealed, secret }))) return err(NO_ROOM);
  return ok({ evaluation, same: before?.sha256 === evaluation.sha256 });
}

const sizeOf = (rows: readonly KeptRow[]): number => new TextEncoder().encode(rowsText(rows)).length;

const tooLarge = (message: string): ApiError => ({ code: 'request_too_large', message });

const NO_ROOM: ApiError = {
  code: 'insufficient_quota',
  message:
    `There is no room for this evaluation: a name has at most ${MAX_KEPT_EVALUATIONS}, and those of a tenant have ` +
    'at most 64 MiB together. Remove some of them.',
};

/** @returns null unless both have all rows. */
function comparison(one: ChainScore, other: ChainScore, rows: number): VersionScore['against_live'] {
  if (one.exact.length < rows || other.exact.length < rows) return null;
  let better = 0;
  let worse = 0;
  for (let row = 0; row < rows; row += 1) {
    const [right, liveRight] = [one.exact[row] === '1', other.exact[row] === '1'];
    if (right && !liveRight) better += 1;
    if (liveRight && !right) worse += 1;
  }
  return { better, worse };
}
