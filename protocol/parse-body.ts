/** From a body of the client API to a typed request, or to an error that names the field. */
import type { z } from 'zod';
import type { ApiError } from './api-error.ts';
import { MAX_CONTENT_PARTS, MAX_FIELDS } from './limits.ts';
import { err, ok, type Result } from './result.ts';

/** As OpenAI writes places in a body: `messages[1].content`. */
export const issuePath = (path: readonly PropertyKey[]): string =>
  path.reduce<string>((text, key) => {
    if (typeof key === 'number') return `${text}[${key}]`;
    return text ? `${text}.${short(String(key))}` : short(String(key));
  }, '');

/** Characters of a client's own word that an error repeats. */
const MAX_REPEATED = 128;

export const short = (text: string): string =>
  text.length > MAX_REPEATED ? `${text.slice(0, MAX_REPEATED)}…` : text;

export const isMap = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const unsupported = (param: string, what = `'${param}'`): ApiError => ({
  code: 'unsupported_parameter',
  message: `${what} is not supported by this server yet.`,
  param,
});

/**
 * Parts of a message that are known by OpenAI's clients and not here: refused where they stand.
 * @param path of the message.
 */
export function refuseParts(
  content: unknown,
  path: readonly PropertyKey[],
  known: readonly string[],
): ApiError | null {
  if (!Array.isArray(content)) return null;
  for (const [place, part] of content.entries()) {
    const type: unknown = isMap(part) ? part['type'] : undefined;
    if (typeof type === 'string' && !known.includes(type))
      return unsupported(issuePath([...path, 'content', place, 'type']), `A part of type '${short(type)}'`);
  }
  return null;
}

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

/** Fields that are known and not supported, and which of their values ask for nothing; null always does. */
export type RefusedFields = ReadonlyMap<string, (value: unknown) => boolean>;

/**
 * @param body parsed JSON.
 * @param refused what asks for nothing is left out before the schema sees the body.
 */
export function parseBody<T>(
  schema: z.ZodType<T>,
  body: unknown,
  refused: RefusedFields,
): Result<T, ApiError> {
  if (!isMap(body))
    return err({ code: 'invalid_request', message: 'The body must be a JSON object.', param: null });
  const fields = Object.entries(body);
  if (fields.length > MAX_FIELDS) {
    const message = `The body has ${fields.length} fields; at most ${MAX_FIELDS} are allowed.`;
    return err({ code: 'invalid_request', message, param: null });
  }
  const wanted: [string, unknown][] = [];
  for (const [key, value] of fields) {
    const asksForNothing = refused.get(key);
    if (asksForNothing === undefined) wanted.push([key, value]);
    else if (value !== null && !asksForNothing(value)) return err(unsupported(key));
  }
  const parsed = schema.safeParse(Object.fromEntries(wanted));
  if (parsed.success) return ok(parsed.data);
  const issue = parsed.error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys[0] : undefined;
  const param = issuePath([...(issue?.path ?? []), ...(unknown === undefined ? [] : [unknown])]) || null;
  const message =
    unknown === undefined ? `Invalid value for '${param}': ${issue?.message}.` : `Unknown field '${param}'.`;
  return err({ code: 'invalid_request', message, param });
}
