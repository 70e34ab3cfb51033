/**
 * Loads XGrammar's WebAssembly build (@mlc-ai/web-xgrammar 0.1.27), which `import` cannot load: its one file is a UMD
 * script in a package that says it has modules. The page's build (bin/build-browser.mjs) puts another one in this file's
 * place.
 */
import { readFileSync } from 'node:fs';
import Module, { createRequire } from 'node:module';

/** What is used of it. Handles own memory that only `dispose` gives back. */
export interface XGrammar {
  TokenizerInfo: {
    createTokenizerInfo(
      /** Bytes of each token; none for tokens without text. */
      tokens: readonly Uint8Array[],
      kind: 'raw',
      prependSpace: boolean,
      vocabSize: number,
      stopTokenIds: readonly number[],
    ): Promise<Disposable>;
  };
  GrammarCompiler: { createGrammarCompiler(info: Disposable, cache: boolean): Promise<Compiler> };
  GrammarMatcher: { createGrammarMatcher(grammar: Disposable): Promise<XMatcher> };
}

export interface Disposable {
  dispose(): void;
}

export interface Compiler extends Disposable {
  compileGrammar(ebnf: string): Promise<Disposable>;
}

export interface XMatcher extends Disposable {
  acceptToken(id: number): boolean;
  /** Bit `id % 32` of word `id >> 5`. */
  getNextTokenBitmask(): Promise<Int32Array>;
  isTerminated(): boolean;
}

interface Script {
  exports: XGrammar;
  /** The script's `console`. */
  log: Record<'log' | 'warn' | 'error', (...words: unknown[]) => void>;
  _compile(source: string, path: string): void;
}

/**
 * A separate instance with its own memory: a failed one is left to garbage collection.
 * @param onMessage called with the reason of a failure, before it throws.
 */
export function loadXGrammar(onMessage: (message: string) => void): XGrammar {
  const path = createRequire(import.meta.url).resolve('@mlc-ai/web-xgrammar');
  const script = new Module(path) as unknown as Script;
  const tell = (...words: unknown[]): void => onMessage(words.map(String).join(' '));
  script.log = { log: tell, warn: tell, error: tell };
  script._compile(`const console = module.log;${readFileSync(path, 'utf8')}`, path);
  return script.exports;
}
