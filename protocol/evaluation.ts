/** Scoring an adapter on prompts with known answers: by an origin, row for row, and as a version keeps the sum. */
import { z } from 'zod';
import { ChainEntry, Digest } from './identity.ts';
import { MAX_CHAIN } from './limits.ts';

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
