import type { AdapterTraits } from '../../protocol/activation.ts';
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import { MAX_TOP_LOGPROBS } from '../../protocol/limits.ts';
import { labelOf } from '../../protocol/classes.ts';
import type {
  EvaluationRow,
  KvFit,
  LabelledRow,
  ProbeToken,
  RowScore,
  ScoredRow,
  VerifyAnswer,
} from '../../protocol/origin-wire.ts';
import {
  NOT_FINITE,
  type TokenScore,
  type EngineRequest,
  type ScoredToken,
  type ServingEngine,
} from '../engine/engine.ts';
import type { Clipped } from '../engine/ports.ts';
import { type Classes, likeliest, nllOf } from '../generation/class-scores.ts';
import { GREEDY } from '../generation/sampler.ts';
import { encodeCooperatively, idsOfInput, promptOf, type PromptServices } from '../prompts/prompt.ts';
import { tokenText } from '../model/tokenizer.ts';

/**
 * Any constant prompts work: answers are compared with earlier ones. The second and third are tried only if an
 * adapter has no effect after the earlier ones.
 */
const PROBES = [
  'What is the capital of France?',
  'Write a function that adds two numbers.',
  'The patient has had a dry cough and a fever since Monday. What should be done?',
] as const;

/**
 * Number of likeliest tokens that are compared. Each of their log-probabilities contains the sum over the whole
 * vocabulary, so hardly any changed bit goes unnoticed.
 */
const COMPARED = 256;

/**
 * A proof is valid while the divergence from it is at most this, nats a token: equality would bind it to one
 * processor (int8 kernels round differently), and int8 against float32 differ by 0.001 to 0.009.
 */
export const MAX_PROOF_KL = 0.05;

interface Probe extends ProbeToken {
  token: string;
}

export interface Verification extends Omit<VerifyAnswer, 'digest' | 'adapter'> {
  /** The likeliest first tokens of the base model alone, likeliest first. */
  base: Probe[];
  /** … of the chain without its last adapter; empty when it could not run. */
  below: Probe[];
  /** … and of the whole chain. */
  adapter: Probe[];
}

interface VerifyParams {
  services: TrialServices & {
    /** Of an adapter's file; null = there is no such file. */
    files: { traits(digest: string): Promise<AdapterTraits | null> };
  };
  requestId: string;
  /** Tenant that the work is accounted to. */
  tenant: string;
  /** Root first, not empty; its last adapter is the one in question. */
  chain: readonly ChainEntry[];
  expected: { prompt?: string | undefined; tokens: readonly ProbeToken[] } | null;
  signal: AbortSignal;
}

/** One attempt to find a difference. */
interface Attempt {
  prompt: string;
  /** Also compare the prompt's own tokens: nearly as sensitive as any number of prompts, for twice the work. */
  whole: boolean;
  /** Tokens that activate the chain's adapters, root first. */
  invocations: readonly (readonly number[])[];
  /** Tokens behind the prompt. */
  behind: readonly number[];
}

/** Root first; null for missing or bad files, which are for the engine to report. */
const traitsOf = ({ services, chain }: VerifyParams): Promise<(AdapterTraits | null)[]> =>
  Promise.all(chain.map(({ digest }) => services.files.traits(digest)));

/** The prompt with the tokens that activate a chain behind it, unless it ends with them. */
const activated = (prompt: readonly number[], invocations: Attempt['invocations']): readonly number[] =>
  invocations.reduce((ids, tokens) => {
    const ends = tokens.every((id, at) => ids[ids.length - tokens.length + at] === id);
    return ends ? ids : [...ids, ...tokens];
  }, prompt);

/**
 * Tries the chain's last adapter on fixed prompts: does it load, is its output finite, does it change anything, and is
 * the output what it was before. An activated adapter's invocation tokens follow the prompt.
 *
 * "Without it" means the same chain with its last scale 0, so that both runs have the same shapes and kernels: a delta
 * that adds nothing then gives the same bits, and one bit of difference is the adapter's. An adapter may be so small
 * that the first token after one prompt does not show it, hence the further attempts before it is called a no-op. With
 * a classification head, it may even change nothing but the classes, which must be finite.
 *
 * Errors: those of the base's own run, and whatever says nothing about the adapter (it is missing, the queue is full);
 * what is wrong with the adapter is in the value.
 */
