import {
  type ApiError,
  type ChainEntry,
  err,
  type EvaluationRow,
  MAX_TOP_LOGPROBS,
  ok,
  type Result,
  type RowScore,
} from '../../protocol/index.ts';
import { NOT_FINITE, type EngineRequest, type ScoredToken, type ServingEngine } from '../engine/engine.ts';
import { GREEDY } from '../generation/sampling-params.ts';
import { promptOf } from '../prompts/prompt.ts';
import { encodeInTurn, type PromptServices } from '../prompts/prompt-queue.ts';

/** What trials are run with. */
export interface TrialServices extends PromptServices {
  engine: Pick<ServingEngine, 'add'>;
}

interface ScoredRun {
  /** Empty unless `promptLogprobs` asked for it. */
  prompt: readonly ScoredToken[];
  tokens: readonly ScoredToken[];
}

/** Runs a request to its end for its scores. */
export async function runScored(
  { engine }: Pick<TrialServices, 'engine'>,
  request: EngineRequest,
): Promise<Result<ScoredRun, ApiError>> {
  const added = await engine.add(request);
  if (!added.ok) return added;
  let prompt: readonly ScoredToken[] = [];
  const tokens: ScoredToken[] = [];
  for await (const event of added.value.events) {
    if (event.kind === 'error') return err(event.error);
    if (event.kind === 'aborted') break;
    if (event.kind === 'end') return ok({ prompt, tokens });
    if (event.kind === 'prompt') prompt = event.tokens;
    else if (event.kind === 'tokens') tokens.push(...event.tokens);
  }
  return err({
    code: 'origin_unavailable',
    message: 'The run was broken off: the caller has gone or the origin is shutting down.',
    retryAfterMs: 1_000,
  });
}

/** Rows of one evaluation in the engine's queue at once: enough to keep it busy, and no more than a small client. */
const CONCURRENT_ROWS = 4;

interface EvaluateParams {
  services: TrialServices;
  requestId: string;
  tenant: string;
  /** Root first. */
  chain: readonly ChainEntry[];
  rows: readonly EvaluationRow[];
  /** Time left for all rows, ms; null = no deadline. */
  budgetMs: number | null;
  /** Unix ms. */
  now: () => number;
  signal: AbortSignal;
}

/**
 * Scores expected answers by teacher forcing, one prefill a row: prompt, answer and end go in at once, and each token
 * of the answer is compared with what the model would have said there. All likeliest = greedy decoding gives exactly
 * this answer, as the tokenizer writes it, and ends.
 * Errors: whatever is not about a single row (an adapter is missing or does not load, the queue is full, the time is
 * over); a row that cannot be scored has its error in its place.
 */
export async function evaluateAdapter(params: EvaluateParams): Promise<Result<RowScore[], ApiError>> {
  const { rows, budgetMs, now } = params;
  const startedAt = now();
  const stop = new AbortController();
  const signal = AbortSignal.any([params.signal, stop.signal]);
  const scores: RowScore[] = [];
  let next = 0;
  let failure: ApiError | null = null;
  const worker = async (): Promise<void> => {
    while (next < rows.length && failure === null) {
      const at = next;
      next += 1;
      const left = budgetMs === null ? null : Math.max(1, budgetMs - (now() - startedAt));
      const score = await scoreRow({ ...params, row: rows[at]!, budgetMs: left, signal });
      if (score.ok) scores[at] = score.value;
      else {
        failure ??= score.error;
        stop.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: CONCURRENT_ROWS }, worker));
  return failure === null ? ok(scores) : err(failure);
}

async function scoreRow(
  params: Omit<EvaluateParams, 'rows'> & { row: EvaluationRow },
): Promise<Result<RowScore, ApiError>> {
  const { services, row } = params;
  const { tokenizer, base } = services;
  const prompt = await promptOf(
    row.prompt === undefined
      ? {
          model: base.id,
          messages: [
            ...(row.system === undefined ? [] : [{ role: 'system' as const, content: row.system }]),
            { role: 'user', content: row.user ?? '' },
          ],
        }
      : { model: base.id, prompt: row.prompt },
    services,
    params,
  );
  if (!prompt.ok) return unscored(prompt.error);
  const end = tokenizer.eosIds[0];
  const answer = await encodeInTurn(services, params, {
    bytes: Buffer.byteLength(row.expected),
    param: 'expected',
    steps: tokenizer.encodeInSteps(row.expected, { allowSpecial: false, limit: base.context }),
  });
  if (!answer.ok) return unscored(answer.error);
  const expected = answer.value;
  const wanted = end === undefined ? expected : [...expected, end];
  if (expected.length === 0) return ok({ error: 'The expected answer has no tokens.' });

  const scored = await runScored(services, {
    id: params.requestId,
    tenant: params.tenant,
    prompt: [...prompt.value.ids, ...wanted],
    chain: params.chain,
    sampling: { ...GREEDY, maxTokens: 0 },
    promptLogprobs: MAX_TOP_LOGPROBS,
    budgetMs: params.budgetMs,
    signal: params.signal,
  });
  if (!scored.ok) return unscored(scored.error);
  const ends = new Set(tokenizer.eosIds);
  let exact = true;
  let sum = 0;
  const got: number[] = [];
  for (const { id, logprob, top } of scored.value.prompt.slice(prompt.value.ids.length)) {
    // Any token that ends an answer is as good as another.
    const alike = ends.has(id) ? ends : new Set([id]);
    const likeliest = top.filter((token) => alike.has(token.id)).map((token) => token.logprob);
    sum -= Math.max(logprob ?? -Infinity, ...likeliest);
    // Behind the first other token the model would go on with a text of its own.
    if (exact) got.push(top[0]?.id ?? id);
    exact &&= alike.has(top[0]?.id ?? -1);
  }
  const score = { exact, nll: sum / wanted.length, tokens: wanted.length };
  return ok(exact ? score : { ...score, got: textOf(tokenizer, got) });
}

const textOf = (tokenizer: TrialServices['tokenizer'], ids: readonly number[]): string =>
  Buffer.concat(
    ids.flatMap((id) => (tokenizer.isSpecial(id) ? [] : (tokenizer.tokenBytes(id) ?? []))),
  ).toString();

/** An error that is about this row alone stands in its place. */
function unscored(error: ApiError): Result<RowScore, ApiError> {
  const own = error.code === 'context_length_exceeded' || error.code === 'invalid_request';
  const notFinite = error.code === 'internal_error' && error.message === NOT_FINITE;
  return own || notFinite ? ok({ error: error.message }) : err(error);
}
