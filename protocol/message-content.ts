/** Contents of messages as clients write them, to text alone. */
import { type ApiError, err, ok, type Result } from './api-error.ts';
import { MAX_CONTENT_PARTS } from './limits.ts';
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