export async function verifyAdapter(params: VerifyParams): Promise<Result<Verification, ApiError>> {
  const { expected } = params;
  const traits = await traitsOf(params);
  const invocations = traits.flatMap((known) => (known?.invocation == null ? [] : [known.invocation]));
  const moves = traits.at(-1)?.moves ?? [];
  const classifies = traits.some((known) => known?.classifies === true);
  const [first, ...others] = expected === null ? PROBES : [expected.prompt ?? PROBES[0]];
  const attempts: Attempt[] = [
    { prompt: first, whole: false, invocations, behind: [] },
    ...[first, ...others].map((prompt) => ({ prompt, whole: true, invocations, behind: [] })),
    // An embedding's delta is nothing for tokens that training did not see.
    ...(moves.length === 0 ? [] : [{ prompt: first, whole: true, invocations, behind: moves }]),
  ];
  let last: Result<Verification, ApiError> | null = null;
  for (const attempt of attempts) {
    last = await tryOnce(params, attempt);
    if (!last.ok || last.value.reason !== 'no_change') break;
    if (!classifies) continue;
    last = ok({ ...last.value, ok: true, reason: null });
    break;
  }
  if (classifies && last?.ok === true && last.value.ok) last = await tryClassifier(params, last.value);
  if (last?.ok !== true || !last.value.ok || params.services.base.kv !== 'int8') return last!;
  const kv = await fitOfKeysAndValues(params, invocations);
  if (!kv.ok) return kv;
  const { fits, ...fit } = kv.value;
  return ok({ ...last.value, kv: fit, ...(fits ? {} : { ok: false, ...kvFault(fit) }) });
}

/** @param verified what came of the chain's text. */
async function tryClassifier(
  params: VerifyParams,
  verified: Verification,
): Promise<Result<Verification, ApiError>> {
  const { services, requestId: id, tenant, chain, signal } = params;
  const prompt = await encodeProbe(params, verified.prompt);
  if (!prompt.ok) return prompt;
  const ran = await runScored(services, {
    id,
    tenant,
    chain,
    signal,
    prompt: prompt.value,
    promptLogprobs: null,
    budgetMs: null,
    sampling: { ...GREEDY, maxTokens: 0 },
    classifies: true,
  });
  const fault = ran.ok ? null : faultOf(ran.error);
  if (ran.ok) return ok(verified);
  return fault === null ? ran : ok({ ...verified, ok: false, ...fault });
}

/** Above it, an adapter whose keys and values are clipped is refused, nats a token. */
const MAX_KV_KL = 0.01;
/** … if the mean is so many standard errors above it. */
const SURE = 2;

const kvFault = ({ kl, clipped, values }: KvFit): { reason: string; code: string } => ({
  reason:
    `With the adapter, ${clipped} of ${values} keys and values are too large for int8, which changes its answers ` +
    `(mean KL ${kl.toPrecision(2)}). Serve this base with --kv f32`,
  code: 'kv_out_of_range',
});

/** Text that is read over exact keys and values: no more than a chunk. */
const KV_TEXT_TOKENS = 128;
/** Answered of it. */
const KV_TOKENS = 48;

/**
 * Lets the chain answer over int8 keys and values, and reads the same text over exact ones. The base clips a few values
 * slightly, too. Only where clipping adds more error than rounding, all probes are answered, and their mean KL decides.
 */
async function fitOfKeysAndValues(
  params: VerifyParams,
  invocations: Attempt['invocations'],
): Promise<Result<KvFit & { fits: boolean }, ApiError>> {
  const [last, ...others] = [...PROBES].reverse();
  const first = await kvTrial(params, last!, invocations);
  if (!first.ok) return first;
  const fine = clippedLittle(first.value);
  const more = fine ? [] : await Promise.all(others.map((probe) => kvTrial(params, probe, invocations)));
  const trials = [first.value];
  for (const trial of more) {
    if (!trial.ok) return trial;
    trials.push(trial.value);
  }
  const { mean, error } = meanOf(trials.flatMap(({ kls }) => kls));
  return ok({
    kl: Math.max(0, mean),
    clipped: trials.reduce((sum, trial) => sum + trial.clipped, 0),
    values: trials.reduce((sum, trial) => sum + trial.values, 0),
    fits: fine || mean - SURE * error <= MAX_KV_KL,
  });
}

