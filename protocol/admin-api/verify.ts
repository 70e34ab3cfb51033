/**
 * What origins say of a version or a file: does it still answer as when it was published, and how does it do on rows?
 * What the admin API takes and answers.
 */
import { z } from 'zod';
import { EvaluateAnswer, EvaluationRows } from '../adapter-trials.ts';
import { Digest, AdapterName } from '../identity.ts';
import { MAX_EVALUATION_BODY_BYTES } from './limits.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/verify`. */
export const VerifyVersionRequest = z.strictObject({
  name: AdapterName,
  /** The live one unless given. */
  version: z.int().positive().nullish(),
});
export type VerifyVersionRequest = z.infer<typeof VerifyVersionRequest>;

/** `POST /admin/evaluate`. */
export const EvaluateFileRequest = z.strictObject({
  digest: Digest,
  /** As when it is published. */
  parent: AdapterName.nullish(),
  rows: EvaluationRows,
});
export type EvaluateFileRequest = z.infer<typeof EvaluateFileRequest>;

export const OriginVerdict = z.object({
  /** Of the origin. */
  id: z.string(),
  ok: z.boolean(),
  /** As in the origin's answer, or why there is none to compare. */
  reason: z.string().nullable(),
  /** KL(stored proof || now), nats a token; null when they cannot be compared. */
  kl: z.number().nullable(),
  /** Largest change that the adapter makes there, nats; null when the origin did not try it. */
  max_difference: z.number().nullable(),
});
export type OriginVerdict = z.infer<typeof OriginVerdict>;

/** `POST /admin/verify`. */
export const VerifyVersionAnswer = z.object({
  name: z.string(),
  version: z.int().positive(),
  digest: Digest,
  origins: z.array(OriginVerdict),
});
export type VerifyVersionAnswer = z.infer<typeof VerifyVersionAnswer>;

export const TRIAL_OPERATIONS = {
  'POST /admin/verify': {
    id: 'verifyVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Has every origin compute a version’s proof again.',
    query: null,
    request: VerifyVersionRequest,
    answers: {
      200: { description: 'The version, and what every origin says of it.', schema: VerifyVersionAnswer },
    },
  },
  'POST /admin/evaluate': {
    id: 'evaluateFile',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Scores a file that was sent on prompts with known answers.',
    maxBytes: MAX_EVALUATION_BODY_BYTES,
    query: null,
    request: EvaluateFileRequest,
    answers: { 200: { description: 'A score for each row, in order.', schema: EvaluateAnswer } },
  },
} as const satisfies AdminOperationTable;
