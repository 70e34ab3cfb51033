/** What a model is asked: contents of messages as clients write them, to text alone; what its chat template is told beside them; prompts of text completions, as text or as token ids. */
import { z } from 'zod';
import { type ApiError, err, ok, type Result } from './api-error.ts';
import {
  MAX_CONTENT_PARTS,
  MAX_TEMPLATE_KWARGS_BYTES,
  MAX_TEMPLATE_KWARGS_DEPTH,
  MAX_PROMPTS,
} from './limits.ts';
import { isMap, issuePath, short, takeFields, unsupported, type Fields, type Taking } from './parse-body.ts';

/** Parts of both APIs that are text. A model's refusal is what it said. */
const TEXT_PARTS: ReadonlyMap<string, string> = new Map([
  ['text', 'text'],
  ['input_text', 'text'],
  ['output_text', 'text'],
  ['refusal', 'refusal'],
]);
/** What a model thought, when its answer is sent back: no chat template shows it again. */
const THOUGHTS: ReadonlySet<string> = new Set(['thinking', 'redacted_thinking', 'reasoning', 'summary_text']);

/**
 * Content parts beyond what is looked at one by one. The schema would list what is wrong with each of half a million.
 * @param field where the messages stand.
 */
export function refuseCrowd(messages: unknown, field: string): ApiError | null {
  if (!Array.isArray(messages)) return null;
  let parts = 0;
  for (const message of messages) {
    const content: unknown = isMap(message) ? message['content'] : undefined;
    if (Array.isArray(content)) parts += content.length;
  }
  if (parts <= MAX_CONTENT_PARTS) return null;
  const message = `Invalid value for '${field}': ${parts} content parts; at most ${MAX_CONTENT_PARTS} are allowed.`;
  return { code: 'invalid_request', message, param: field };
}

/**
 * A content whose parts are all text, of one type; nothing at all is an empty text. What is no content is left to the
 * schema.
 * @param type of a part, as the API has it.
 * @returns `unsupported_parameter` for parts that are no text.
 */
export function takeContent(
  content: unknown,
  type: 'text' | 'input_text',
  taking: Taking,
  path: readonly PropertyKey[],
): Result<unknown, ApiError> {
  if (content === null || (Array.isArray(content) && content.length === 0)) return ok('');
  if (!Array.isArray(content)) return ok(content);
  const parts: unknown[] = [];
  for (const [at, part] of content.entries()) {
    const taken = isMap(part) ? takePart(part, type, taking, [...path, at]) : ok(part as unknown);
    if (!taken.ok) return taken;
    parts.push(taken.value);
  }
  return ok(parts);
}

function takePart(
  part: Record<string, unknown>,
  type: 'text' | 'input_text',
  taking: Taking,
  path: readonly PropertyKey[],
): Result<unknown, ApiError> {
  const { type: own } = part;
  if (typeof own !== 'string') return ok(part);
  if (THOUGHTS.has(own)) {
    taking.ignored.add([...path, own]);
    return ok({ type, text: '' });
  }
  const field = TEXT_PARTS.get(own);
  if (field === undefined) {
    const what = `A part of type '${short(own)}'`;
    return err(unsupported(issuePath([...path, 'type']), 'it reads and writes text alone', what));
  }
  const taken = takeFields(part, partFields(field), taking, path);
  if (!taken.ok) return taken;
  const { type: _type, [field]: text, ...unknown } = taken.value;
  return ok({ type, ...unknown, ...(text === undefined ? {} : { text }) });
}

/** Of an answer's part that is sent back. */
const SENT_BACK = new Map([
  ['annotations', { idle: () => true }],
  ['logprobs', { idle: () => true }],
]);
const partFields = (field: string): Fields => ({ known: new Set(['type', field]), rules: SENT_BACK });

const NAME = /^[A-Za-z_]\w{0,63}$/;
/** What templates have of the request itself, and what they call. */
const RESERVED: ReadonlySet<string> = new Set([
  ...['messages', 'tools', 'documents', 'chat_template', 'tokenize'],
  ...['add_generation_prompt', 'continue_final_message', 'bos_token', 'eos_token'],
  ...['raise_exception', 'range', 'strftime_now', 'namespace', 'loop', 'dict', 'joiner', 'cycler'],
  ...['true', 'false', 'none', 'True', 'False', 'None'],
]);

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0;

const kwargs = z
  .custom<Record<string, unknown>>(isMap, 'must be an object')
  .superRefine((values, context) => {
    const complain = (message: string, path: string[] = []) =>
      context.addIssue({ code: 'custom', message, path, input: values });
    for (const name of Object.keys(values)) {
      if (!NAME.test(name)) return complain('is no name of a variable', [name]);
      if (RESERVED.has(name)) return complain('is not for the request to say', [name]);
    }
    const bytes = new TextEncoder().encode(JSON.stringify(values)).length;
    if (bytes > MAX_TEMPLATE_KWARGS_BYTES)
      return complain(`has ${bytes} bytes; at most ${MAX_TEMPLATE_KWARGS_BYTES} are allowed`);
    if (depthOf(values) > MAX_TEMPLATE_KWARGS_DEPTH)
      complain(`is more than ${MAX_TEMPLATE_KWARGS_DEPTH} objects and lists deep`);
  })
  .meta({ type: 'object', additionalProperties: {} });

export const templateFields = {
  /** Variables of the template, such as `enable_thinking`. */
  chat_template_kwargs: kwargs.nullish(),
  /** Whether the assistant's next turn is opened; true unless given, or the final message goes on. */
  add_generation_prompt: z.boolean().nullish(),
  /** The answer goes on where the last message ends, which is an assistant's. */
  continue_final_message: z.boolean().nullish(),
};

/** What these fields say that cannot be. */
export function refuseTemplateFields(request: {
  messages: readonly { role: string }[];
  add_generation_prompt?: boolean | null | undefined;
  continue_final_message?: boolean | null | undefined;
}): ApiError | null {
  if (request.continue_final_message !== true) return null;
  if (request.add_generation_prompt === true) {
    const message =
      "Give 'add_generation_prompt' or 'continue_final_message', one of them: a turn is opened, or one goes on.";
    return { code: 'invalid_request', message, param: 'continue_final_message' };
  }
  const last = request.messages.length - 1;
  if (request.messages[last]?.role === 'assistant') return null;
  const message = "With 'continue_final_message' the last message has to be an assistant's.";
  return { code: 'invalid_request', message, param: `messages[${last}].role` };
}

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