interface KvTrial extends Clipped {
  /** What int8 keys and values add to the KL of each token's successor. */
  kls: number[];
}

/** Mean squared error of rounding, in steps: it is evenly spread over half a step to both sides. */
const ROUNDING = 1 / 12;

const clippedLittle = ({ lost, values }: Clipped): boolean => lost <= ROUNDING * values;

async function kvTrial(
  params: VerifyParams,
  probe: string,
  invocations: Attempt['invocations'],
): Promise<Result<KvTrial, ApiError>> {
  const { services, requestId: id, tenant, chain, signal } = params;
  const encoded = await encodeProbe(params, probe);
  if (!encoded.ok) return encoded;
  const prompt = activated(encoded.value, invocations);
  const common = { id, tenant, budgetMs: null, signal };
  const most = Math.min(services.base.context, KV_TEXT_TOKENS) - prompt.length;
  const answer = await runScored(services, {
    ...{ ...common, chain, prompt, promptLogprobs: null },
    ignoresClassifier: true,
    sampling: {
      ...GREEDY,
      maxTokens: Math.max(1, Math.min(KV_TOKENS, most)),
      ignoreEos: true,
      logprobs: COMPARED,
    },
  });
  if (!answer.ok) return answer;
  const { tokens } = answer.value;
  const text = [...prompt, ...tokens.map((token) => token.id)];
  const read = (of: readonly ChainEntry[]): Promise<Result<ScoredRun, ApiError>> =>
    runScored(services, {
      ...{ ...common, chain: of, prompt: text, promptLogprobs: COMPARED, countsClipped: true },
      ignoresClassifier: true,
      sampling: { ...GREEDY, maxTokens: 0 },
    });
  const exact = await read(chain);
  if (!exact.ok) return exact;
  const nudged = await read(nudge(chain));
  if (!nudged.ok) return nudged;
  const [wanted, same] = [exact, nudged].map(({ value }) => value.prompt.slice(prompt.length));
  // The answer's first token comes from reading.
  const kls = tokens.slice(1).map(({ top }, at) => {
    const { top: expected } = wanted![at + 1]!;
    return topDivergence(expected, top) - topDivergence(expected, same![at + 1]!.top);
  });
  return ok({ kls, ...exact.value.clipped! });
}

/**
 * The chain with a change that only shows where it flips a rounding. int8 products amplify any changed bit; the KL that
 * this causes on a text is noise, and would otherwise count as the keys' and values'.
 */
const nudge = (chain: readonly ChainEntry[]): ChainEntry[] =>
  chain.map((entry) => ({ ...entry, scale: entry.scale * (1 + 2 ** -16) }));

/** @returns mean and its standard error; zeros for nothing. */
function meanOf(values: readonly number[]): { mean: number; error: number } {
  const count = values.length;
  if (count < 2) return { mean: values[0] ?? 0, error: 0 };
  const mean = values.reduce((sum, one) => sum + one, 0) / count;
  const variance = values.reduce((sum, one) => sum + (one - mean) ** 2, 0) / (count - 1);
  return { mean, error: Math.sqrt(variance / count) };
}

