import { isHighSurrogate, Splitter, STEP_CHARACTERS, type Steps } from './text-steps.ts';

/** All that a template may trim: Python's white space and JavaScript's. Linear in the text. */
const BLANKS_FIRST = /^[\s\x1c-\x1f\x85]+/;
const BLANKS_LAST = /(?<![\s\x1c-\x1f\x85])[\s\x1c-\x1f\x85]+$/;

/** Begins a placeholder; the character after it says which text it stands for. */
export const ESCAPE = '\u{E000}';
/** Plane 15: 65,536 private characters, more than there are distinct texts to stand for. */
const FIRST_INDEX = 0xf0000;

/**
 * Puts placeholders for what may not be found in a rendered text: whole control strings in contents, and also a
 * beginning of one at a content's end and an end of one at its beginning, which the template's text or the next
 * content might complete. Control strings have the same placeholder in every conversation.
 */
export class ContentGuard {
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

  *guard(content: string, placeholders: Placeholders): Steps<string> {
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

  /** @returns what is guarded, and the rest. Blanks do not count: templates trim. */
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

/** Parts of certain strings, each shorter than the whole. */
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

export class Placeholders {
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

  *restoreInSteps(text: string): Steps<string> {
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

/** Methods and filters whose first argument is looked for and is not written. */
const LOOKUPS = new Set(['split', 'rsplit', 'startswith', 'endswith', 'find', 'count', 'replace']);

/**
 * Lets a template find what its contents hide: DeepSeek's cuts earlier thoughts off with `content.split('</think>')`,
 * and contents have a placeholder there. What a template writes stays as it is.
 * @param node of a parsed template; its literals are changed in place.
 * @param hide control strings to placeholders.
 */
export function hideLookups(node: unknown, hide: (text: string) => string): void {
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

/** The text literal that this expression looks for in something else. */
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
