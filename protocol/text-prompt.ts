/** `prompt` of a text completion: one or several, each as text or as token ids. */
import { z } from 'zod';
import { MAX_PROMPTS } from './limits.ts';

/** One prompt. */
export type TextPrompt = string | number[];

interface Complaint {
  message: string;
  path: number[];
}

const EMPTY = 'must not be empty';

/** Not `z.array`, which takes seconds to list what is wrong with each of half a million. */
function complain(prompt: unknown): Complaint | null {
  if (typeof prompt === 'string') return null;
  if (!Array.isArray(prompt)) return { message: 'must be text, token ids, or a list of these', path: [] };
  if (prompt.length === 0) return { message: EMPTY, path: [] };
  if (typeof prompt[0] === 'number') return complainOfIds(prompt, []);
  if (prompt.length > MAX_PROMPTS)
    return { message: `has ${prompt.length} prompts; at most ${MAX_PROMPTS} are allowed`, path: [] };
  for (const [at, one] of prompt.entries()) {
    if (typeof one === 'string') continue;
    if (!Array.isArray(one))
      return { message: 'must be text or token ids, as every prompt of a list', path: [at] };
    const complaint = one.length === 0 ? { message: EMPTY, path: [at] } : complainOfIds(one, [at]);
    if (complaint !== null) return complaint;
  }
  return null;
}

function complainOfIds(ids: readonly unknown[], path: number[]): Complaint | null {
  const at = ids.findIndex((id) => !Number.isSafeInteger(id) || (id as number) < 0);
  return at === -1 ? null : { message: 'is no token id', path: [...path, at] };
}

export const TextPrompts = z
  .custom<TextPrompt | TextPrompt[]>()
  .superRefine((prompt, context) => {
    const complaint = complain(prompt);
    if (complaint !== null) context.addIssue({ code: 'custom', ...complaint, input: prompt });
  })
  .meta({
    anyOf: [
      { type: 'string' },
      { type: 'array', items: { type: 'integer', minimum: 0 }, minItems: 1 },
      { type: 'array', items: { type: ['string', 'array'] }, minItems: 1, maxItems: MAX_PROMPTS },
    ],
  });

/** The prompts of a request. */
export const promptsIn = (prompt: TextPrompt | TextPrompt[]): readonly TextPrompt[] =>
  typeof prompt === 'string' || typeof prompt[0] === 'number'
    ? [prompt as TextPrompt]
    : (prompt as TextPrompt[]);

/** Whether they were sent as a list. */
export const isPromptList = (prompt: TextPrompt | TextPrompt[]): boolean =>
  Array.isArray(prompt) && typeof prompt[0] !== 'number';

/** Answers to a request: so many for each of its prompts. */
export const answersTo = (request: {
  model: string;
  n?: number | null | undefined;
  prompt?: TextPrompt | TextPrompt[];
}): number => (request.n ?? 1) * (request.prompt === undefined ? 1 : promptsIn(request.prompt).length);