async function tryOnce(params: VerifyParams, attempt: Attempt): Promise<Result<Verification, ApiError>> {
  const { services, chain, expected } = params;
  const show = (of: Run): Probe[] =>
    of.top
      .slice(0, MAX_TOP_LOGPROBS)
      .map(({ id, logprob }) => ({ token: tokenText(services.tokenizer, id), id, logprob }));
  const { digest: base_digest, weights } = services.base;
  const common = { prompt: attempt.prompt, base_digest, weights };
  const silenced = chain.map((entry, i) => (i === chain.length - 1 ? { ...entry, scale: 0 } : entry));
  const after = await run(params, attempt, chain);
  const before = after.ok ? await run(params, attempt, silenced) : after;
  const failed = before.ok ? null : before.error;
  const fault = failed === null ? null : faultOf(failed);
  if (failed !== null && fault === null) return err(failed);
  // Below a single adapter there is only the base.
  const base = before.ok && chain.length === 1 ? before : await run(params, attempt, []);
  if (!base.ok) return base;
  if (!after.ok || !before.ok) {
    const nothing = { below: [], adapter: [], kl: null, max_difference: 0 };
    return ok({ ...common, ok: false, ...fault!, base: show(base.value), ...nothing });
  }
  const adapter = show(after.value);
  const kl = expected === null ? null : topDivergence(expected.tokens, after.value.top);
  const reason = same(before.value, after.value)
    ? 'no_change'
    : kl !== null && kl > MAX_PROOF_KL
      ? 'proof_mismatch'
      : null;
  return ok({
    ...common,
    ok: reason === null,
    reason,
    base: show(base.value),
    below: show(before.value),
    adapter,
    kl,
    max_difference: largestDifference(before.value.top, adapter),
  });
}

/** An error that is the adapter's fault; null for others. */
function faultOf(error: ApiError): { reason: string; code?: string } | null {
  if (error.code === 'adapter_invalid')
    return { reason: error.message, ...(error.reason === undefined ? {} : { code: error.reason }) };
  return error.code === 'internal_error' && error.message === NOT_FINITE ? { reason: 'non_finite' } : null;
}

interface Run {
  /** The likeliest first tokens. */
  top: readonly TokenScore[];
  /** Log-probabilities of the prompt's own tokens except the first; empty unless the attempt includes them. */
  prompt: readonly number[];
}

/** To the last bit, everything that was compared. */
const same = (a: Run, b: Run): boolean =>
  a.prompt.every((logprob, i) => logprob === b.prompt[i]) &&
  a.top.every(({ id, logprob }, i) => id === b.top[i]?.id && logprob === b.top[i].logprob);

/** How far the adapter's likeliest tokens have moved, nats; a token missing in `before` counts as its last. */
function largestDifference(before: readonly TokenScore[], after: readonly ProbeToken[]): number {
  const known = new Map(before.map(({ id, logprob }) => [id, logprob]));
  const least = before.at(-1)?.logprob ?? 0;
  return Math.max(0, ...after.map(({ id, logprob }) => Math.abs(logprob - (known.get(id) ?? least))));
}

async function run(
  params: VerifyParams,
  attempt: Attempt,
  chain: readonly ChainEntry[],
): Promise<Result<Run, ApiError>> {
  const { services, requestId, tenant, signal } = params;
  const encoded = await encodeProbe(params, attempt.prompt);
  if (!encoded.ok) return encoded;
  const scored = await runScored(services, {
    id: requestId,
    tenant,
    prompt: activated([...encoded.value, ...attempt.behind], attempt.invocations),
    chain,
    sampling: { ...GREEDY, maxTokens: 1, ignoreEos: true, logprobs: COMPARED },
    promptLogprobs: attempt.whole ? 0 : null,
    ignoresClassifier: true,
    budgetMs: null,
    signal,
  });
  if (!scored.ok) return scored;
  return ok({
    top: scored.value.tokens[0]?.top ?? [],
    prompt: scored.value.prompt.flatMap(({ logprob }) => logprob ?? []),
  });
}

/** The prompt's tokens, as a user's turn if the base has a template. */
async function encodeProbe(
  { services, tenant, signal }: VerifyParams,
  content: string,
): Promise<Result<readonly number[], ApiError>> {
  const { tokenizer, chatTemplate, base } = services;
  const encoded = await encodeCooperatively(
    services,
    { tenant, signal },
    {
      bytes: Buffer.byteLength(content),
      param: 'expected.prompt',
      steps:
        chatTemplate?.encodeChunked([{ role: 'user', content }], base.context) ??
        tokenizer.encodeChunked(content, { allowSpecial: false, limit: base.context }),
    },
  );
  if (!encoded.ok || chatTemplate !== null) return encoded;
  return ok([...tokenizer.prefixIds, ...encoded.value]);
}

/** If one side gives a bucket no probability at all. */
const LEAST_PROBABILITY = 1e-12;

