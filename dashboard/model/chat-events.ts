/** The events of a streamed chat completion. */
import { z } from 'zod';
import { jsonOf, problemOf, type Problem } from './problem.ts';

const Chunk = z.object({
  choices: z.array(z.object({ delta: z.object({ content: z.string().nullish() }) })),
  usage: z.object({ prompt_tokens: z.int(), completion_tokens: z.int() }).nullish(),
});

export type ChatEvent =
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'usage'; readonly tokens: number }
  | { readonly kind: 'problem'; readonly problem: Problem }
  | { readonly kind: 'done' };

/** Takes pieces of a stream of events as they come, cut anywhere. */
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
  const chunk = Chunk.safeParse(jsonOf(data));
  if (!chunk.success) return [{ kind: 'problem', problem: problemOf(500, data) }];
  const text = chunk.data.choices[0]?.delta.content ?? '';
  return [
    ...(text === '' ? [] : [{ kind: 'text' as const, text }]),
    ...(chunk.data.usage ? [{ kind: 'usage' as const, tokens: chunk.data.usage.completion_tokens }] : []),
  ];
}
