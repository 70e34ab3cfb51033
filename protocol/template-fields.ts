/** Fields of a chat that say how the base's chat template is filled in; vLLM's. */
import { z } from 'zod';
import type { ApiError } from './api-error.ts';
import { MAX_TEMPLATE_KWARGS_BYTES, MAX_TEMPLATE_KWARGS_DEPTH } from './limits.ts';
import { isMap } from './parse-body.ts';

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
