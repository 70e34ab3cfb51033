/**
 * Renders the base's chat template and encodes the result so that what users write never becomes a control token:
 * control strings in their contents are replaced by private-use characters before the template runs, the rendered
 * text is cut at the control strings that are left (the template's own, emitted by id), and each stretch between is
 * encoded by a tokenizer that has no control tokens, with the placeholders put back as plain text.
 * Contents are not encoded apart from the template's text: "\n" + "\n\nHi" are other tokens than "\n\n\nHi".
 */
import { Template, Environment, Interpreter } from '@huggingface/jinja';
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

/** Messages per step of a template's loop: about 50 microseconds each. */
const MESSAGES_A_STEP = 32;

/** The used part of the library's syntax tree, which it does not export. */
interface Node {
  type?: string;
  value?: unknown;
  test?: Node;
  body?: Node[];
  alternate?: Node[];
  defaultBlock?: Node[];
  iterable?: Node;
  loopvar?: { type: string; value: string };
  computed?: boolean;
  operand?: Node;
  filter?: Node;
  callee?: Node;
  object?: Node;
  property?: Node;
  args?: Node[];
  operator?: { value?: unknown };
  left?: Node;
  right?: Node;
}
type Value = ReturnType<Interpreter['evaluate']>;

/**
 * `template.render` in steps: the loop over the messages stands at the top of a template, or under conditions, and each
 * of its turns is evaluated by the library by itself. Other loops, and those with `break` or `continue`, go at once.
 * @throws what the template raises.
 */
export function* renderChunked(template: Template, variables: Record<string, unknown>): Chunked<string> {
  const environment = globals();
  for (const [name, value] of Object.entries(variables)) environment.set(name, value);
  return yield* block((template.parsed as unknown as Node).body ?? [], {
    interpreter: new Interpreter(environment),
    environment,
  });
}

/** As the library sets them, and the replacements that parsed templates call. */
function globals(): Environment {
  const environment = new Environment();
  for (const name of ['true', 'True']) environment.set(name, true);
  for (const name of ['false', 'False']) environment.set(name, false);
  for (const name of ['none', 'None']) environment.set(name, null);
  environment.set('raise_exception', (message: string) => {
    throw new Error(message);
  });
  environment.set('range', (from: number, to?: number, step?: number) => range(from, to, step));
  environment.set('strftime_now', (format: string) => today.render({ format }));
  for (const [name, call] of PYTHON_GLOBALS) environment.set(name, call);
  return environment;
}

const today = new Template('{{ strftime_now(format) }}');

function range(from: number, to?: number, step = 1): number[] {
  const [start, end] = to === undefined ? [0, from] : [from, to];
  if (step === 0) throw new Error('range() step must not be zero');
  return Array.from({ length: Math.max(0, Math.ceil((end - start) / step)) }, (_, i) => start + i * step);
}

interface Scope {
  interpreter: Interpreter;
  environment: Environment;
}

function* block(nodes: readonly Node[], scope: Scope): Chunked<string> {
  let text = '';
  for (const node of nodes) {
    if (node.type === 'If') {
      const holds = evaluate(node.test!, scope).__bool__().value;
      text += yield* block((holds ? node.body : node.alternate) ?? [], scope);
      continue;
    }
    const items = node.type === 'For' ? itemsOf(node, scope) : null;
    if (items !== null) text += yield* loop(node, items, scope);
    else {
      const value = evaluate(node, scope);
      if (value.type !== 'NullValue' && value.type !== 'UndefinedValue') text += value.toString();
    }
  }
  return text;
}

/** @returns null for a loop that the library must run. */
function itemsOf(node: Node, scope: Scope): readonly Value[] | null {
  const plain = node.loopvar?.type === 'Identifier' && node.iterable?.type !== 'SelectExpression';
  if (!plain || leaves(node.body)) return null;
  const iterable = evaluate(node.iterable!, scope);
  return iterable.type === 'ArrayValue' ? (iterable.value as Value[]) : null;
}

const leaves = (node: unknown): boolean =>
  typeof node === 'object' &&
  node !== null &&
  (['Break', 'Continue'].includes(String((node as Node).type)) || Object.values(node).some(leaves));

function* loop(node: Node, items: readonly Value[], { interpreter, environment }: Scope): Chunked<string> {
  const inside = { interpreter, environment: new Environment(environment) };
  let text = '';
  for (const [at, item] of items.entries()) {
    if (at > 0 && at % MESSAGES_A_STEP === 0) yield;
    const place = new Environment().set('loop', {
      ...{ index: at + 1, index0: at, first: at === 0, last: at === items.length - 1, length: items.length },
      ...{ revindex: items.length - at, revindex0: items.length - at - 1 },
      ...{ previtem: undefined, nextitem: undefined },
    });
    const fields = place.value as Map<string, Value>;
    if (at > 0) fields.set('previtem', items[at - 1]!);
    if (at + 1 < items.length) fields.set('nextitem', items[at + 1]!);
    inside.environment.setVariable('loop', place);
    inside.environment.setVariable(node.loopvar!.value, item);
    text += yield* block(node.body ?? [], inside);
  }
  return items.length > 0 ? text : yield* block(node.defaultBlock ?? [], inside);
}

const evaluate = (node: Node, { interpreter, environment }: Scope): Value =>
  interpreter.evaluate(node as never, environment);

/** `str.isspace` of Python 3 with Unicode 15: bidirectional type WS, B or S, or category Zs. */
const BLANK = String.raw`[\t-\r\x1c- \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]`;
const BLANKS_ONLY = new RegExp(`^${BLANK}*$`);
const WORDS = new RegExp(`[^${BLANK.slice(1)}+`, 'g');

