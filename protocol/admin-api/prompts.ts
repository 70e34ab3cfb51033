/** Kept prompts and answers of single requests: requests and answers of the admin API. */
import { z } from 'zod';
import type { AdminOperationTable } from './operation.ts';

/** Longest `keep_prompts`, hours: thirty days. */
export const MAX_KEEP_HOURS = 720;
export const KeepHours = z.int().min(1).max(MAX_KEEP_HOURS);

/** Characters kept of a prompt, and of an answer. */
// All messages of the prompt together, and all choices of the answer.
export const MAX_KEPT_TEXT = 16 * 1024;

/** Prompt and answer, as far as they are kept. */
export const KeptText = z.object({
  /**
   * In order: messages, `tools` with their definitions, a `user` for each raw text, or of pairs each `query`, then each
   * `document`.
   */
  prompt: z.array(z.object({ role: z.string(), text: z.string() })),
  /** Truncated: some of the first messages, or of texts and pairs the last ones, or the end of a long one, are missing. */
  prompt_cut: z.boolean(),
  /**
   * One text per choice; tool calls are lines of name and JSON. Of a classification head, for each text its label with its
   * probability, or its score; of `/v1/rerank` the documents by relevance. null: it failed, has no text, or was too long.
   */
  answers: z.array(z.string()).nullable(),
  /** Truncated. */
  answers_cut: z.boolean(),
  /** A text completion: the prompt is continued, and no conversation. */
  raw: z.literal(true).optional(),
  /** A classification head's answer, which nobody said. */
  classes: z.literal(true).optional(),
});
export type KeptText = z.infer<typeof KeptText>;

/** `GET /admin/requests/<id>/prompt?at=`. */
export const KeptPrompt = KeptText.extend({
  id: z.string(),
  /** When the request ended, unix ms. */
  at: z.int(),
  tenant: z.string(),
  key_id: z.string(),
  name: z.string(),
  /** It is deleted then, unix ms. */
  expires_at: z.int(),
}).meta({ id: 'KeptPrompt' });
export type KeptPrompt = z.infer<typeof KeptPrompt>;

export const PROMPT_OPERATIONS = {
  'GET /admin/requests/:id/prompt': {
    id: 'readPrompt',
    tag: 'operation',
    rights: 'admin',
    summary: 'Reads the prompt and answer of one request. Keys with the right to read prompts only.',
    description:
      "Only for keys with `keep_prompts`, until the entry expires. A key reads only its own tenant's " +
      'requests, and so does the bootstrap key. Each read is recorded in the history.',
    params: { id: z.string().max(256) },
    query: z.strictObject({
      /** When it ended, unix ms, if several requests have this id. Default: the newest. */
      at: z
        .string()
        .regex(/^\d{1,15}$/, 'must be a time in ms')
        .transform(Number)
        .optional(),
    }),
    request: null,
    answers: { 200: { description: 'Prompt and answer.', schema: KeptPrompt } },
  },
} as const satisfies AdminOperationTable;
