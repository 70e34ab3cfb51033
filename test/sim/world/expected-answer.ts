/** What an undisturbed origin answers at temperature 0: a function of the prompt, the chain and the constraint alone. */
import { grammarOf, toolGrammarOf } from '../../../gpu-origin/grammar/constraint-grammar.ts';
import type { AskedForm } from '../../../gpu-origin/grammar/ports.ts';
import {
  createChatTemplate,
  type ChatTemplate,
  type TemplateMessage,
  type TemplateTool,
} from '../../../gpu-origin/model/chat-template.ts';
import { finish, type Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import { fillWithHash } from '../../gpu-origin/fake-runner.ts';
import { simulatedXGrammar } from './grammar-compiler.ts';
import { loadSimTokenizer } from './sim-tokenizer.ts';

/** Width of a fake runner's hidden states. */
const HIDDEN = 8;
/** So much less likely is what is no letter, so that it comes only where a constraint leaves nothing else. */
const NO_LETTER = 100;
/** So much less likely is the end, so that answers take some hundred tokens unless they are limited. */
const END_LATER = 0.7;

/** Makes answers text: letters and the end, unless they are constrained. @returns the same array, changed. */
export function onlyLetters(tokenizer: Tokenizer): (logits: Float32Array) => Float32Array {
  const less = Array.from({ length: tokenizer.size }, (_, id) => {
    if (tokenizer.eosIds.includes(id)) return END_LATER;
    const bytes = tokenizer.tokenBytes(id);
    return bytes?.length === 1 && /[a-z]/.test(String.fromCharCode(bytes[0] as number)) ? 0 : NO_LETTER;
  });
  return (logits) => {
    for (let at = 0; at < logits.length; at += 1)
      logits[at] = (logits[at] as number) - (less[at % tokenizer.size] as number);
    return logits;
  };
}

export interface Expected {
  text: string;
  tokens: number;
  promptTokens: number;
}

/** What is asked; one of the first three. */
interface Question {
  /** Of a user. */
  content?: string;
  messages?: readonly TemplateMessage[];
  /** A raw text. */
  prompt?: string;
  tools?: readonly TemplateTool[];
  chain: readonly ChainEntry[];
}

interface RowScore {
  /** Every token, and the end, is the likeliest. */
  exact: boolean;
  /** Of all tokens together. */
  nats: number;
  tokens: number;
}

interface Oracle {
  answer(question: Question & { maxTokens: number }): Expected;
  /** The same, of an answer that is constrained. */
  constrained(question: Question & { maxTokens: number; form: AskedForm }): Promise<Expected>;
  /** Pooled hidden states, of length 1. */
  embed(question: { text: string; chain: readonly ChainEntry[]; pooling: 'mean' | 'last' }): number[];
  /** How an answer does that was expected, its end included. */
  score(question: { content: string; expected: string; chain: readonly ChainEntry[] }): RowScore;
  /** Tokens of a prompt. */
  encode(question: Omit<Question, 'chain'>): number[];
}

/** As the fake runner names what is added to the base. */
const deltaOf = (chain: readonly ChainEntry[]): string =>
  chain
    .filter(({ scale }) => scale !== 0)
    .map(({ digest, scale }) => `${digest}*${scale}`)
    .join('+');

/** @param context tokens of prompt and answer together, of the base. */
export function createOracle(context: number): Oracle {
  const tokenizer = loadSimTokenizer();
  const template = createChatTemplate(tokenizer) as ChatTemplate;
  const letters = onlyLetters(tokenizer);
  const logits = new Float32Array(tokenizer.size);

  const encode: Oracle['encode'] = ({ content = '', messages, prompt, tools = [] }) =>
    prompt !== undefined
      ? [...tokenizer.prefixIds, ...tokenizer.encode(prompt, { allowSpecial: true })]
      : (finish(
          template.encodeChunked(messages ?? [{ role: 'user', content }], Infinity, { tools }),
        ) as number[]);

  const begin = ({ maxTokens, ...question }: Question & { maxTokens: number }): Answering => {
    const delta = deltaOf(question.chain);
    const tokens = encode(question);
    const promptTokens = tokens.length;
    const most = Math.min(maxTokens, context - promptTokens);
    let made = 0;
    let ended = false;
    return {
      next(mask) {
        if (ended || made === most) return null;
        fillWithHash(logits, delta, tokens);
        const id = likeliest(letters(logits), mask);
        made += 1;
        ended = tokenizer.eosIds.includes(id);
        if (!ended) tokens.push(id);
        return ended ? null : id;
      },
      whole() {
        const bytes = tokens.slice(promptTokens).flatMap((id) => [...(tokenizer.tokenBytes(id) ?? [])]);
        return { text: new TextDecoder().decode(Uint8Array.from(bytes)), tokens: made, promptTokens };
      },
    };
  };

  return {
    encode,
    embed({ text, chain, pooling }) {
      const tokens = [...tokenizer.prefixIds, ...tokenizer.encode(text, { allowSpecial: false })];
      const states = tokens.map((_, at) => {
        const state = new Float32Array(HIDDEN);
        fillWithHash(state, deltaOf(chain), tokens.slice(0, at + 1));
        return state;
      });
      const pooled = pooling === 'last' ? states.slice(-1) : states;
      const vector = Array.from(
        { length: HIDDEN },
        (_, at) => pooled.reduce((sum, state) => sum + (state[at] as number), 0) / pooled.length,
      );
      const norm = Math.hypot(...vector);
      return vector.map((value) => Math.fround(value / norm));
    },
    score({ content, expected, chain }) {
      const delta = deltaOf(chain);
      const tokens = encode({ content });
      const wanted = [
        ...tokenizer.encode(expected, { allowSpecial: false }),
        ...tokenizer.eosIds.slice(0, 1),
      ];
      const score = { exact: true, nats: 0, tokens: wanted.length };
      for (const id of wanted) {
        fillWithHash(logits, delta, tokens);
        letters(logits);
        score.exact &&= likeliest(logits, null) === id;
        score.nats -= logprobOf(logits, id);
        tokens.push(id);
      }
      return score;
    },
    answer(question) {
      const answering = begin(question);
      while (answering.next(null) !== null);
      return answering.whole();
    },
    async constrained(question) {
      const { GrammarCompiler, GrammarMatcher, TokenizerInfo } = simulatedXGrammar;
      const info = await TokenizerInfo.createTokenizerInfo([], 'raw', false, 0, []);
      const compiler = await GrammarCompiler.createGrammarCompiler(info, false);
      const matcher = await GrammarMatcher.createGrammarMatcher(
        await compiler.compileGrammar(textOf(question.form)),
      );
      const answering = begin(question);
      for (;;) {
        const id = answering.next(await matcher.getNextTokenBitmask());
        if (id === null) break;
        if (!matcher.acceptToken(id)) throw new Error(`the grammar takes no token ${id}`);
      }
      matcher.dispose();
      return answering.whole();
    },
  };
}

/** An answer that is made token by token. */
interface Answering {
  /** @param mask tokens that may come, a bit each; null = all. @returns the next one; null = it has ended. */
  next(mask: Int32Array | null): number | null;
  whole(): Expected;
}

function likeliest(logits: Float32Array, mask: Int32Array | null): number {
  let best = -1;
  for (let id = 0; id < logits.length; id += 1) {
    const allowed = mask === null || (((mask[id >> 5] as number) >>> (id & 31)) & 1) === 1;
    if (allowed && (best === -1 || (logits[id] as number) > (logits[best] as number))) best = id;
  }
  return best;
}

function logprobOf(logits: Float32Array, id: number): number {
  let [most, sum] = [-Infinity, 0];
  for (const logit of logits) most = Math.max(most, logit);
  for (const logit of logits) sum += Math.exp(logit - most);
  return (logits[id] as number) - most - Math.log(sum);
}

function textOf({ constraint, tools }: AskedForm): string {
  const text =
    tools !== null
      ? toolGrammarOf({ ...tools, constraint, pathOf: (at) => ['tools', at, ...tools.within] })
      : constraint === null
        ? null
        : grammarOf(constraint);
  if (text?.ok !== true) throw new Error('the operation asks for what no grammar is made of');
  return text.value;
}
