const WORDS = (
  'the quick brown fox jumps over a lazy dog while small rivers run down to green valleys ' +
  'and old stone towns sleep under wide skies'
).split(' ');

/** English words in a prompt of "mixed-16", its two leading numbers not counted. */
export const PROMPT_WORDS = 48;

/** Of "long16": 1,000 tokens of the default base, whose tokenizer takes a word as a token. */
export const LONG_WORDS = 997;

/** Of each turn of "chat": with answers of 64 tokens, four turns are about 2,000 tokens. */
export const TURN_WORDS = 433;
export const CHAT_TURNS = 4;

/** @returns the prompt of request `index` in wave `round`: all of them differ from their first token on. */
export function benchPrompt(index: number, round: number, words = PROMPT_WORDS): string {
  const text = Array.from({ length: words }, (_, j) => WORDS[(j * 7 + index * 3 + round) % WORDS.length]);
  return `${index} ${round} ${text.join(' ')}`;
}