/**
 * KL(expected || now) = sum p ln(p/q), nats, over the tokens of `expected` and one bucket for all others. p and q of
 * the bucket are what is left of 1; both sides are then divided by their sums, because rounded or forged numbers need
 * not add up. Kullback and Leibler 1951; merging the rest into one bucket only makes it smaller (data processing).
 * @param now likeliest first and longer than `expected`. A token that is not in it is at most as likely as its last.
 */
export function topDivergence(expected: readonly ProbeToken[], now: readonly ProbeToken[]): number {
  const known = new Map(now.map(({ id, logprob }) => [id, logprob]));
  const least = now.at(-1)?.logprob ?? -Infinity;
  const p = withRest(expected.map(({ logprob }) => Math.exp(logprob)));
  const q = withRest(expected.map(({ id }) => Math.exp(known.get(id) ?? least)));
  const divergence = p.reduce(
    (sum, share, i) => (share > 0 ? sum + share * Math.log(share / Math.max(q[i]!, LEAST_PROBABILITY)) : sum),
    0,
  );
  return Math.max(0, divergence);
}

function withRest(shares: readonly number[]): number[] {
  const sum = shares.reduce((total, share) => total + share, 0);
  const all = [...shares, Math.max(0, 1 - sum)];
  const total = Math.max(sum, 1);
  return all.map((share) => share / total);
}

/** Dependencies of trials. */
interface TrialServices extends PromptServices {
  engine: Pick<ServingEngine, 'add'>;
}

interface ScoredRun {
  /** Empty unless `promptLogprobs` was requested. */
  prompt: readonly ScoredToken[];
  tokens: readonly ScoredToken[];
  /** null unless they were to be counted. */
  clipped: Clipped | null;
  /** null unless the request asks for them. */
  classes: Classes | null;
}

/** Runs a request to its end for its scores. */
async function runScored(
  { engine }: Pick<TrialServices, 'engine'>,
  request: EngineRequest,
): Promise<Result<ScoredRun, ApiError>> {
  const added = await engine.add(request);
  if (!added.ok) return added;
  let prompt: readonly ScoredToken[] = [];
  let clipped: ScoredRun['clipped'] = null;
  let classes: Classes | null = null;
  const tokens: ScoredToken[] = [];
  for await (const event of added.value.events) {
    if (event.kind === 'error') return err(event.error);
    if (event.kind === 'aborted') break;
    if (event.kind === 'end') return ok({ prompt, tokens, clipped, classes });
    if (event.kind === 'prompt') prompt = event.tokens;
    else if (event.kind === 'clipped') clipped = event;
    else if (event.kind === 'classes') classes = event;
    else if (event.kind === 'tokens') tokens.push(...event.tokens);
  }
  return err({
    code: 'origin_unavailable',
    message: 'The run was cancelled: the client disconnected or the origin is shutting down.',
    retryAfterMs: 1_000,
  });
}

/**
 * Rows of one evaluation in the engine's queue at once: enough to keep it busy, and no more than a small
 * client.
 */
const CONCURRENT_ROWS = 4;

interface EvaluateParams {
  services: TrialServices;
  requestId: string;
  tenant: string;
  /** Root first. */
  chain: readonly ChainEntry[];
  rows: readonly ScoredRow[];
  /** Time left for all rows, ms; null = no deadline. */
  budgetMs: number | null;
  /** Unix ms. */
  now: () => number;
  signal: AbortSignal;
}

