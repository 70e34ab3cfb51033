/**
 * Renders the base's chat template and encodes the result so that what users write never becomes a control token:
 * control strings in their contents are replaced by private-use characters before the template runs, the rendered
 * text is cut at the control strings that are left (the template's own, emitted by id), and each stretch between is
 * encoded by a tokenizer that has no control tokens, with the placeholders put back as plain text.
 * Contents are not encoded apart from the template's text: "\n" + "\n\nHi" are other tokens than "\n\n\nHi".
 */
import { Template } from '@huggingface/jinja';
import { renderChunked, usePython } from './chat-template-render.ts';
import {
  finish,
  Splitter,
  STEP_CHARACTERS,
  type Chunked,
  isHighSurrogate,
  type Tokenizer,
} from './tokenizer.ts';

export interface TemplateOptions {
  /** Variables of the template, as JSON values. */
  variables?: Readonly<Record<string, unknown>>;
  /** Whether to open the assistant's next turn; default true. */
  opensTurn?: boolean;
  /** The text ends where the last message's content ends. */
  continuesLast?: boolean;
  /** Functions that may be called. */
  tools?: readonly TemplateTool[];
}

/** The template refuses these messages (its own `raise_exception`, or unknown roles). */
export class ChatTemplateError extends Error {
  override readonly name = 'ChatTemplateError';
}

export interface ChatTemplate {
  /**
   * Token ids of the conversation, with the opening of the assistant's next turn. All at once: for short
   * conversations.
   * @throws ChatTemplateError
   */
  encode(messages: readonly TemplateMessage[]): number[];
  /** The same in steps, with `limit` as in `Tokenizer.encodeChunked`. */
  encodeChunked(
    messages: readonly TemplateMessage[],
    limit: number,
    options?: TemplateOptions,
  ): Chunked<number[] | null>;
  /** How calls are written. */
  readonly toolFormat: ToolFormat;
}

/** @returns null when the base has no chat template. @throws ChatTemplateError when it does not parse. */
export function createChatTemplate(tokenizer: Tokenizer): ChatTemplate | null {
  const source = tokenizer.chatTemplate;
  if (source === null) return null;
  const template = parse(source);
  const control = [...tokenizer.controlTokens.keys()];
  const splitter = new Splitter(control);
  const guard = new ContentGuard(control);
  usePython(template.parsed);
  hideLookups(template.parsed, (text) =>
    finish(splitter.split(text))
      .map((piece) => (tokenizer.controlTokens.has(piece) ? guard.placeholderOf(piece) : piece))
      .join(''),
  );
  const textOf = (id: number | null | undefined): string => {
    const entry = [...tokenizer.controlTokens].find(([, token]) => token === id);
    return entry?.[0] ?? '';
  };
  const context = { bos_token: textOf(tokenizer.bosId), eos_token: textOf(tokenizer.eosIds[0]) };

  const knows = toolsOfTemplate(source);

  function* render(variables: Record<string, unknown>, placeholders: Placeholders): Chunked<string> {
    try {
      return yield* renderChunked(template, { ...variables, ...context });
    } catch (error) {
      throw new ChatTemplateError(placeholders.restore((error as Error).message));
    }
  }

  /** Every text in a JSON value, including field names. */
  function* guardAll(value: unknown, placeholders: Placeholders): Chunked<unknown> {
    if (typeof value === 'string') return yield* guard.guard(value, placeholders);
    if (Array.isArray(value)) {
      const items: unknown[] = [];
      for (const item of value) items.push(yield* guardAll(item, placeholders));
      return items;
    }
    if (typeof value !== 'object' || value === null) return value;
    const fields: [string, unknown][] = [];
    for (const [key, field] of Object.entries(value))
      fields.push([yield* guard.guard(key, placeholders), yield* guardAll(field, placeholders)]);
    return Object.fromEntries(fields);
  }

  function* encodeChunked(
    conversation: readonly TemplateMessage[],
    limit: number,
    { variables = {}, opensTurn = true, continuesLast = false, tools = [] }: TemplateOptions = {},
  ): Chunked<number[] | null> {
    const placeholders = guard.placeholders();
    const guarded: { role: string; content: string }[] = [];
    let unpaid = 0;
    const messages = knows.native ? conversation : withoutTools(conversation, tools);
    for (const message of messages) {
      const { role, content } = message;
      const written = yield* guardAll(asTemplateMessage(message), placeholders);
      guarded.push({ ...(written as { content: string }), role });
      unpaid += MESSAGE_WORK + content.length;
      if (unpaid < STEP_CHARACTERS) continue;
      yield;
      unpaid = 0;
    }
    // Represents no text, and nothing that a user can write.
    const end = placeholders.of('');
    const last = guarded.at(-1);
    if (continuesLast && last !== undefined)
      guarded[guarded.length - 1] = { ...last, content: last.content + end };
    const whole = yield* render(
      {
        ...((yield* guardAll(variables, placeholders)) as Record<string, unknown>),
        messages: guarded,
        // As in transformers: templates test for none, not only for defined.
        tools: knows.native && tools.length > 0 ? yield* guardAll(tools, placeholders) : null,
        documents: null,
        add_generation_prompt: opensTurn && !continuesLast,
      },
      placeholders,
    );
    const cut = continuesLast ? whole.lastIndexOf(end) : whole.length;
    if (cut === -1)
      throw new ChatTemplateError('it does not render the last message, which is to be continued');
    const rendered = whole.slice(0, cut);
    yield;
    const pieces = yield* splitter.split(rendered);
    const restored: (string | number)[] = [];
    unpaid = 0;
    for (const piece of pieces) {
      restored.push(tokenizer.controlTokens.get(piece) ?? (yield* placeholders.restoreChunked(piece)));
      unpaid += piece.length;
      if (unpaid < STEP_CHARACTERS) continue;
      yield;
      unpaid = 0;
    }
    return yield* tokenizer.encodePieces(restored, limit);
  }

  return {
    encode: (messages) => finish(encodeChunked(messages, Infinity)) ?? [],
    encodeChunked,
    toolFormat: knows.format,
  };
}

