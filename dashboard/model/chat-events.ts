/** The events of a streamed chat completion, and its speed. */
import { z } from 'zod';
import type { TokenScores } from './answer-difference.ts';
import { jsonOf, problemOf, type Problem } from './problem.ts';

const Scored = { token: z.string(), logprob: z.number(), bytes: z.array(z.int()).nullish() };
const Scores = z.object({ ...Scored, top_logprobs: z.array(z.object(Scored)) });

const Chunk = z.object({
  choices: z.array(
    z.object({
      delta: z.object({ content: z.string().nullish() }),
      logprobs: z.object({ content: z.array(Scores).nullish() }).nullish(),
    }),
  ),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }).nullish(),
});

export type ChatEvent =
  | { readonly kind: 'text'; readonly text: string }
  /** Of the received tokens, if requested. */
  | { readonly kind: 'scores'; readonly scores: readonly TokenScores[] }
  | { readonly kind: 'usage'; readonly tokens: number }
  | { readonly kind: 'problem'; readonly problem: Problem }
  | { readonly kind: 'done' };

/** Splits a stream of events from chunks of any size. */
export function createChatReader(): (piece: string) => ChatEvent[] {
  let rest = '';
  return (piece) => {
    rest += piece;
    const events: ChatEvent[] = [];
    for (;;) {
      const end = /\r?\n\r?\n/.exec(rest);
      if (end === null) return events;
      const block = rest.slice(0, end.index);
      rest = rest.slice(end.index + end[0].length);
      const data = block
        .split(/\r?\n/)
        .filter((line) => line.startsWith('data:'))
        .map((line) => line.slice(5).replace(/^ /, ''))
        .join('\n');
      // A comment, which keeps the connection open.
      if (data !== '') events.push(...eventsOf(data));
    }
  };
}

function eventsOf(data: string): ChatEvent[] {
  if (data === '[DONE]') return [{ kind: 'done' }];
  return chunkEvents(jsonOf(data)) ?? [{ kind: 'problem', problem: problemOf(500, data) }];
}

/** @param value a `chat.completion.chunk`. @returns null for anything else. */
export function chunkEvents(value: unknown): ChatEvent[] | null {
  const chunk = Chunk.safeParse(value);
  if (!chunk.success) return null;
  const choice = chunk.data.choices[0];
  const text = choice?.delta.content ?? '';
  const scores = choice?.logprobs?.content ?? [];
  return [
    ...(text === '' ? [] : [{ kind: 'text' as const, text }]),
    ...(scores.length === 0 ? [] : [{ kind: 'scores' as const, scores: scores.map(scoresOf) }]),
    ...(chunk.data.usage ? [{ kind: 'usage' as const, tokens: chunk.data.usage.completion_tokens }] : []),
  ];
}

const scoresOf = ({ top_logprobs: top, ...taken }: z.infer<typeof Scores>): TokenScores => ({
  token: keyOf(taken),
  top: top.map((one) => ({ token: keyOf(one), logprob: one.logprob })),
});

/** Parts of a character print alike: their bytes distinguish them. */
const keyOf = ({ token, bytes }: { token: string; bytes?: number[] | null | undefined }): string =>
  bytes == null ? token : bytes.join(' ');

/** The speed of an answer. All times in ms of one clock. */
export interface Pace {
  readonly sentAt: number;
  readonly firstAt: number | null;
  readonly lastAt: number | null;
  /** Chunks of text, until the answer reports its token count. */
  readonly pieces: number;
  readonly tokens: number | null;
}

export const paceFrom = (sentAt: number): Pace => ({
  sentAt,
  firstAt: null,
  lastAt: null,
  pieces: 0,
  tokens: null,
});

export const withPiece = (pace: Pace, now: number): Pace => ({
  ...pace,
  firstAt: pace.firstAt ?? now,
  lastAt: now,
  pieces: pace.pieces + 1,
});

/** Time to first token, ms. */
export const ttft = ({ sentAt, firstAt }: Pace): number | null =>
  firstAt === null ? null : firstAt - sentAt;

/** After the first token; null with fewer than two, or when all arrived at once. */
export function tokensPerSecond({ firstAt, lastAt, pieces, tokens }: Pace): number | null {
  const count = tokens ?? pieces;
  if (firstAt === null || lastAt === null || lastAt <= firstAt || count < 2) return null;
  return (1000 * (count - 1)) / (lastAt - firstAt);
}
