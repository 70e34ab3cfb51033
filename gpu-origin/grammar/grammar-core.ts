import type { ApiError, Result } from '../../protocol/api-error.ts';
import { grammarOf, inPlace, toolGrammarOf } from './constraint-grammar.ts';
import {
  type AskedForm,
  type Compiled,
  type GrammarTokens,
  type GrammarWorker,
  GrammarWorkerLost,
  type GrammarWorkerRow,
  type StartGrammarWorker,
  type Stepped,
  wordsOf,
} from './ports.ts';
import { type Compiler, type Disposable, loadXGrammar, type XGrammar, type XMatcher } from './xgrammar.ts';
import { GrammarError } from './ebnf.ts';

/** The compiler failed in a way that leaves its memory in doubt; the message is what it said. */
export class CoreFailed extends Error {
  override readonly name = 'CoreFailed';
}

/** One instance of XGrammar: a tokenizer's compiler, compiled grammars and the states of rows in them. */
export class GrammarCore {
  readonly #xgrammar: XGrammar;
  readonly #compiler: Compiler;
  readonly #words: number;
  readonly #messages: string[];
  readonly #grammars = new Map<number, Disposable>();
  readonly #rows = new Map<number, { grammar: number; matcher: XMatcher | null; failure: string | null }>();

  private constructor(xgrammar: XGrammar, compiler: Compiler, words: number, messages: string[]) {
    this.#xgrammar = xgrammar;
    this.#compiler = compiler;
    this.#words = words;
    this.#messages = messages;
  }

  /** @param bytes of each token. */
  static async create(bytes: readonly Uint8Array[], eosIds: readonly number[]): Promise<GrammarCore> {
    const messages: string[] = [];
    const xgrammar = loadXGrammar((message) => messages.push(message));
    const info = await xgrammar.TokenizerInfo.createTokenizerInfo(bytes, 'raw', false, bytes.length, eosIds);
    const compiler = await xgrammar.GrammarCompiler.createGrammarCompiler(info, false);
    return new GrammarCore(xgrammar, compiler, wordsOf(bytes.length), messages);
  }

  /** @throws CoreFailed when it does not compile: XGrammar then ends its whole instance. */
  async compile(id: number, ebnf: string): Promise<void> {
    this.#grammars.set(id, await this.#guarded(() => this.#compiler.compileGrammar(ebnf)));
  }

  forget(id: number): void {
    this.#grammars.get(id)?.dispose();
    this.#grammars.delete(id);
  }

  open(row: number, grammar: number): void {
    this.#rows.set(row, { grammar, matcher: null, failure: null });
  }

  close(row: number): void {
    this.#rows.get(row)?.matcher?.dispose();
    this.#rows.delete(row);
  }

  /** @param masks `[rows, words]`. @returns of each row why it cannot go on. @throws CoreFailed */
  async step(rows: readonly GrammarWorkerRow[], masks: Int32Array): Promise<(string | null)[]> {
    const failures: (string | null)[] = [];
    for (const [at, row] of rows.entries())
      failures.push(await this.#guarded(() => this.#stepRow(row, masks, at * this.#words)));
    return failures;
  }

  async #stepRow(
    { row, accepted }: GrammarWorkerRow,
    masks: Int32Array,
    offset: number,
  ): Promise<string | null> {
    const state = this.#rows.get(row);
    if (state === undefined) return 'is not open';
    if (state.failure !== null) return state.failure;
    state.matcher ??= await this.#xgrammar.GrammarMatcher.createGrammarMatcher(
      this.#grammars.get(state.grammar)!,
    );
    const { matcher } = state;
    for (const id of accepted)
      if (!matcher.acceptToken(id)) return (state.failure = `does not allow token ${id}`);
    if (matcher.isTerminated()) return (state.failure = 'has ended');
    const mask = await matcher.getNextTokenBitmask();
    if (mask.every((word) => word === 0)) return (state.failure = 'allows no token here');
    masks.set(mask, offset);
    return null;
  }

  async #guarded<T>(work: () => Promise<T>): Promise<T> {
    this.#messages.length = 0;
    try {
      return await work();
    } catch {
      // What is thrown says nothing: the reason was printed.
      throw new CoreFailed(reasonIn(this.#messages));
    }
  }
}

/** `[FATAL] /path/file.cc:12: EBNF parser error at …` without what is of no use to a client. */
function reasonIn(messages: readonly string[]): string {
  const fatal = messages.find((message) => message.startsWith('[FATAL]'));
  if (fatal === undefined) return 'the compiler ran out of memory or failed';
  return fatal
    .replace(/^\[FATAL\] \S+:\d+: /, '')
    .replace(/^Check failed: \(.*\) is false: /, '')
    .slice(0, 300);
}

/** What a worker does, in whichever thread it is. */
export class WorkerCore {
  readonly #core: GrammarCore | null;
  readonly #words: number;
  readonly #cpuMs: (() => number) | null;

  private constructor(core: GrammarCore | null, words: number, cpuMs: (() => number) | null) {
    this.#core = core;
    this.#words = words;
    this.#cpuMs = cpuMs;
  }

