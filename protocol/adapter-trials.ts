/** Trying an adapter at an origin: what proves it and is kept to be tried against later, and how it scores on prompts with known answers. */
import { z } from 'zod';
import { ChainEntry, Digest } from './identity.ts';
import { MAX_CHAIN, MAX_TOP_LOGPROBS } from './limits.ts';

/** Probe prompts are short; this only bounds what a damaged row can ask for. */
const MAX_PROBE_CHARACTERS = 1_024;

/** One of the likeliest first tokens after a probe prompt; natural logarithm. */
export const ProbeToken = z.strictObject({ id: z.int().min(0), logprob: z.number() });
export type ProbeToken = z.infer<typeof ProbeToken>;

const ProbePrompt = z.string().min(1).max(MAX_PROBE_CHARACTERS);
const ProbeTokens = z.array(ProbeToken).min(1).max(MAX_TOP_LOGPROBS);

/** The likeliest first tokens of a chain, on the base that it was admitted with. Kept with the version. */
export const AdapterProof = z.strictObject({
  /** Base and weight format that it holds for: others give other numbers. */
  base_digest: Digest,
  weights: z.string(),
  prompt: ProbePrompt,
  /** Likeliest first. */
  tokens: ProbeTokens,
  /** Unix ms. */
  at: z.int(),
});
export type AdapterProof = z.infer<typeof AdapterProof>;

/** Body of `POST /adapters/<digest>/verify`; may be empty. */
export const VerifyRequest = z.strictObject({
  /** Root first, ending with the adapter; alone at scale 1 unless given. */
  chain: z.array(ChainEntry).min(1).max(MAX_CHAIN).optional(),
  /** An earlier proof to compare with; the origin's first probe prompt unless given. */
  expected: z.strictObject({ prompt: ProbePrompt.optional(), tokens: ProbeTokens }).optional(),
});
export type VerifyRequest = z.infer<typeof VerifyRequest>;

/** Its answer, as far as the edge reads it. */
export const VerifyAnswer = z.object({
  digest: Digest,
  /** The chain loads, its output is finite, the last adapter changes it, and it is what was expected. */
  ok: z.boolean(),
  /** `no_change`, `non_finite`, `proof_mismatch`, or why the adapter does not load; null when ok. */
  reason: z.string().nullable(),
  /** The toolkit's code of what is wrong with the file, where that is the reason. */
  code: z.string().min(1).max(64).optional(),
  prompt: ProbePrompt,
  base_digest: Digest,
  weights: z.string(),
  /** Likeliest first tokens with the whole chain; empty when it could not run. */
  adapter: z.array(z.object({ id: z.int().min(0), logprob: z.number() })).max(MAX_TOP_LOGPROBS),
  /** KL(expected || now), nats a token; null when nothing was expected or the chain could not run. */
  kl: z.number().nullable(),
  /** Largest change that the last adapter makes to one of the likeliest first tokens, nats; on int8 noise included. */
  max_difference: z.number(),
});
export type VerifyAnswer = z.infer<typeof VerifyAnswer>;

/** Rows in one request: they keep an origin busy for seconds, and the caller sends the next ones after. */
export const MAX_EVALUATION_ROWS = 64;

/** Either `prompt`, a raw text to go on from, or `user` (and `system`), put into the base's chat template. */
export const EvaluationRow = z
  .strictObject({
    prompt: z.string().optional(),
    user: z.string().optional(),
    system: z.string().optional(),
    /** The whole answer, to its end. */
    expected: z.string().min(1),
  })
  .superRefine(({ prompt, user, system }, context) => {
    if ((prompt === undefined) === (user === undefined))
      context.addIssue({ code: 'custom', message: "a row has either 'prompt' or 'user'" });
    else if (system !== undefined && user === undefined)
      context.addIssue({ code: 'custom', message: "'system' goes with 'user', not with 'prompt'" });
  });
export type EvaluationRow = z.infer<typeof EvaluationRow>;

export const EvaluationRows = z.array(EvaluationRow).min(1).max(MAX_EVALUATION_ROWS);

/** Body of `POST /adapters/<digest>/evaluate`. */
export const EvaluateRequest = z.strictObject({
  /** Root first, ending with the adapter; alone at scale 1 unless given. */
  chain: z.array(ChainEntry).min(1).max(MAX_CHAIN).optional(),
  /** Whose share of the machine it uses. */
  tenant: z.string().min(1).optional(),
  /** Time left, ms. */
  budget_ms: z.int().positive().optional(),
  rows: EvaluationRows,
});
export type EvaluateRequest = z.infer<typeof EvaluateRequest>;

export const RowScore = z.union([
  z.object({
    /** Greedy decoding gives exactly the expected answer and ends there. */
    exact: z.boolean(),
    /** Mean over `tokens`, nats. */
    nll: z.number(),
    /** Of the expected answer, its end included. */
    tokens: z.int().positive(),
    /** Of an answer that is not exact: as far as it is as expected, and the token that comes there, none if it ends. */
    got: z.string().optional(),
  }),
  /** Why this row cannot be scored; the others are. */
  z.object({ error: z.string() }),
]);
export type RowScore = z.infer<typeof RowScore>;

export const EvaluateAnswer = z.object({ rows: z.array(RowScore).max(MAX_EVALUATION_ROWS) });
export type EvaluateAnswer = z.infer<typeof EvaluateAnswer>;

/** What a publisher says its evaluation came to. Nobody but the publisher has checked it. */
export const Evaluation = z.strictObject({
  rows: z.int().positive(),
  /** Share of rows answered exactly. */
  exact_match: z.number().min(0).max(1),
  /** Mean over all expected tokens, nats. */
  mean_nll: z.number().min(0),
  /** Of the evaluation file. */
  sha256: Digest,
});
export type Evaluation = z.infer<typeof Evaluation>;

/** As a version keeps it; `at` in unix ms. */
export const StoredEvaluation = z.strictObject({ ...Evaluation.shape, at: z.int() });
export type StoredEvaluation = z.infer<typeof StoredEvaluation>;
