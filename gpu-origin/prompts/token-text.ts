import type { PromptLogprobs, TokenLogprob } from '../../protocol/index.ts';
import type { ScoredToken, TokenScore } from '../engine/engine.ts';
import type { Tokenizer } from '../model/tokenizer.ts';

const NOTHING = new Uint8Array(0);
const lossy = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { ignoreBOM: true, fatal: true });

/** JSON has no infinities; OpenAI's clients know this value as "never". */
const LOWEST_LOGPROB = -9999;

const finite = (logprob: number): number => (Number.isFinite(logprob) ? logprob : LOWEST_LOGPROB);

/** What the engine needs of a tokenizer. */
export const tokenBytesOf = (tokenizer: Tokenizer) => ({
  bytes: (id: number) => tokenizer.tokenBytes(id) ?? NOTHING,
  isSpecial: (id: number) => tokenizer.isSpecial(id),
});

/** A token's own text; U+FFFD where it is a part of a character. */
export const tokenText = (tokenizer: Tokenizer, id: number): string =>
  lossy.decode(tokenizer.tokenBytes(id) ?? NOTHING);

/** A token's text as text completions write it: parts of characters as `bytes:\xe2\x80`, so that they stay apart. */
export function tokenKey(tokenizer: Tokenizer, id: number): string {
  const bytes = tokenizer.tokenBytes(id) ?? NOTHING;
  try {
    return strict.decode(bytes);
  } catch {
    return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
  }
}

/** One token in chat completions' form. */
export function chatLogprob(tokenizer: Tokenizer, scored: ScoredToken): TokenLogprob {
  const one = ({ id, logprob }: TokenScore) => ({
    token: tokenText(tokenizer, id),
    logprob: finite(logprob),
    bytes: [...(tokenizer.tokenBytes(id) ?? NOTHING)],
  });
  return {
    ...one({ id: scored.id, logprob: scored.logprob ?? LOWEST_LOGPROB }),
    top_logprobs: scored.top.map(one),
  };
}

/** The likeliest tokens at one place in text completions' form, the chosen one among them. */
export function topLogprobs(tokenizer: Tokenizer, scored: ScoredToken): Record<string, number> | null {
  if (scored.logprob === null) return null;
  const entries = [...scored.top, { id: scored.id, logprob: scored.logprob }];
  return Object.fromEntries(entries.map(({ id, logprob }) => [tokenKey(tokenizer, id), finite(logprob)]));
}

export const textLogprob = (scored: ScoredToken): number | null =>
  scored.logprob === null ? null : finite(scored.logprob);

/** A prompt's tokens as vLLM writes them. @param count others at each place, at most. */
export const promptLogprobs = (
  tokenizer: Tokenizer,
  tokens: readonly ScoredToken[],
  count: number,
): PromptLogprobs =>
  tokens.map(({ id, logprob, rank, top }) => {
    if (logprob === null) return null;
    const entry = (token: number, value: number, place: number) =>
      [token, { logprob: finite(value), rank: place, decoded_token: tokenText(tokenizer, token) }] as const;
    const likeliest = top.slice(0, count).map((token, at) => entry(token.id, token.logprob, at + 1));
    return Object.fromEntries([...likeliest, entry(id, logprob, rank ?? 1)]);
  });
