/** What one tenant may do to an origin that another one uses: a fair load, and several that are not. */
import { benchPrompt } from './prompts.ts';
import { streamChat, type ChatResult, type Tenant } from './stream-chat.ts';

export interface Neighbour {
  readonly name: string;
  /** Requests at the same time. */
  readonly atOnce: number;
  /** @param index counts all requests of this neighbour. @returns what is sent as JSON, or the bytes themselves. */
  body(index: number): object | Uint8Array<ArrayBuffer>;
}

const user = (content: string) => [{ role: 'user', content }];
const streamed = { model: 'base', stream: true, temperature: 0 };
/** As long as an answer may be within a context of 8,192. */
const LONG = 8_000;
/** Words of a prompt of about 2,000 tokens. */
const PROMPT_WORDS = 1_950;
const SPACES = 990_000;
/** Made once: to write 64 of them a time would hold up the loop that the measured tenant's requests run on. */
const largeBody = new TextEncoder().encode(
  JSON.stringify({ model: 'base', messages: user(' '.repeat(SPACES)), max_tokens: 1 }),
);
/** Adapters that one request may add. */
const ADDED = 7;

const longStreams = (atOnce: number): Neighbour => ({
  name: `${atOnce} streams of ${LONG} tokens`,
  atOnce,
  body: (index) => ({
    ...streamed,
    messages: user(benchPrompt(index, 1)),
    max_tokens: LONG,
    ignore_eos: true,
  }),
});

const short = (index: number) => ({
  ...streamed,
  messages: user(benchPrompt(index, 2)),
  max_tokens: 64,
  ignore_eos: true,
});

/** Uses its share: what the others are compared with. */
export const FAIR: Neighbour = { name: 'fair: 8 streams of 64 tokens', atOnce: 8, body: short };

export const ABUSIVE: readonly Neighbour[] = [
  longStreams(16),
  longStreams(64),
  { name: '320 requests at once', atOnce: 320, body: short },
  {
    name: 'prompts of 2,000 tokens, 32 at once',
    atOnce: 32,
    body: (index) => ({
      ...streamed,
      messages: user(benchPrompt(index, 3, PROMPT_WORDS)),
      max_tokens: 8,
      ignore_eos: true,
    }),
  },
  ...[4, 64].map((atOnce) => ({
    ...{ name: `990 kB of spaces, ${atOnce} at once`, atOnce },
    body: () => largeBody,
  })),
  { name: '8 answers each, 8 at once', atOnce: 8, body: (index) => ({ ...short(index), n: 8 }) },
  ...[20, 320].map((atOnce) => ({
    ...{ name: `${ADDED} missing adapters each, ${atOnce} at once`, atOnce },
    body: (index: number) => ({
      ...short(index),
      adapters: Array.from({ length: ADDED }, (_, i) => ({ name: `nobody/has-${index}-${i}` })),
    }),
  })),
];

/** Between two tries of a request that was refused, ms. */
const PAUSE_MS = 500;

/** Keeps so many requests going until `signal` fires. @returns how many there were, by what became of them. */
export async function keepAsking(
  tenant: Tenant,
  neighbour: Neighbour,
  signal: AbortSignal,
): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  let index = 0;
  const note = ({ problem, status }: ChatResult): void => {
    const what = problem === null ? 'whole' : problem === 'given up' ? problem : `status ${status}`;
    seen.set(what, (seen.get(what) ?? 0) + 1);
  };
  const ask = async (): Promise<void> => {
    while (!signal.aborted) {
      index += 1;
      const result = await streamChat(tenant, neighbour.body(index), signal);
      note(result);
      if (result.problem !== null) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
    }
  };
  await Promise.all(Array.from({ length: neighbour.atOnce }, ask));
  return seen;
}
