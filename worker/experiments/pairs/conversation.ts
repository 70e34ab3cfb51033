import { z } from 'zod';

/** One message of a prompt, whatever API it came by. */
export interface Turn {
  role: string;
  content: string;
}

const Parts = z.array(z.object({ text: z.string() }));
const Content = z.union([z.string(), Parts.transform((parts) => parts.map(({ text }) => text).join(''))]);
const Turns = z.array(z.object({ role: z.string(), content: Content }));

/** Chats, text completions, responses and messages, as far as they are text alone and ask for one answer. */
const Prompt = z.union([
  z
    .object({
      messages: Turns,
      system: Content.nullish(),
      n: z.literal(1).nullish(),
    })
    .transform(({ messages, system }) => withSystem(system, messages)),
  z
    .object({ prompt: z.string(), n: z.literal(1).nullish() })
    .transform(({ prompt }) => [{ role: 'user', content: prompt }]),
  z
    .object({
      input: z.union([z.string().transform((content) => [{ role: 'user', content }]), Turns]),
      instructions: z.string().nullish(),
    })
    .transform(({ input, instructions }) => withSystem(instructions, input)),
]);

const withSystem = (system: string | null | undefined, turns: Turn[]): Turn[] =>
  system == null || system === '' ? turns : [{ role: 'system', content: system }, ...turns];

/** @param request as the client API takes it, checked. @returns null for what is not one text to one answer. */
export function conversationOf(request: unknown): Turn[] | null {
  return Prompt.safeParse(request).data ?? null;
}
