import { type Lane, LaneLost, type LaneRow, type StartLane, wordsOf } from './ports.ts';
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

/** A lane in this thread: for tests, and hosts without threads. Nothing ends a grammar that takes long to compile. */
export const startLocalLane: StartLane = async ({ tokens, rows }) => {
  const core = await GrammarCore.create(tokens.bytes, tokens.eosIds);
  const words = wordsOf(tokens.bytes.length);
  const masks = new Int32Array(rows * words);
  const lane: Lane = {
    masks,
    words,
    async compile(grammar, ebnf) {
      try {
        await core.compile(grammar, ebnf);
        return null;
      } catch (error) {
        if (error instanceof CoreFailed) return error.message;
        throw error;
      }
    },
    forget: (grammar) => core.forget(grammar),
    open: (row, grammar) => core.open(row, grammar),
    close: (row) => core.close(row),
    async step(steps) {
      try {
        return await core.step(steps, masks);
      } catch (error) {
        if (error instanceof CoreFailed) throw new LaneLost(error.message, false);
        throw error;
      }
    },
    stop: async () => undefined,
  };
  return lane;
};
