import { z } from 'zod';

/** A token with its 20 likeliest others is about 5 kB; what is longer repeats the request. */
const MAX_LINE_CHARACTERS = 64 * 1024;
const DATA = 'data: ';

const Spoken = z.string().min(1);
/** What the first event of each API has that says something: text, a call, log-probabilities, or the end. */
const Choice = z.union([
  z.object({ delta: z.object({ content: Spoken }) }),
  z.object({ delta: z.object({ tool_calls: z.array(z.unknown()).min(1) }) }),
  z.object({ text: Spoken }),
  z.object({ logprobs: z.object({}) }),
  z.object({ finish_reason: z.string() }),
]);
const Event = z.union([
  z.object({ choices: z.array(z.unknown()) }),
  z.object({ type: z.literal('response.output_text.delta'), delta: Spoken }),
  z.object({ type: z.literal('response.output_text.done') }),
  z.object({ type: z.literal('response.function_call_arguments.delta') }),
  z.object({ type: z.enum(['content_block_delta', 'message_delta']) }),
]);

/**
 * Whether one of these whole events of a stream says something: neither the role, nor the request over again, nor a
 * heartbeat. Asked until it is so; an opening and its heartbeats are a few events.
 */
export function hasToken(frames: Uint8Array): boolean {
  return new TextDecoder()
    .decode(frames)
    .split('\n')
    .some(
      (line) => line.startsWith(DATA) && line.length <= MAX_LINE_CHARACTERS && says(line.slice(DATA.length)),
    );
}

function says(data: string): boolean {
  let value: unknown;
  try {
    value = JSON.parse(data);
  } catch {
    return false;
  }
  const event = Event.safeParse(value);
  if (!event.success) return false;
  return 'choices' in event.data
    ? event.data.choices.some((choice) => Choice.safeParse(choice).success)
    : true;
}
