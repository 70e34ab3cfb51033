/** Random requests of every kind, and what their answers say, streamed or not. */
import { seededRandom } from '../../../gpu-origin/generation/sampler.ts';
import type { ChainEntry } from '../../../protocol/index.ts';

export type Random = ReturnType<typeof randomOf>;

export function randomOf(seed: number) {
  const next = seededRandom(seed);
  const below = (limit: number): number => Math.floor(next() * limit);
  return {
    next,
    below,
    chance: (share: number): boolean => next() < share,
    of: <T>(list: readonly T[]): T => list[below(list.length)]!,
  };
}

export interface Asked {
  path: string;
  /** Without `stream`. */
  request: Record<string, unknown>;
  chain: ChainEntry[];
  tenant: string;
}

const WORDS = ['red', ' green', 'blue ', 'a', 'é', '漢', '\n', '<|im_end|>', ' the', 'x y'];
const text = (random: Random, words: number): string =>
  Array.from({ length: 1 + random.below(words) }, () => random.of(WORDS)).join('');

/** Prompts that begin alike, so that chunks of them are found again. */
const COMMON = 'the same beginning of many prompts, which is longer than a chunk of one hundred and twenty-eight tokens, so that it is kept and found again. ';

const promptText = (random: Random): string =>
  random.chance(0.25) ? COMMON + text(random, 8) : text(random, random.chance(0.2) ? 60 : 6);

const SCHEMA = {
  type: 'object',
  properties: { color: { enum: ['red', 'green', 'blue'] }, tall: { type: 'boolean' } },
  required: ['color', 'tall'],
  additionalProperties: false,
};
const FUNCTIONS = [
  { name: 'paint', parameters: SCHEMA, strict: true },
  { name: 'look', parameters: { type: 'object', properties: { at: { enum: [1, 2, 3] } }, required: ['at'], additionalProperties: false }, strict: true },
];

function sampling(random: Random): Record<string, unknown> {
  return {
    ...(random.chance(0.5) ? { temperature: 0 } : { temperature: 0.3 + random.next(), seed: random.below(1e6) }),
    ...(random.chance(0.2) ? { top_k: 1 + random.below(40) } : {}),
    ...(random.chance(0.2) ? { top_p: 0.5 + random.next() / 2 } : {}),
    ...(random.chance(0.1) ? { min_p: random.next() / 3 } : {}),
    ...(random.chance(0.2) ? { frequency_penalty: random.next() } : {}),
    ...(random.chance(0.2) ? { repetition_penalty: 1.1 } : {}),
    ...(random.chance(0.1) ? { logit_bias: { [3 + random.below(250)]: 30 * random.next() } } : {}),
    ...(random.chance(0.7) ? { ignore_eos: true } : {}),
    ...(random.chance(0.1) ? { include_stop_str_in_output: true } : {}),
    ...(random.chance(0.1) ? { stop_token_ids: [3 + random.below(250), 3 + random.below(250)] } : {}),
    ...(random.chance(0.1) ? { skip_special_tokens: false } : {}),
  };
}

const most = (random: Random): number => 1 + random.below(random.chance(0.15) ? 120 : 24);

