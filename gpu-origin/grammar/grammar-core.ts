import type { ApiError, Result } from '../../protocol/index.ts';
import { grammarOf, inPlace } from './constraint-grammar.ts';
import { checkedGrammar } from './free-grammar.ts';
import {
  type AskedForm,
  type Compiled,
  type GrammarTokens,
  type Lane,
  LaneLost,
  type LaneRow,
  type StartLane,
  type Stepped,
  wordsOf,
} from './ports.ts';
import { toolGrammarOf } from './tool-grammar.ts';
import { type Compiler, type Disposable, loadXGrammar, type XGrammar, type XMatcher } from './xgrammar.ts';

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
  async step(rows: readonly LaneRow[], masks: Int32Array): Promise<(string | null)[]> {
    const failures: (string | null)[] = [];
    for (const [at, row] of rows.entries())
      failures.push(await this.#guarded(() => this.#stepRow(row, masks, at * this.#words)));
    return failures;
  }

  async #stepRow({ row, accepted }: LaneRow, masks: Int32Array, offset: number): Promise<string | null> {
    const state = this.#rows.get(row);
    if (state === undefined) return 'is not open';
    if (state.failure !== null) return state.failure;
    state.matcher ??= await this.#xgrammar.GrammarMatcher.createGrammarMatcher(
      this.#grammars.get(state.grammar)!,
    );
    const { matcher } = state;
    for (const id of accepted)
      if (!matcher.acceptToken(id)) return (state.failure = `does not let token ${id} through`);
    if (matcher.isTerminated()) return (state.failure = 'has ended');
    const mask = await matcher.getNextTokenBitmask();
    if (mask.every((word) => word === 0)) return (state.failure = 'lets no token through here');
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

/** What a lane does, in whichever thread it is. */
export class LaneCore {
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
  static async create(tokens: GrammarTokens | null, cpuMs: (() => number) | null): Promise<LaneCore> {
    if (tokens === null) return new LaneCore(null, 0, cpuMs);
    return new LaneCore(
      await GrammarCore.create(tokens.bytes, tokens.eosIds),
      wordsOf(tokens.bytes.length),
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
  async step(rows: readonly LaneRow[]): Promise<Stepped> {
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
    if (this.#core === null) throw new Error('this lane compiles nothing');
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
  if (constraint === null) throw new Error('nothing is asked for');
  const text = grammarOf(constraint);
  if (!text.ok || constraint.constraint.kind !== 'grammar') return text;
  return inPlace(constraint.path, () => checkedGrammar(text.value));
}

/** A lane in this thread: for tests, and hosts without threads. Nothing ends a grammar that takes long to compile. */
export const startLocalLane: StartLane = async ({ tokens }) => {
  const core = await LaneCore.create(tokens, null);
  let turn: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(work: () => T | Promise<T>): Promise<T> => {
    const done = turn.then(work);
    turn = done.catch(() => undefined);
    return done;
  };
  const tell = (work: () => void): void => void inTurn(work);
  const lane: Lane = {
    words: wordsOf(tokens?.bytes.length ?? 0),
    compile: (grammar, asked) => inTurn(() => core.compile(grammar, asked)),
    forget: (grammar) => tell(() => core.forget(grammar)),
    open: (row, grammar) => tell(() => core.open(row, grammar)),
    close: (row) => tell(() => core.close(row)),
    step: (rows) =>
      inTurn(() => core.step(rows)).catch((error: unknown) => {
        throw error instanceof CoreFailed ? new LaneLost(error.message, 'failed') : error;
      }),
    giveWay: () => undefined,
    stop: async () => undefined,
  };
  return lane;
};