/**
 * Scores expected answers by teacher forcing, one prefill a row: prompt, answer and end go in at once, and each
 * token of the answer is compared with what the model would have said there. All likeliest = greedy decoding
 * gives exactly this answer, as the tokenizer writes it, and ends. Rows with a label are classified as at `/v1/classify`.
 * Errors: those that concern all rows (an adapter is missing or does not load, it has no head or no text, the queue is
 * full, time is up); a row that cannot be scored has its own error.
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
      const row = rows[at]!;
      const own = { ...params, budgetMs: left, signal };
      const score = await ('label' in row ? classifyRow({ ...own, row }) : scoreRow({ ...own, row }));
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
  const answer = await encodeCooperatively(services, params, {
    bytes: Buffer.byteLength(row.expected),
    param: 'expected',
    steps: tokenizer.encodeChunked(row.expected, { allowSpecial: false, limit: base.context }),
  });
  if (!answer.ok) return unscored(answer.error);
  const expected = answer.value;
  const wanted = end === undefined ? expected : [...expected, end];
  if (expected.length === 0) return ok({ error: 'The expected answer has no tokens.' });

  const scored = await runScored(services, {
    id: params.requestId,
    tenant: params.tenant,
    prompt: [...prompt.value.ids, ...wanted],
    answerFrom: prompt.value.ids.length,
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
    // Any token that ends an answer will do.
    const alike = ends.has(id) ? ends : new Set([id]);
    const likeliest = top.filter((token) => alike.has(token.id)).map((token) => token.logprob);
    sum -= Math.max(logprob ?? -Infinity, ...likeliest);
    // After the first different token the model would continue with its own text.
    if (exact) got.push(top[0]?.id ?? id);
    exact &&= alike.has(top[0]?.id ?? -1);
  }
  const score = { exact, nll: sum / wanted.length, tokens: wanted.length };
  return ok(exact ? score : { ...score, got: textOf(tokenizer, got) });
}

/** Of labels named in an error. */
const LABELS_TOLD = 10;

/** How the head does on a row with a label. */
async function classifyRow(
  params: Omit<EvaluateParams, 'rows'> & { row: LabelledRow },
): Promise<Result<RowScore, ApiError>> {
  const { services, row } = params;
  const prompt = await labelledPrompt(params);
  if (!prompt.ok) return unscored(prompt.error);
  const ran = await runScored(services, {
    id: params.requestId,
    tenant: params.tenant,
    chain: params.chain,
    signal: params.signal,
    prompt: prompt.value,
    promptLogprobs: null,
    budgetMs: params.budgetMs,
    sampling: { ...GREEDY, maxTokens: 0 },
    classifies: true,
  });
  if (!ran.ok) return unscored(ran.error);
  const { scores, head } = ran.value.classes!;
  const excludes = head.problemType === null || head.problemType === 'single_label_classification';
  if (scores.length === 1 || !excludes)
    return err({
      code: 'wrong_endpoint',
      message:
        "Rows with labels need a head of several classes, of which a text has one. This model's head has " +
        `${scores.length === 1 ? 'one output' : `the problem type '${head.problemType}'`}.`,
      param: 'model',
    });
  const labels = Array.from(scores, (_, at) => labelOf(head.labels, at));
  const wanted = labels.indexOf(row.label);
  if (wanted === -1) {
    const known = labels.slice(0, LABELS_TOLD).join(', ');
    const more = labels.length > LABELS_TOLD ? ` and ${labels.length - LABELS_TOLD} more` : '';
    const error = `The classifier has no class '${row.label}', but ${known}${more}.`;
    return ok({ error, code: 'label_unknown' });
  }
  const got = likeliest(Array.from(scores));
  const score = { exact: got === wanted, nll: nllOf(Array.from(scores), wanted), tokens: 1 };
  return ok(got === wanted ? score : { ...score, got: labels[got]! });
}

/** The prompt of a row with a label: the same as `/v1/classify` makes. */
async function labelledPrompt({
  services,
  row: { prompt, text, messages },
  tenant,
  signal,
}: Omit<EvaluateParams, 'rows'> & { row: LabelledRow }): Promise<Result<readonly number[], ApiError>> {
  const caller = { tenant, signal };
  if (messages === undefined)
    return idsOfInput(prompt ?? text ?? '', services, caller, { prefixed: true, param: 'rows' });
  const chat = { model: services.base.id, messages, add_generation_prompt: false };
  const made = await promptOf(chat, services, caller);
  return made.ok ? ok(made.value.ids) : made;
}

const textOf = (tokenizer: TrialServices['tokenizer'], ids: readonly number[]): string =>
  Buffer.concat(
    ids.flatMap((id) => (tokenizer.isSpecial(id) ? [] : (tokenizer.tokenBytes(id) ?? []))),
  ).toString();

/** An error of this row only, in its place. */
function unscored(error: ApiError): Result<RowScore, ApiError> {
  const own = error.code === 'context_length_exceeded' || error.code === 'invalid_request';
  const notFinite = error.code === 'internal_error' && error.message === NOT_FINITE;
  return own || notFinite ? ok({ error: error.message }) : err(error);
}