/** Names that no template can contain, as prefix of the methods' own. */
const HIDDEN = 'python ';

/** Set in a template's environment, for the calls of {@link usePython}. */
const PYTHON_GLOBALS: ReadonlyMap<string, unknown> = new Map<string, unknown>([
  [`${HIDDEN}strip`, (text: unknown, set?: string) => stripEnd(stripStart(text, set), set)],
  [`${HIDDEN}lstrip`, stripStart],
  [`${HIDDEN}rstrip`, stripEnd],
  [`${HIDDEN}split`, (text: unknown) => stringOf(text).match(WORDS) ?? []],
  [`${HIDDEN}==`, isEqual],
  [`${HIDDEN}!=`, (a: unknown, b: unknown) => !isEqual(a, b)],
]);

const isNumeric = (value: unknown): boolean => typeof value === 'number' || typeof value === 'boolean';

/** Of values of the library: members of lists (arrays) and dictionaries (maps) are in boxes. `True` is 1; the library does not tell `none` from what is not there. */
function isEqual(a: unknown, b: unknown): boolean {
  if (isNumeric(a) && isNumeric(b)) return Number(a) === Number(b);
  const inBoxes = (x: unknown, y: unknown): boolean =>
    isEqual((x as Node).value, (y as Node | undefined)?.value);
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, at) => inBoxes(item, b[at]));
  if (a instanceof Map && b instanceof Map)
    return a.size === b.size && [...a].every(([key, item]) => b.has(key) && inBoxes(item, b.get(key)));
  return a === b;
}

function stripStart(text: unknown, set?: string): string {
  return stringOf(text).replace(new RegExp(`^${classOf(set)}+`), '');
}

/** Linear in the text: only starts of runs are searched for their end. */
function stripEnd(text: unknown, set?: string): string {
  const blank = classOf(set);
  return stringOf(text).replace(new RegExp(`(?<!${blank})${blank}+$`), '');
}

/** @param set white space, which needs no escape in a class. */
const classOf = (set?: string): string => (set === undefined ? BLANK : set === '' ? '(?!)' : `[${set}]`);

function stringOf(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new Error(`cannot strip or split ${value == null ? 'a missing value' : `a ${typeof value}`}`);
}

/**
 * What templates do with white space, as Python does it: `str.strip`, `lstrip`, `rstrip` and `split`, and the filter
 * `trim`. The template library has JavaScript's `trim`, which also takes U+FEFF and leaves U+001C to U+001F and U+0085,
 * and it ignores which characters it is to strip (Qwen 3: `.strip('\n')`). And what is equal: the library has
 * JavaScript's `==`, by which a system message of blanks alone is `false`, and Llama 2's template leaves it out. Makes
 * a template call Python's own. Only white space can be named as the characters to strip: contents are guarded behind
 * white space and nothing else. What else is written stays the library's.
 * @param node of a parsed template; changed in place.
 */
function usePython(node: unknown): void {
  if (node instanceof Map) usePython([...node.entries()]);
  if (typeof node !== 'object' || node === null) return;
  const call = pythonCall(node as Node);
  if (call !== null) {
    for (const key of Object.keys(node)) Reflect.deleteProperty(node, key);
    Object.assign(node, call);
  }
  for (const child of Object.values(node)) usePython(child);
}

function pythonCall(node: Node): Node | null {
  if (node.type === 'FilterExpression') {
    const args = node.filter?.type === 'CallExpression' ? (node.filter.args ?? []) : [];
    const name = node.filter?.type === 'CallExpression' ? node.filter.callee?.value : node.filter?.value;
    return name === 'trim' ? callOf('strip', node.operand, args) : filterOfAbsent(node, args);
  }
  const operator = node.type === 'BinaryExpression' ? node.operator?.value : undefined;
  if ((operator === '==' || operator === '!=') && node.left !== undefined && node.right !== undefined)
    return hiddenCall(operator, [node.left, node.right]);
  const { callee, args = [] } = node;
  if (node.type !== 'CallExpression' || callee?.type !== 'MemberExpression' || callee.computed === true)
    return null;
  return callOf(String(callee.property?.value), callee.object, args);
}

/** / In the library no test is true of a missing attribute, not even `undefined`, so the test is inverted. */
function filterOfAbsent(node: Node, args: readonly Node[]): Node | null {
  const callee = node.filter?.callee;
  const other = callee?.value === 'selectattr' ? 'rejectattr' : 'selectattr';
  if (callee?.value !== 'selectattr' && callee?.value !== 'rejectattr') return null;
  if (args[1]?.type !== 'StringLiteral' || args[1].value !== 'undefined') return null;
  const filter = {
    ...node.filter,
    callee: { ...callee, value: other },
    args: [args[0]!, { ...args[1], value: 'defined' }],
  };
  return { ...node, filter };
}

function callOf(name: string, operand: Node | undefined, args: Node[]): Node | null {
  if (operand === undefined || !PYTHON_GLOBALS.has(HIDDEN + name)) return null;
  const [set, ...more] = args;
  const known =
    set === undefined ||
    (name !== 'split' && set.type === 'StringLiteral' && BLANKS_ONLY.test(String(set.value)));
  return known && more.length === 0 ? hiddenCall(name, [operand, ...args]) : null;
}

const hiddenCall = (name: string, args: Node[]): Node => ({
  type: 'CallExpression',
  callee: { type: 'Identifier', value: HIDDEN + name },
  args,
});
