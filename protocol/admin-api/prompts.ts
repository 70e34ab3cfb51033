/** Prompts and answers of single requests, of keys that have them kept: what the admin API takes and answers. */
import { z } from 'zod';
import type { AdminOperationTable } from './operation.ts';

/** Of what a key may have its prompts kept for. */
export const MAX_KEEP_HOURS = 720;
export const KeepHours = z.int().min(1).max(MAX_KEEP_HOURS);

/** Of a prompt, all its messages together, and of an answer, all its choices together: characters that are kept. */
export const MAX_KEPT_TEXT = 16 * 1024;

/** What was asked and answered, as far as it is kept. */
export const KeptText = z.object({
  /** In their order: messages, `tools` with their definitions, or one `user` for what is no chat. */
  prompt: z.array(z.object({ role: z.string(), text: z.string() })),
  /** It was longer: of the first messages, or of a long one's end, something is missing. */
  prompt_cut: z.boolean(),
  /** A text a choice; calls of tools are lines of name and JSON. null: it failed, has no text, or was too long to be read. */
  answers: z.array(z.string()).nullable(),
  /** It was longer. */
  answers_cut: z.boolean(),
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
    summary: 'What one request asked and was answered. Keys with the right to read prompts only.',
    description:
      'Of keys that have it kept (`keep_prompts`), until it expires. A key reads what its own tenant asked; reading it leaves a row in the history. The bootstrap key reads its own tenant’s, too, and no other.',
    params: { id: z.string().max(256) },
    query: z.strictObject({
      /** When it ended, unix ms: of several requests with the same id. The newest unless given. */
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
