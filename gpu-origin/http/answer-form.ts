/** The form of answers: what constrains them, and the calls in them. */
import { type ApiError, ok, type Result } from '../../protocol/api-error.ts';
import { constraintsOf, toolUseOf } from '../../protocol/request-fields.ts';
import type { Grammar } from '../engine/ports.ts';
import type { GenerationRequest } from '../generation/sampling-params.ts';
import type { AskedTools, CallFormat, GrammarCaller } from '../grammar/ports.ts';
import { CALL_SHAPES } from '../grammar/constraint-grammar.ts';
import type { Services } from './origin-context.ts';

/** The functions that the answers to a request may call, and how calls are written; null when there are none. */
function toolsOf(
  request: GenerationRequest,
  { chatTemplate }: Pick<Services, 'chatTemplate'>,
): AskedTools | null {
  const use = 'prompt' in request ? null : toolUseOf(request);
  if (use === null) return null;
  const within = 'messages' in request ? ['function'] : [];
  return { use, format: chatTemplate?.toolFormat ?? 'hermes', within };
}

/**
 * What constrains the answers to a request, compiled before anything is queued; nothing of it in this thread.
 * @returns null when there is nothing.
 */
export async function prepareGrammar(
  request: GenerationRequest,
  services: Pick<Services, 'grammars' | 'chatTemplate'>,
  caller: GrammarCaller,
): Promise<Result<Grammar | null, ApiError>> {
  const [constraint = null] = constraintsOf(request);
  const tools = toolsOf(request, services);
  if (constraint === null && tools === null) return ok(null);
  return services.grammars.prepare({ asked: { constraint, tools }, caller });
}

export type AnswerPiece =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'call'; readonly name: string }
  /** Of the call that began last; JSON. */
  | { readonly kind: 'arguments'; readonly text: string };

/** What calls look like in the answers to one request. */
export interface CallSyntax {
  readonly format: CallFormat;
  readonly names: readonly string[];
  /** Whether there is nothing but calls in them. */
  readonly only: boolean;
}

/** How the calls in the answers to a request are written; null when there are none. */
export function callSyntaxOf(
  request: GenerationRequest,
  services: Pick<Services, 'chatTemplate'>,
): CallSyntax | null {
  const tools = toolsOf(request, services);
  if (tools === null) return null;
  const { functions, choice } = tools.use;
  return { format: tools.format, names: functions.map(({ name }) => name), only: choice !== 'auto' };
}

type Place = 'text' | 'arguments' | 'end' | 'plain';

/** Finds the calls in an answer that comes in pieces. Its grammar has seen to it that what begins as a call is one. */
export class ToolCallReader {
  readonly #heads: { text: string; name: string }[];
  /** What nothing but a call begins with: an answer may well end in a part of it. */
  readonly #mark: string;
  readonly #end: string;
  readonly #longest: number;
  /** A call may begin anywhere, and not only where the answer does. */
  readonly #anywhere: boolean;
  readonly #only: boolean;
  /** Calls that are whole. */
  #whole = 0;
  #place: Place = 'text';
  #held = '';
  #depth = 0;
  #inString = false;
  #escaped = false;

  constructor({ format, names, only }: CallSyntax) {
    this.#only = only;
    const { begin, between, end } = CALL_SHAPES[format];
    this.#heads = names.map((name) => ({ text: begin + name + between, name }));
    this.#longest = Math.max(...this.#heads.map(({ text }) => text.length));
    this.#end = end;
    this.#anywhere = format === 'hermes';
    this.#mark = this.#anywhere ? begin.slice(0, begin.indexOf('>') + 1) : begin.slice(0, 1);
  }

  /** Whether what comes next is a call's, if only its end. */
  get inCall(): boolean {
    return this.#place === 'arguments' || this.#place === 'end';
  }

  /** Whether the last call's arguments have not ended: where the answer has, as at a stop text, they were cut. */
  get isCut(): boolean {
    return this.#place === 'arguments';
  }

  /** Whether there are calls, and all of them whole. */
  get called(): boolean {
    return this.#whole > 0 && !this.isCut;
  }

