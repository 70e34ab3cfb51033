import { describe, expect, it } from 'vitest';
import { choiceSeeds, GREEDY, samplingParamsOf } from '../../../gpu-origin/generation/sampler.ts';

const chat = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }] };
const text = { model: 'm', prompt: 'hi' };

describe('samplingParamsOf', () => {
  it('has the defaults of the API', () => {
    const defaults = { ...GREEDY, temperature: 1 };
    expect(samplingParamsOf(chat)).toEqual(defaults);
    expect(samplingParamsOf(text)).toEqual({ ...defaults, maxTokens: 16 });
    expect(samplingParamsOf({ ...chat, temperature: null, top_k: null, stop: null })).toEqual(defaults);
  });

  it.each([
    [{ ...chat, top_k: -1 }, { topK: null }],
    [{ ...chat, top_k: 0 }, { topK: null }],
    [{ ...chat, top_k: 5 }, { topK: 5 }],
    [{ ...chat, stop: 'x' }, { stop: ['x'] }],
    [{ ...chat, stop: ['x', 'y'] }, { stop: ['x', 'y'] }],
    [{ ...chat, max_tokens: 3 }, { maxTokens: 3 }],
    [{ ...chat, max_tokens: 3, max_completion_tokens: 4 }, { maxTokens: 4 }],
    [{ ...text, max_tokens: 0 }, { maxTokens: 0 }],
    [{ ...chat, logprobs: true }, { logprobs: 0 }],
    [{ ...chat, logprobs: true, top_logprobs: 4 }, { logprobs: 4 }],
    [{ ...chat, top_logprobs: 4 }, { logprobs: null }],
    [{ ...text, logprobs: 2 }, { logprobs: 2 }],
    [{ ...text, logprobs: 0 }, { logprobs: 0 }],
    [{ ...text, min_p: 0.1 }, { minP: 0.1 }],
    [
      { ...chat, frequency_penalty: 0, presence_penalty: -0, repetition_penalty: 1, logit_bias: {} },
      { adjustments: null },
    ],
    [
      { ...chat, frequency_penalty: 1, logit_bias: { '3': -5 } },
      { adjustments: { bias: [[3, -5]], repetition: 1, frequency: 1, presence: 0 } },
    ],
    [
      { ...text, presence_penalty: -2, repetition_penalty: 1.1 },
      { adjustments: { bias: [], repetition: 1.1, frequency: 0, presence: -2 } },
    ],
    [
      { model: 'm', input: 'hi', max_output_tokens: 7, top_logprobs: 2 },
      { maxTokens: 7, logprobs: null },
    ],
    [
      { model: 'm', input: 'hi', include: ['message.output_text.logprobs' as const], top_logprobs: 2 },
      { logprobs: 2 },
    ],
    [
      { ...text, seed: -7, ignore_eos: true, temperature: 0 },
      { seed: -7, ignoreEos: true, temperature: 0 },
    ],
  ])('%j', (request, wanted) => {
    expect(samplingParamsOf(request)).toMatchObject(wanted);
  });
});

describe('choiceSeeds', () => {
  it('counts up from the seed, and never repeats one', () => {
    expect(choiceSeeds(null, 2)).toEqual([null, null]);
    expect(choiceSeeds(5, 3)).toEqual([5, 6, 7]);
    expect(choiceSeeds(-1, 3)).toEqual([-1, 0, 1]);
    expect(choiceSeeds(Number.MAX_SAFE_INTEGER - 1, 4)).toEqual([
      Number.MAX_SAFE_INTEGER - 1,
      Number.MAX_SAFE_INTEGER,
      0,
      1,
    ]);
  });
});
