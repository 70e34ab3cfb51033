/** What answers are constrained to: schemas, choices, expressions and functions, and what fits them. */
import type { AskedForm, CallFormat } from '../../../gpu-origin/grammar/ports.ts';
import type { TemplateTool } from '../../../gpu-origin/model/chat-template.ts';
import { constraintsOf, toolUseOf } from '../../../protocol/request-fields.ts';

export interface Call {
  name: string;
  /** JSON. */
  arguments: string;
}

export interface Form {
  /** Fields of a chat completion. */
  body: Parameters<typeof constraintsOf>[0] & Parameters<typeof toolUseOf>[0];
  /** Whether a whole answer is what was asked for. */
  fits: (text: string, calls: readonly Call[]) => boolean;
}

const parsed = (json: string): unknown => {
  try {
    return JSON.parse(json) as unknown;
  } catch {
    return null;
  }
};

const SIDES = ['buy', 'sell', 'wait'];

/** Strings have a longest length: letters are always likelier than the quote that ends one. */
const ORDER = {
  type: 'object',
  properties: {
    side: { enum: SIDES },
    who: { type: 'string', maxLength: 5 },
    count: { type: 'integer', minimum: 0, maximum: 99 },
    urgent: { type: 'boolean' },
  },
  required: ['side', 'who', 'count', 'urgent'],
  additionalProperties: false,
};

function isOrder(value: unknown): boolean {
  const { side, who, count, urgent, ...rest } = (value ?? {}) as Record<string, unknown>;
  return (
    SIDES.includes(side as string) &&
    typeof who === 'string' &&
    who.length <= 5 &&
    Number.isInteger(count) &&
    (count as number) >= 0 &&
    (count as number) <= 99 &&
    typeof urgent === 'boolean' &&
    Object.keys(rest).length === 0
  );
}

const TREE = {
  $ref: '#/$defs/node',
  $defs: {
    node: {
      anyOf: [{ enum: [0, 1] }, { type: 'array', items: { $ref: '#/$defs/node' }, minItems: 1, maxItems: 2 }],
    },
  },
};

const isTree = (value: unknown): boolean =>
  Array.isArray(value)
    ? value.length > 0 && value.length < 3 && value.every(isTree)
    : value === 0 || value === 1;

const CHOICES = ['yes', 'no', 'not yet'];

const TOOLS = [
  { type: 'function' as const, function: { name: 'order', parameters: ORDER, strict: true } },
  {
    type: 'function' as const,
    function: {
      name: 'list',
      parameters: {
        type: 'object',
        properties: { of: { enum: SIDES }, page: { type: 'integer', minimum: 1, maximum: 5 } },
        required: ['of'],
        additionalProperties: false,
      },
    },
  },
];

function isCall({ name, arguments: json }: Call): boolean {
  const given = parsed(json);
  if (name === 'order') return isOrder(given);
  const { of, page = 1, ...rest } = (given ?? {}) as Record<string, unknown>;
  return (
    name === 'list' &&
    SIDES.includes(of as string) &&
    [1, 2, 3, 4, 5].includes(page as number) &&
    Object.keys(rest).length === 0
  );
}

const schema = (of: Record<string, unknown>): Form['body'] => ({
  response_format: { type: 'json_schema', json_schema: { name: 'answer', schema: of } },
});

export const FORMS: readonly Form[] = [
  { body: schema(ORDER), fits: (text) => isOrder(parsed(text)) },
  { body: schema(TREE), fits: (text) => isTree(parsed(text)) && text !== '' },
  { body: { structured_outputs: { choice: CHOICES } }, fits: (text) => CHOICES.includes(text) },
  { body: { guided_regex: '[A-Z][0-9]{2,4}' }, fits: (text) => /^[A-Z][0-9]{2,4}$/.test(text) },
  {
    body: { guided_grammar: 'root ::= "(" root ")" | [01]' },
    fits: (text) => /^\(*[01]\)*$/.test(text) && text.length % 2 === 1,
  },
];

export const CALLING: readonly Form[] = [
  {
    body: { tools: TOOLS, tool_choice: 'required' },
    fits: (text, calls) => text === '' && calls.length > 0 && calls.every(isCall),
  },
  {
    body: {
      tools: TOOLS,
      tool_choice: { type: 'function', function: { name: 'list' } },
      parallel_tool_calls: false,
    },
    fits: (text, calls) =>
      text === '' && calls.length === 1 && calls.every((call) => call.name === 'list' && isCall(call)),
  },
  {
    body: { tools: TOOLS, ...schema(ORDER) },
    fits: (text, calls) => (calls.length > 0 ? calls.every(isCall) : isOrder(parsed(text))),
  },
  // Whoever may write text does.
  { body: { tools: TOOLS }, fits: (_text, calls) => calls.every(isCall) },
];

/** As an origin reads it. */
export function askedForm({ body }: Form): { form: AskedForm; tools: TemplateTool[] } {
  const [constraint = null] = constraintsOf(body);
  const use = toolUseOf(body);
  const format: CallFormat = 'hermes';
  return {
    form: { constraint, tools: use === null ? null : { use, format, within: ['function'] } },
    tools: (use?.functions ?? []).map(({ name, description, parameters }) => ({
      type: 'function',
      function: { name, description: description ?? '', parameters: parameters ?? {} },
    })),
  };
}

const MARK = '<tool_call>';
const HEAD = /\s*<tool_call>\n\{"name": "(\w+)", "arguments": /;

/** What a model has written as its client gets it, as far as it got. No string in {@link TOOLS} has a brace. */
export function shownOf({ body }: Form, written: string): string {
  if (body.tools == null) return written;
  const [text = '', ...rest] = written.split(HEAD);
  const calls: Call[] = [];
  for (let at = 0; at < rest.length; at += 2) {
    const [name, behind] = [rest[at] as string, rest[at + 1] as string];
    let depth = 0;
    let end = 0;
    do {
      if (behind[end] === '{') depth += 1;
      if (behind[end] === '}') depth -= 1;
      end += 1;
    } while (depth > 0 && end < behind.length);
    calls.push({ name, arguments: behind.slice(0, end) });
  }
  // Of a call without a name nothing is shown; where there may be text, its mark alone may be a text.
  const isCall = body.tool_choice != null || text.trimStart().startsWith(MARK);
  return withCalls({ text: isCall ? '' : text, calls });
}

/** As one text, to be compared. */
export const withCalls = ({ text, calls }: { text: string; calls: readonly Call[] }): string =>
  [text, ...calls.map((call) => `<${call.name} ${call.arguments}>`)].join('');