  /** @returns what is certain by now. */
  push(text: string): AnswerPiece[] {
    this.#held += text;
    const pieces: AnswerPiece[] = [];
    for (let more = true; more;) more = this.#step(pieces);
    return pieces;
  }

  /** The answer has ended. @returns the text that was held back; none of a call that has no name yet. */
  flush(): AnswerPiece[] {
    const begun = this.#held.trimStart();
    // Behind a call it is another one, cut before its mark was whole.
    const isCall = begun.startsWith(this.#mark) || (this.#whole > 0 && this.#isBegun(begun));
    const rest = this.#place === 'text' && !isCall && !this.#only ? this.#held : '';
    this.#held = '';
    // Blanks between calls are no text.
    return rest === '' || (this.#whole > 0 && rest.trim() === '') ? [] : [{ kind: 'text', text: rest }];
  }

  /** @returns whether there may be more in what is held. */
  #step(pieces: AnswerPiece[]): boolean {
    switch (this.#place) {
      case 'plain':
        if (this.#held !== '') pieces.push({ kind: 'text', text: this.#held });
        this.#held = '';
        return false;
      case 'text':
        return this.#text(pieces);
      case 'arguments':
        return this.#arguments(pieces);
      case 'end':
        if (this.#held.length < this.#end.length) return false;
        this.#held = this.#held.slice(this.#end.length);
        this.#place = 'text';
        return this.#held !== '';
    }
  }

  #text(pieces: AnswerPiece[]): boolean {
    const call = this.#firstCall();
    if (call !== null) {
      const before = this.#held.slice(0, call.at).trimEnd();
      if (before !== '') pieces.push({ kind: 'text', text: before });
      pieces.push({ kind: 'call', name: call.name });
      this.#held = this.#held.slice(call.at + call.text.length);
      this.#place = 'arguments';
      return true;
    }
    if (!this.#anywhere) {
      if (!this.#isBegun(this.#held)) this.#place = 'plain';
      return this.#place === 'plain';
    }
    const certain = this.#certain();
    if (certain > 0) pieces.push({ kind: 'text', text: this.#held.slice(0, certain) });
    this.#held = this.#held.slice(certain);
    return false;
  }

  /** Of the calls that begin in what is held: a whole answer may come in one piece. */
  #firstCall(): { at: number; text: string; name: string } | null {
    let first: { at: number; text: string; name: string } | null = null;
    for (const head of this.#heads) {
      const at = this.#anywhere ? this.#held.indexOf(head.text) : this.#held.startsWith(head.text) ? 0 : -1;
      if (at >= 0 && (first === null || at < first.at)) first = { ...head, at };
    }
    return first;
  }

  /** Up to where no call begins, and no blanks that one may follow. */
  #certain(): number {
    const held = this.#held;
    let length = Math.min(this.#longest - 1, held.length);
    while (length > 0 && !this.#isBegun(held.slice(held.length - length))) length -= 1;
    return held.slice(0, held.length - length).trimEnd().length;
  }

  /** Whether a call may come of it. */
  #isBegun(text: string): boolean {
    return text !== '' && this.#heads.some((head) => head.text.startsWith(text));
  }

  #arguments(pieces: AnswerPiece[]): boolean {
    let at = 0;
    let ended = false;
    for (; at < this.#held.length && !ended; at += 1) ended = this.#ends(this.#held[at]!);
    if (at > 0) pieces.push({ kind: 'arguments', text: this.#held.slice(0, at) });
    this.#held = this.#held.slice(at);
    if (!ended) return false;
    this.#whole += 1;
    this.#place = 'end';
    return true;
  }

  /** Takes in one character of the arguments. @returns whether the object is closed by it. */
  #ends(character: string): boolean {
    if (this.#inString) {
      if (this.#escaped) this.#escaped = false;
      else if (character === '\\') this.#escaped = true;
      else if (character === '"') this.#inString = false;
      return false;
    }
    if (character === '"') this.#inString = true;
    if (character === '{' || character === '[') this.#depth += 1;
    if (character === '}' || character === ']') this.#depth -= 1;
    return this.#depth === 0;
  }
}