/** Cost of guarding a message in addition to its characters, in characters. */
const MESSAGE_WORK = 64;

function parse(source: string): Template {
  if (source.includes(ESCAPE))
    throw new ChatTemplateError('the chat template contains U+E000, which is reserved');
  try {
    return new Template(source);
  } catch (error) {
    throw new ChatTemplateError(`the chat template does not parse: ${(error as Error).message}`);
  }
}

/** `hermes`: `<tool_call>{"name", "arguments"}</tool_call>`. `json`: `{"name", "parameters"}` is the whole answer. */
type ToolFormat = 'hermes' | 'json';

export interface TemplateCall {
  id?: string;
  name: string;
  /** The parsed object if it is one, otherwise the text. */
  arguments: unknown;
}

export interface TemplateMessage {
  role: string;
  content: string;
  /** Of an assistant: its calls. */
  calls?: readonly TemplateCall[];
  /** Of a tool: the call that it answers. */
  callId?: string;
  /** The speaker's name; of a tool: the function's. */
  name?: string | undefined;
  /** A user's turn that consists of results. */
  results?: boolean;
}

/** A function as templates list it. */
export interface TemplateTool {
  type: 'function';
  function: { name: string; description: string; parameters: unknown };
}

/** How a base writes calls, and whether its template renders tools. */
interface TemplateTools {
  format: ToolFormat;
  native: boolean;
}

/** In the template's own JSON, or in a string of Jinja. */
const JSON_ARGUMENTS = /\\?"arguments\\?": /;

/**
 * Tools in a conversation: by the base's own template where it knows them, else as Hermes writes them (NousResearch's
 * function calling format, which Qwen 2.5's template has too): a block in the system message, calls in `<tool_call>`,
 * results in a user's turn in `<tool_response>`.
 * @param source of the template. What writes calls in a way that is not read here is given Hermes'.
 */
export function toolsOfTemplate(source: string): TemplateTools {
  if (!/\btools\b/.test(source)) return { format: 'hermes', native: false };
  // Between the same tags GLM and Qwen3-Coder write XML, which is not supported here.
  if (source.includes('<tool_call>') && JSON_ARGUMENTS.test(source))
    return { format: 'hermes', native: /\btool_calls\b/.test(source) };
  const json = source.includes('"parameters": ') && /\bipython\b/.test(source);
  return json ? { format: 'json', native: true } : { format: 'hermes', native: false };
}

const INSTRUCTIONS = `You may call functions to answer. They are described within <tools></tools>:
<tools>
{tools}
</tools>
For each call, answer with a JSON object of the function's name and its arguments within <tool_call></tool_call>:
<tool_call>
{"name": <name>, "arguments": <arguments>}
</tool_call>`;

