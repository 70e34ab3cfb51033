/**
 * XGrammar as simulated programs and the oracle see it: one instance, loaded before any world starts, because
 * WebAssembly starts in the machine's own time. It keeps what it has compiled, which takes a tenth of a second each.
 */
import type { GrammarTokens } from '../../../gpu-origin/grammar/ports.ts';
import {
  type Compiler,
  type Disposable,
  loadXGrammar,
  type XGrammar,
  type XMatcher,
} from '../../../gpu-origin/grammar/xgrammar.ts';

/** The name by which simulated programs require it. */
export const COMPILER_MODULE = 'graft-simulated-xgrammar';

/** Programs that were killed leave theirs open: the oldest go when there are more. */
const MAX_MATCHERS = 500;

let loaded: { xgrammar: XGrammar; compiler: Compiler } | null = null;
const grammars = new Map<string, Promise<Disposable>>();
const matchers = new Set<XMatcher>();

/** @param tokens of the only tokenizer that a simulated world has. */
export async function loadGrammarCompiler(tokens: GrammarTokens): Promise<void> {
  if (loaded !== null) return;
  const xgrammar = loadXGrammar(() => undefined);
  const info = await xgrammar.TokenizerInfo.createTokenizerInfo(
    tokens.bytes(),
    'raw',
    false,
    tokens.vocabSize,
    tokens.eosIds,
  );
  loaded = { xgrammar, compiler: await xgrammar.GrammarCompiler.createGrammarCompiler(info, false) };
}

function real(): NonNullable<typeof loaded> {
  if (loaded === null) throw new Error('the grammar compiler is loaded before a world starts');
  return loaded;
}

const SHARED = { dispose: () => undefined };

async function compileGrammar(ebnf: string): Promise<Disposable> {
  let compiled = grammars.get(ebnf);
  if (compiled === undefined) grammars.set(ebnf, (compiled = real().compiler.compileGrammar(ebnf)));
  const grammar = await compiled;
  return Object.assign(Object.create(grammar) as Disposable, SHARED);
}

async function createGrammarMatcher(grammar: Disposable): Promise<XMatcher> {
  const matcher = await real().xgrammar.GrammarMatcher.createGrammarMatcher(grammar);
  const forget = (one: XMatcher): void => {
    if (matchers.delete(one)) one.dispose();
  };
  matchers.add(matcher);
  for (const oldest of matchers) {
    if (matchers.size <= MAX_MATCHERS) break;
    forget(oldest);
  }
  return Object.assign(Object.create(matcher) as XMatcher, { dispose: () => forget(matcher) });
}

export const simulatedXGrammar: XGrammar = {
  TokenizerInfo: { createTokenizerInfo: async () => SHARED },
  GrammarCompiler: { createGrammarCompiler: async () => ({ ...SHARED, compileGrammar }) },
  GrammarMatcher: { createGrammarMatcher },
};
