/** What is refused of a client's own grammar before it is compiled: what no parser can follow quickly. */
import { GrammarError } from './ebnf.ts';

/** Brackets within brackets, and repetitions of one thing; what is deeper is left to the compiler. */
const MAX_DEPTH = 200;

type Expression =
  | { readonly kind: 'text'; readonly length: number }
  | { readonly kind: 'rule'; readonly name: string }
  | { readonly kind: 'all'; readonly of: readonly Expression[] }
  | { readonly kind: 'any'; readonly of: readonly Expression[] }
  | { readonly kind: 'repeat'; readonly of: Expression; readonly from: number; readonly to: number };

type Rules = ReadonlyMap<string, Expression>;

/**
 * @param text in XGrammar's EBNF and our alphabet.
 * @returns the same text. @throws GrammarError where a rule derives itself alone or beside nothing, as `s ::= s` and
 * `s ::= s s | ""` do: a text has no end of derivations then. Other ambiguous rules, such as `e ::= e "+" e | [0-9]`, are
 * taken: the clock of their lane decides.
 */
export function checkedGrammar(text: string): string {
  const rules = rulesIn(text);
  if (rules === null) return text;
  const name = selfDerived(rules);
  if (name !== null)
    throw new GrammarError(
      `has a rule '${name}' that derives itself with nothing beside it; take that alternative out, or write a repetition ('*')`,
    );
  return text;
}

/** @returns a rule that comes of itself alone; null = there is none. */
function selfDerived(rules: Rules): string | null {
  const empty = emptyRules(rules);
  const next = new Map([...rules].map(([name, body]) => [name, aloneIn(body, empty)]));
  // A rule that nothing leads to, or that leads nowhere, is in no circle.
  for (let before = -1; before !== next.size;) {
    before = next.size;
    for (const [name, names] of next) {
      for (const other of names) if (!next.has(other)) names.delete(other);
      if (names.size === 0) next.delete(name);
    }
  }
  // Each of those that are left leads to another one of them: on the way some rule comes twice.
  const [first] = next.keys();
  const seen = new Set<string>();
  for (let name = first; name !== undefined; [name] = next.get(name)!) {
    if (seen.has(name)) return name;
    seen.add(name);
  }
  return null;
}

/** Rules that the empty text comes of. */
function emptyRules(rules: Rules): ReadonlySet<string> {
  const empty = new Set<string>();
  for (let before = -1; before !== empty.size;) {
    before = empty.size;
    for (const [name, body] of rules) if (!empty.has(name) && mayBeEmpty(body, empty)) empty.add(name);
  }
  return empty;
}

function mayBeEmpty(expression: Expression, empty: ReadonlySet<string>): boolean {
  switch (expression.kind) {
    case 'text':
      return expression.length === 0;
    case 'rule':
      return empty.has(expression.name);
    case 'all':
      return expression.of.every((part) => mayBeEmpty(part, empty));
    case 'any':
      return expression.of.some((part) => mayBeEmpty(part, empty));
    case 'repeat':
      return expression.from === 0 || mayBeEmpty(expression.of, empty);
  }
}

/** Rules that may be all of what an expression comes to. */
function aloneIn(expression: Expression, empty: ReadonlySet<string>): Set<string> {
  switch (expression.kind) {
    case 'text':
      return new Set();
    case 'rule':
      return new Set([expression.name]);
    case 'any':
      return new Set(expression.of.flatMap((part) => [...aloneIn(part, empty)]));
    case 'all': {
      const needed = expression.of.filter((part) => !mayBeEmpty(part, empty));
      if (needed.length > 1) return new Set();
      return new Set(
        (needed[0] === undefined ? expression.of : needed).flatMap((part) => [...aloneIn(part, empty)]),
      );
    }
    case 'repeat': {
      const { of, from, to } = expression;
      if (to === 0 || (from > 1 && !mayBeEmpty(of, empty))) return new Set();
      return aloneIn(of, empty);
    }
  }
}

/** @returns null for what is not written so: the compiler says what is wrong with it. */
function rulesIn(text: string): Rules | null {
  const tokens = text.match(TOKEN) ?? [];
  const rules = new Map<string, Expression>();
  let at = 0;
  const next = (): string | undefined => tokens[at];
  const isHead = (): boolean => tokens[at + 1] === '::=' && NAME.test(tokens[at] ?? '');

  const any = (depth: number): Expression | null => {
    const of: Expression[] = [];
    do {
      if (of.length > 0) at += 1;
      const one = all(depth);
      if (one === null) return null;
      of.push(one);
    } while (next() === '|');
    return of.length === 1 ? of[0]! : { kind: 'any', of };
  };
  const all = (depth: number): Expression | null => {
    const of: Expression[] = [];
    while (next() !== undefined && next() !== '|' && next() !== ')' && !isHead()) {
      const one = repeated(depth);
      if (one === null) return null;
      of.push(one);
    }
    return of.length === 1 ? of[0]! : { kind: 'all', of };
  };
  const repeated = (depth: number): Expression | null => {
    let one = single(depth);
    let times = 0;
    for (let bounds = boundsOf(next()); one !== null && bounds !== null; bounds = boundsOf(next())) {
      at += 1;
      times += 1;
      if (times > MAX_DEPTH) return null;
      one = { kind: 'repeat', of: one, ...bounds };
    }
    return one;
  };
  const single = (depth: number): Expression | null => {
    const token = tokens[at]!;
    at += 1;
    if (token.startsWith('"')) return { kind: 'text', length: token.replace(ESCAPE, '.').length - 2 };
    if (token.startsWith('[')) return { kind: 'text', length: 1 };
    if (NAME.test(token)) return { kind: 'rule', name: token };
    if (token !== '(' || depth === MAX_DEPTH) return null;
    const inner = any(depth + 1);
    if (next() !== ')') return null;
    at += 1;
    return inner;
  };

  while (at < tokens.length) {
    const name = tokens[at]!;
    if (!isHead()) return null;
    at += 2;
    const body = any(0);
    if (body === null) return null;
    rules.set(name, body);
  }
  return rules;
}

const NAME = /^[A-Za-z_][\w.-]*$/;
const ESCAPE = /\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|.)/g;
/** Whatever else there is is a token of its own, and no grammar. */
const TOKEN = /"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|\{[^}]*\}|::=|[A-Za-z_][\w.-]*|[^\s]/g;

function boundsOf(token: string | undefined): { from: number; to: number } | null {
  if (token === '*') return { from: 0, to: Infinity };
  if (token === '+') return { from: 1, to: Infinity };
  if (token === '?') return { from: 0, to: 1 };
  const [, from, comma, to] = /^\{\s*(\d+)\s*(,?)\s*(\d*)\s*\}$/.exec(token ?? '') ?? [];
  if (from === undefined) return null;
  return { from: Number(from), to: comma === '' ? Number(from) : to === '' ? Infinity : Number(to) };
}