/** A conversation for a template without tool support. */
function withoutTools(
  messages: readonly TemplateMessage[],
  tools: readonly TemplateTool[],
): TemplateMessage[] {
  const plain: TemplateMessage[] = [];
  for (const message of messages) {
    if (message.role === 'tool') {
      const result = `<tool_response>\n${message.content}\n</tool_response>`;
      const last = plain.at(-1);
      // Results of one message's calls are one turn.
      if (last?.role === 'user' && last.results === true) last.content += `\n${result}`;
      else plain.push({ role: 'user', content: result, results: true });
    } else if (message.calls === undefined) plain.push({ ...message });
    else {
      const calls = message.calls.map(
        ({ name, arguments: given }) =>
          // As constrained answers are written (grammar/constraint-grammar.ts), so that calls look the same.
          `<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": ${JSON.stringify(given)}}\n</tool_call>`,
      );
      const text = message.content === '' ? [] : [message.content];
      plain.push({ role: message.role, content: [...text, ...calls].join('\n') });
    }
  }
  if (tools.length === 0) return plain;
  const block = INSTRUCTIONS.replace('{tools}', () => tools.map((tool) => JSON.stringify(tool)).join('\n'));
  const [first] = plain;
  if (first?.role === 'system') first.content = `${first.content}\n\n${block}`;
  else plain.unshift({ role: 'system', content: block });
  return plain;
}

/** A message for templates with tool support. */
const asTemplateMessage = ({ role, content, calls, callId, name }: TemplateMessage): object => ({
  role,
  content,
  ...(calls === undefined
    ? {}
    : {
        tool_calls: calls.map((call) => ({
          ...(call.id === undefined ? {} : { id: call.id }),
          type: 'function',
          function: { name: call.name, arguments: call.arguments },
        })),
      }),
  ...(callId === undefined ? {} : { tool_call_id: callId }),
  ...(name === undefined ? {} : { name }),
});

/** Everything that a template may trim: Python's white space and JavaScript's. Linear in the text. */
const BLANKS_FIRST = /^[\s\x1c-\x1f\x85]+/;
const BLANKS_LAST = /(?<![\s\x1c-\x1f\x85])[\s\x1c-\x1f\x85]+$/;

/** Starts a placeholder; the next character selects the text. */
const ESCAPE = '\u{E000}';
/** Plane 15: 65,536 private characters, more than there are distinct texts. */
const FIRST_INDEX = 0xf0000;

/**
 * Puts placeholders for what may not be found in a rendered text: whole control strings in contents, and also a
 * beginning of one at a content's end and an end of one at its beginning, which the template's text or the next
 * content might complete. Control strings have the same placeholder in every conversation.
 */
class ContentGuard {
  readonly #splitter: Splitter;
  readonly #control: ReadonlySet<string>;
  readonly #fixed: Placeholders;
  readonly #heads: Fragments;
  readonly #tails: Fragments;

  constructor(control: readonly string[]) {
    this.#control = new Set([...control, ESCAPE]);
    this.#splitter = new Splitter([...this.#control]);
    this.#fixed = new Placeholders([...this.#control]);
    this.#heads = new Fragments(control, (text, length) => text.slice(0, length));
    this.#tails = new Fragments(control, (text, length) => text.slice(-length));
  }

  /** The placeholder of a control string. */
  placeholderOf(control: string): string {
    return this.#fixed.of(control);
  }

  /** For one conversation. */
  placeholders(): Placeholders {
    return new Placeholders(this.#fixed.texts);
  }

  *guard(content: string, placeholders: Placeholders): Chunked<string> {
    const pieces = yield* this.#splitter.split(content);
    let guarded = '';
    for (const [at, piece] of pieces.entries()) {
      if (at > 0 && at % STEP_CHARACTERS === 0) yield;
      if (this.#control.has(piece)) guarded += placeholders.of(piece);
      else {
        const [begun, rest] = at === 0 ? this.#guardStart(piece, placeholders) : ['', piece];
        guarded += begun + (at === pieces.length - 1 ? this.#guardEnd(rest, placeholders) : rest);
      }
    }
    return guarded;
  }

  /** @returns the guarded part, and the rest. Surrounding white space does not count: templates trim. */
  #guardStart(piece: string, placeholders: Placeholders): [guarded: string, rest: string] {
    const body = piece.replace(BLANKS_FIRST, '');
    const overlap = this.#tails.longestAt((length) => body.slice(0, length));
    if (overlap === 0) return ['', piece];
    const blanks = piece.slice(0, piece.length - body.length);
    return [blanks + placeholders.of(body.slice(0, overlap)), body.slice(overlap)];
  }

  #guardEnd(piece: string, placeholders: Placeholders): string {
    const body = piece.replace(BLANKS_LAST, '');
    const overlap = this.#heads.longestAt((length) => (length > body.length ? '' : body.slice(-length)));
    if (overlap === 0) return piece;
    const at = body.length - overlap;
    return body.slice(0, at) + placeholders.of(body.slice(at)) + piece.slice(body.length);
  }
}

/** Proper substrings of certain strings. */
class Fragments {
  readonly #all = new Set<string>();
  readonly #longest: number;

