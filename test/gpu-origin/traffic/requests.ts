/** Random requests of every kind of completion, and of embeddings, for a tiny base. */
import { seededRandom } from '../../../gpu-origin/generation/sampler.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';

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
const COMMON =
  'the same beginning of many prompts, which is longer than a chunk of one hundred and twenty-eight tokens, so that it is kept and found again. ';

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
  {
    name: 'look',
    parameters: {
      type: 'object',
      properties: { at: { enum: [1, 2, 3] } },
      required: ['at'],
      additionalProperties: false,
    },
    strict: true,
  },
];

function sampling(random: Random): Record<string, unknown> {
  return {
    ...(random.chance(0.5)
      ? { temperature: 0 }
      : { temperature: 0.3 + random.next(), seed: random.below(1e6) }),
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
    if (which === 0)
      return {
        response_format: { type: 'json_schema', json_schema: { name: 's', schema: SCHEMA, strict: true } },
      };
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
      const messages = Array.from({ length: 1 + random.below(3) }, (_, at) => ({
        role: at % 2 === 0 ? 'user' : 'assistant',
        content: promptText(random),
      }));
      if (messages.length === 2) messages.pop();
      return {
        path: '/v1/chat/completions',
        request: {
          ...common,
          ...tools,
          messages,
          max_tokens: most(random) + (tooled ? 60 : 0),
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
          ...common,
          ...form(),
          prompt,
          max_tokens: most(random),
          ...(echo ? { echo } : {}),
          ...(random.chance(0.4) ? { n: 1 + random.below(3) } : {}),
          ...(random.chance(0.4) ? { logprobs: random.below(4) } : {}),
        },
      };
    }
    if (kind < 7) {
      const tools = tooled
        ? {
            tools: FUNCTIONS.map((fn) => ({ type: 'function', ...fn })),
            tool_choice: random.of(['auto', 'required']),
          }
        : {};
      return {
        path: '/v1/responses',
        request: {
          ...common,
          ...tools,
          input: promptText(random),
          max_output_tokens: most(random) + (tooled ? 60 : 0),
          ...(random.chance(0.3)
            ? { top_logprobs: 1 + random.below(3), include: ['message.output_text.logprobs'] }
            : {}),
        },
      };
    }
    if (kind < 8) {
      const { top_k: k } = common as { top_k?: number };
      const tools = tooled
        ? {
            tools: FUNCTIONS.map(({ parameters, ...fn }) => ({ ...fn, input_schema: parameters })),
            tool_choice: { type: random.of(['auto', 'any']) },
          }
        : {};
      return {
        path: '/v1/messages',
        request: {
          model: 'tiny',
          temperature: 0,
          ...(k === undefined ? {} : { top_k: k }),
          ...tools,
          messages: [{ role: 'user', content: promptText(random) }],
          max_tokens: most(random) + (tooled ? 60 : 0),
        },
      };
    }
    const input = random.chance(0.5)
      ? Array.from({ length: 1 + random.below(5) }, () => promptText(random))
      : promptText(random);
    return {
      path: '/v1/embeddings',
      request: { model: 'tiny', input, ...(random.chance(0.5) ? { pooling: 'last' } : {}) },
    };
  };
  return {
    ...asked(),
    chain: random.chance(0.2) ? [] : random.of(chains),
    tenant: `tenant-${random.below(4)}`,
  };
}