export function randomRequest(random: Random, chains: readonly ChainEntry[][]): Asked {
  const kind = random.below(10);
  const common = { model: 'tiny', ...sampling(random) };
  const form = (): object => {
    const which = random.below(8);
    if (which === 0) return { response_format: { type: 'json_schema', json_schema: { name: 's', schema: SCHEMA, strict: true } } };
    if (which === 1) return { structured_outputs: { choice: ['yes', 'no', 'perhaps'] } };
    return {};
  };
  const tooled = random.chance(0.3);
  const asked = (): Pick<Asked, 'path' | 'request'> => {
    if (kind < 3) {
      const tools = tooled
        ? {
            tools: FUNCTIONS.map((fn) => ({ type: 'function', function: fn })),
            tool_choice: random.of(['auto', 'required', { type: 'function', function: { name: 'paint' } }]),
            parallel_tool_calls: random.chance(0.5),
          }
        : form();
      const messages = Array.from({ length: 1 + random.below(3) }, (_, at) => ({ role: at % 2 === 0 ? 'user' : 'assistant', content: promptText(random) }));
      if (messages.length === 2) messages.pop();
      return {
        path: '/v1/chat/completions',
        request: {
          ...common, ...tools, messages, max_tokens: most(random) + (tooled ? 60 : 0),
          ...(random.chance(0.4) ? { n: 1 + random.below(3) } : {}),
          ...(random.chance(0.3) ? { logprobs: true, top_logprobs: random.below(4) } : {}),
        },
      };
    }
    if (kind < 6) {
      const ids = (): number[] => Array.from({ length: 1 + random.below(60) }, () => 3 + random.below(256));
      const one = (): unknown => (random.chance(0.3) ? ids() : promptText(random));
      const prompt = random.chance(0.35) ? Array.from({ length: 1 + random.below(6) }, one) : one();
      const echo = random.chance(0.25);
      return {
        path: '/v1/completions',
        request: {
          ...common, ...form(), prompt, max_tokens: most(random), ...(echo ? { echo } : {}),
          ...(random.chance(0.4) ? { n: 1 + random.below(3) } : {}),
          ...(random.chance(0.4) ? { logprobs: random.below(4) } : {}),
        },
      };
    }
    if (kind < 7) {
      const tools = tooled
        ? { tools: FUNCTIONS.map((fn) => ({ type: 'function', ...fn })), tool_choice: random.of(['auto', 'required']) }
        : {};
      return {
        path: '/v1/responses',
        request: {
          ...common, ...tools, input: promptText(random), max_output_tokens: most(random) + (tooled ? 60 : 0),
          ...(random.chance(0.3) ? { top_logprobs: 1 + random.below(3), include: ['message.output_text.logprobs'] } : {}),
        },
      };
    }
    if (kind < 8) {
      const { temperature, top_k: k } = common as { temperature?: number; top_k?: number };
      const tools = tooled
        ? { tools: FUNCTIONS.map(({ parameters, ...fn }) => ({ ...fn, input_schema: parameters })), tool_choice: { type: random.of(['auto', 'any']) } }
        : {};
      return {
        path: '/v1/messages',
        request: {
          model: 'tiny', temperature: temperature === 0 ? 0 : 0, ...(k === undefined ? {} : { top_k: k }), ...tools,
          messages: [{ role: 'user', content: promptText(random) }], max_tokens: most(random) + (tooled ? 60 : 0),
        },
      };
    }
    const input = random.chance(0.5) ? Array.from({ length: 1 + random.below(5) }, () => promptText(random)) : promptText(random);
    return { path: '/v1/embeddings', request: { model: 'tiny', input, ...(random.chance(0.5) ? { pooling: 'last' } : {}) } };
  };
  return {
    ...asked(),
    chain: random.chance(0.2) ? [] : random.of(chains),
    tenant: `tenant-${random.below(4)}`,
  };
}

export const isStreamed = ({ path }: Asked): boolean => path !== '/v1/embeddings';

type Json = Record<string, unknown>;
interface Logprobs { [field: string]: unknown[] | null }

/** Dates, which differ. */
export function timeless(body: unknown): unknown {
  return JSON.parse(JSON.stringify(body, (key, value: unknown) => (['created', 'created_at', 'completed_at'].includes(key) ? 0 : value))) as unknown;
}

/** Without what says how much was found again, and without lists of no log-probabilities, which no stream has. */
export function uncached(body: unknown): unknown {
  const copy = structuredClone(body) as { usage?: Json & { input_tokens?: number }; choices?: { logprobs: Logprobs | null }[] };
  for (const choice of copy.choices ?? []) if (Object.values(choice.logprobs ?? {}).every((values) => values === null || values.length === 0)) choice.logprobs = null;
  const { usage } = copy;
  if (usage === undefined) return copy;
  const cached = Number(usage['cache_read_input_tokens'] ?? 0);
  if ('cache_read_input_tokens' in usage) usage.input_tokens = Number(usage.input_tokens) + cached;
  for (const field of ['prompt_tokens_details', 'cache_read_input_tokens', 'input_tokens_details']) delete usage[field];
  return copy;
}

export interface StreamEvent { name: string | null; data: unknown }

export function eventsOf(text: string): StreamEvent[] {
  return text.split('\n\n').flatMap((block) => {
    const data = /^data: (.*)$/m.exec(block)?.[1];
    if (data === undefined) return [];
    const name = /^event: (.*)$/m.exec(block)?.[1] ?? null;
    return [{ name, data: data === '[DONE]' ? null : (JSON.parse(data) as unknown) }];
  });
}