  constructor(texts: readonly string[], cut: (text: string, length: number) => string) {
    for (const text of texts)
      for (let length = 1; length < text.length; length += 1) this.#all.add(cut(text, length));
    this.#longest = Math.max(0, ...texts.map((text) => text.length - 1));
  }

  /** @param take the text's end of this length; @returns the length of the longest that is one of the parts, or 0. */
  longestAt(take: (length: number) => string): number {
    for (let length = this.#longest; length > 0; length -= 1) {
      const text = take(length);
      if (text.length === length && this.#all.has(text)) return length;
    }
    return 0;
  }
}

class Placeholders {
  readonly texts: string[];
  readonly #indexes: Map<string, number>;

  constructor(texts: readonly string[]) {
    this.texts = [...texts];
    this.#indexes = new Map(texts.map((text, index) => [text, index]));
  }

  of(text: string): string {
    let index = this.#indexes.get(text);
    if (index === undefined) {
      index = this.texts.push(text) - 1;
      this.#indexes.set(text, index);
    }
    return ESCAPE + String.fromCodePoint(FIRST_INDEX + index);
  }

  restore(text: string): string {
    return text.replace(/\u{E000}([\u{F0000}-\u{FFFFF}])/gu, (whole, character: string) => {
      return this.texts[(character.codePointAt(0) ?? 0) - FIRST_INDEX] ?? whole;
    });
  }

  *restoreChunked(text: string): Chunked<string> {
    if (text.length <= STEP_CHARACTERS) return this.restore(text);
    const restored: string[] = [];
    for (let start = 0; start < text.length;) {
      if (start > 0) yield;
      let end = Math.min(start + STEP_CHARACTERS, text.length);
      if (end < text.length && isHighSurrogate(text.charCodeAt(end - 1))) end -= 1;
      if (end < text.length && text[end - 1] === ESCAPE) end -= 1;
      restored.push(this.restore(text.slice(start, end)));
      start = end;
    }
    return restored.join('');
  }
}

/** Methods and filters whose first argument is searched for, not written. */
const LOOKUPS = new Set(['split', 'rsplit', 'startswith', 'endswith', 'find', 'count', 'replace']);

/**
 * Lets a template find hidden strings in contents: DeepSeek's removes earlier thoughts with
 * `content.split('</think>')`, but contents have a placeholder there. What a template writes stays as it is.
 * @param node of a parsed template; its literals are changed in place.
 * @param hide control strings to placeholders.
 */
function hideLookups(node: unknown, hide: (text: string) => string): void {
  if (node instanceof Map) hideLookups([...node.entries()], hide);
  if (typeof node !== 'object' || node === null) return;
  const literal = lookedFor(node as Node);
  if (literal !== null) literal.value = hide(literal.value);
  for (const child of Object.values(node)) hideLookups(child, hide);
}

interface Node {
  type?: string;
  value?: unknown;
  operator?: { value: string };
  left?: Node;
  callee?: Node;
  property?: Node;
  args?: Node[];
}

/** The text literal that this expression searches for. */
function lookedFor(node: Node): { value: string } | null {
  const searched =
    node.type === 'BinaryExpression' && (node.operator?.value === 'in' || node.operator?.value === 'not in')
      ? node.left
      : node.type === 'CallExpression' && LOOKUPS.has(String(nameOf(node.callee)))
        ? node.args?.[0]
        : undefined;
  return searched?.type === 'StringLiteral' ? (searched as { value: string }) : null;
}

const nameOf = (callee: Node | undefined): unknown =>
  callee?.type === 'MemberExpression' ? callee.property?.value : callee?.value;