  /**
   * @param tokens null = it compiles nothing.
   * @param cpuMs CPU time that this thread has had, ms; null where that is not known.
   */
  static async create(tokens: GrammarTokens | null, cpuMs: (() => number) | null): Promise<WorkerCore> {
    if (tokens === null) return new WorkerCore(null, 0, cpuMs);
    return new WorkerCore(
      await GrammarCore.create(tokens.bytes(), tokens.eosIds),
      wordsOf(tokens.vocabSize),
      cpuMs,
    );
  }

  async compile(grammar: number, asked: AskedForm): Promise<Compiled> {
    const spent = this.#stopwatch();
    const text = textOf(asked);
    if (!text.ok) return { kind: 'refused', error: text.error };
    try {
      await this.#core?.compile(grammar, text.value);
    } catch (error) {
      if (error instanceof CoreFailed) return { kind: 'failed', reason: error.message };
      throw error;
    }
    return { kind: 'compiled', ms: spent().ms, characters: text.value.length };
  }

  /** @throws CoreFailed */
  async step(rows: readonly GrammarWorkerRow[]): Promise<Stepped> {
    const masks = new Int32Array(rows.length * this.#words);
    const spent = this.#stopwatch();
    const stepped: { failure: string | null; ms: number }[] = [];
    for (const [at, row] of rows.entries()) {
      const began = performance.now();
      const [failure = null] = await this.#whole.step([row], masks.subarray(at * this.#words));
      stepped.push({ failure, ms: performance.now() - began });
    }
    // The system counts CPU time by ticks of some milliseconds: too coarse for one row, and right for many.
    const { share } = spent();
    return { masks, rows: stepped.map(({ failure, ms }) => ({ failure, ms: ms * share })) };
  }

  forget(grammar: number): void {
    this.#core?.forget(grammar);
  }

  open(row: number, grammar: number): void {
    this.#whole.open(row, grammar);
  }

  close(row: number): void {
    this.#whole.close(row);
  }

  get #whole(): GrammarCore {
    if (this.#core === null) throw new Error('this worker compiles nothing');
    return this.#core;
  }

  /** @returns what has gone by since: CPU time where it is known, and its share of all time, up to 1. */
  #stopwatch(): () => { ms: number; share: number } {
    const cpuMs = this.#cpuMs ?? (() => performance.now());
    const [began, beganCpu] = [performance.now(), cpuMs()];
    return () => {
      const ms = cpuMs() - beganCpu;
      return { ms, share: Math.min(1, ms / Math.max(ms, performance.now() - began, Number.EPSILON)) };
    };
  }
}

/** The text of the grammar of what is asked for. Errors: by their place in the body. */
function textOf({ constraint, tools }: AskedForm): Result<string, ApiError> {
  if (tools !== null)
    return toolGrammarOf({ ...tools, constraint, pathOf: (at) => ['tools', at, ...tools.within] });
  if (constraint === null) throw new Error('asks for nothing');
  const text = grammarOf(constraint);
  if (!text.ok || constraint.constraint.kind !== 'grammar') return text;
  return inPlace(constraint.path, () => checkedGrammar(text.value));
}

/** A worker in this thread: for tests, and hosts without threads. Nothing ends a grammar that takes long to compile. */
export const startLocalWorker: StartGrammarWorker = async ({ tokens }) => {
  const core = await WorkerCore.create(tokens, null);
  let turn: Promise<unknown> = Promise.resolve();
  const enqueue = <T>(work: () => T | Promise<T>): Promise<T> => {
    const done = turn.then(work);
    turn = done.catch(() => undefined);
    return done;
  };
  const tell = (work: () => void): void => void enqueue(work);
  const worker: GrammarWorker = {
    words: wordsOf(tokens?.vocabSize ?? 0),
    compile: (grammar, asked) => enqueue(() => core.compile(grammar, asked)),
    forget: (grammar) => tell(() => core.forget(grammar)),
    open: (row, grammar) => tell(() => core.open(row, grammar)),
    close: (row) => tell(() => core.close(row)),
    step: (rows) =>
      enqueue(() => core.step(rows)).catch((error: unknown) => {
        throw error instanceof CoreFailed ? new GrammarWorkerLost(error.message, 'failed') : error;
      }),
    giveWay: () => undefined,
    stop: async () => undefined,
  };
  return worker;
};

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
 * What is refused of a client's own grammar before it is compiled: what no parser can follow quickly.
 * @param text in XGrammar's EBNF and our alphabet.
 * @returns the same text.
 * @throws GrammarError where a rule derives itself alone or beside nothing, as `s ::= s` and `s ::= s s | ""` do: a
 * text has no end of derivations then. Other ambiguous rules, such as `e ::= e "+" e | [0-9]`, are taken: the clock of
 * their worker decides.
 */
export function checkedGrammar(text: string): string {
  const rules = rulesIn(text);
  if (rules === null) return text;
  const name = selfDerived(rules);
  if (name !== null)
    throw new GrammarError(
      `has a rule '${name}' that derives itself and nothing else; remove that alternative, or write a ` +
        "repetition ('*')",
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
