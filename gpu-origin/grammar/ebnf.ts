/** The language that grammars are compiled from: XGrammar's EBNF (W3C's, with C's escapes). */

import type { Range } from './alphabet.ts';

/** What is asked for cannot be written as a grammar; the message is for the client. */
export class GrammarError extends Error {
  override readonly name = 'GrammarError';
  /** Of what is to blame, below the field that has the constraint. */
  readonly path: readonly PropertyKey[];
  /** It means something, and this server cannot hold answers to it. */
  readonly unsupported: boolean;

  constructor(message: string, path: readonly PropertyKey[] = [], unsupported = false) {
    super(message);
    this.path = path;
    this.unsupported = unsupported;
  }
}

/** A keyword that is known, or may be to somebody. */
export const cannotHold = (path: readonly PropertyKey[]): GrammarError =>
  new GrammarError('is a keyword that this server cannot hold answers to', path, true);

export const LAST_CODE_POINT = 0x10ffff;

/** Larger grammars take seconds to compile and megabytes to hold. */
export const MAX_GRAMMAR_CHARACTERS = 400_000;

/** Rules in the making. Equal bodies share a rule. */
export class Rules {
  readonly #bodies = new Map<string, string>();
  readonly #names = new Map<string, string>();
  #characters = 0;
  #next = 0;

  /** @returns the rule's name. @throws GrammarError when there are too many. */
  add(body: string): string {
    const known = this.#names.get(body);
    if (known !== undefined) return known;
    const name = this.reserve();
    this.define(name, body);
    this.#names.set(body, name);
    return name;
  }

  /** A name to be defined later, for what contains itself. */
  reserve(): string {
    const name = `r${this.#next}`;
    this.#next += 1;
    return name;
  }

  define(name: string, body: string): void {
    this.#bodies.set(name, body);
    this.#characters += body.length + 16;
    if (this.#characters > MAX_GRAMMAR_CHARACTERS)
      throw new GrammarError('is too large to be held to: it makes more rules than this server compiles');
  }

  /** @param root what an answer is. */
  text(root: string): string {
    const rules = [...this.#bodies].map(([name, body]) => `${name} ::= ${body}\n`);
    return `root ::= ${root}\n${rules.join('')}`;
  }
}

/** Everything else. */
export function complement(ranges: readonly Range[]): Range[] {
  const rest: Range[] = [];
  let next = 0;
  for (const [from, to] of merged(ranges)) {
    if (from > next) rest.push([next, from - 1]);
    next = to + 1;
  }
  if (next <= LAST_CODE_POINT) rest.push([next, LAST_CODE_POINT]);
  return rest;
}

export const without = (ranges: readonly Range[], others: readonly Range[]): Range[] =>
  complement([...complement(ranges), ...others]);

/** Sorted, and none touches another. */
export function merged(ranges: readonly Range[]): Range[] {
  const sorted = [...ranges].sort((a, b) => a[0] - b[0]);
  const kept: [number, number][] = [];
  for (const [from, to] of sorted) {
    const last = kept.at(-1);
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to);
    else kept.push([from, to]);
  }
  return kept;
}