/** What a stream has said, as the whole answer would have it; a string where it has failed. */
export function wholeOf(path: string, events: readonly StreamEvent[]): unknown {
  const failed = events.find(({ data }) => (data as Json | null)?.['error'] != null && !('response' in (data as Json)));
  if (failed !== undefined) return `failed: ${JSON.stringify(failed.data)}`;
  if (path === '/v1/responses') {
    const last = events.at(-1)?.data as { type: string; response: unknown } | undefined;
    if (last?.type === 'response.failed') return `failed: ${JSON.stringify(last)}`;
    return last?.response;
  }
  return path === '/v1/messages' ? wholeMessage(events) : wholeChoices(path, events);
}

interface ChunkChoice {
  index: number;
  text?: string;
  delta?: { role?: string; content?: string | null; tool_calls?: { index: number; id?: string; type?: string; function: { name?: string; arguments?: string } }[] };
  logprobs?: Logprobs | null;
  finish_reason: string | null;
}

function wholeChoices(path: string, events: readonly StreamEvent[]): unknown {
  const isChat = path === '/v1/chat/completions';
  const choices: Json[] = [];
  let usage: unknown;
  let head: Json = {};
  for (const { data } of events) {
    if (data === null) continue;
    const { choices: parts, usage: used, ...rest } = data as Json & { choices: ChunkChoice[] };
    head = rest;
    usage = used ?? usage;
    for (const part of parts) {
      const choice = (choices[part.index] ??= { index: part.index, text: '', logprobs: null, calls: [], finish_reason: null });
      choice['text'] = (choice['text'] as string) + (part.text ?? part.delta?.content ?? '');
      for (const call of part.delta?.tool_calls ?? []) {
        const calls = choice['calls'] as { id: unknown; type: unknown; function: { name: string; arguments: string } }[];
        if (call.function.name !== undefined) calls[call.index] = { id: call.id, type: call.type, function: { name: call.function.name, arguments: '' } };
        calls[call.index]!.function.arguments += call.function.arguments ?? '';
      }
      if (part.logprobs != null) {
        const all = (choice['logprobs'] ??= {}) as Logprobs;
        for (const [field, values] of Object.entries(part.logprobs)) all[field] = values === null ? null : [...(all[field] ?? []), ...values];
      }
      if (part.finish_reason !== null) {
        if (choice['finish_reason'] !== null) return `failed: choice ${part.index} ended twice`;
        choice['finish_reason'] = part.finish_reason;
      }
    }
  }
  return {
    ...head,
    object: isChat ? 'chat.completion' : 'text_completion',
    choices: choices.map(({ text: said, calls, ...rest }) => {
      if (!isChat) return { ...rest, text: said };
      const made = calls as unknown[];
      const message = { role: 'assistant', content: said === '' && made.length > 0 ? null : said, refusal: null, ...(made.length === 0 ? {} : { tool_calls: made }) };
      return { ...rest, message };
    }),
    usage,
  };
}

function wholeMessage(events: readonly StreamEvent[]): unknown {
  let message: Json = {};
  const content: Json[] = [];
  const inputs: string[] = [];
  let stopped = false;
  for (const { data } of events) {
    const event = data as Json & { type: string; index: number; delta: Json; content_block: Json; message: Json; usage: Json };
    if (event.type === 'message_start') message = { ...event.message };
    if (event.type === 'content_block_start') [content[event.index], inputs[event.index]] = [{ ...event.content_block }, ''];
    if (event.type === 'content_block_delta') {
      const block = content[event.index]!;
      if (event.delta['type'] === 'text_delta') block['text'] = String(block['text']) + String(event.delta['text']);
      else inputs[event.index] += String(event.delta['partial_json']);
    }
    if (event.type === 'message_delta') Object.assign(message, event.delta, { usage: event.usage });
    if (event.type === 'message_stop') stopped = true;
  }
  if (!stopped) return 'failed: no end';
  for (const [at, block] of content.entries()) {
    if (block['type'] !== 'tool_use') continue;
    try {
      block['input'] = JSON.parse(inputs[at]!) as unknown;
    } catch {
      block['input'] = {};
    }
  }
  return { ...message, content };
}
