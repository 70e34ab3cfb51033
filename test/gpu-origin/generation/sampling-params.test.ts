import { describe, expect, it } from 'vitest';
import { GREEDY, samplingParamsOf } from '../../../gpu-origin/generation/sampling-params.ts';

const chat = { model: 'm', messages: [{ role: 'user' as const, content: 'hi' }] };
const text = { model: 'm', prompt: 'hi' };

describe('samplingParamsOf', () => {
  it('has the defaults of the API', () => {
    const defaults = { ...GREEDY, temperature: 1 };
    expect(samplingParamsOf(chat)).toEqual(defaults);
    expect(samplingParamsOf(text)).toEqual(defaults);
    expect(samplingParamsOf({ ...text, temperature: null, top_k: null, stop: null })).toEqual(defaults);
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
    [
      { ...text, seed: -7, ignore_eos: true, temperature: 0 },
      { seed: -7, ignoreEos: true, temperature: 0 },
    ],
  ])('%j', (request, wanted) => {
    expect(samplingParamsOf(request)).toMatchObject(wanted);
  });
});
