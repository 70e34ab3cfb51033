import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ChatCompletion, PromptLogprobs, TextCompletion } from '../../../protocol/completion-answers.ts';
import { startTestOrigin, type Origin } from './harness.ts';

describe('prompt_logprobs', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin();
  });
  afterAll(() => origin.stop());

  const post = (path: string, fields: object) =>
    fetch(`${origin.url}/v1/${path}`, {
      method: 'POST',
      body: JSON.stringify({ model: 'fake', temperature: 0, max_tokens: 2, ...fields }),
    });
  const text = async (fields: object) => (await (await post('completions', fields)).json()) as TextCompletion;
  const prompt = [5, 6, 7, 8];

  it('equal those of an echo, and have ranks', async () => {
    const plain = await text({ prompt });
    const echoed = await text({ prompt, echo: true, logprobs: 2 });
    const scored = await text({ prompt, prompt_logprobs: 2 });
    const [choice] = scored.choices;
    expect({ ...choice, prompt_logprobs: undefined }).toEqual({
      ...plain.choices[0],
      prompt_logprobs: undefined,
    });
    const own = choice!.prompt_logprobs!;
    expect(own[0]).toBeNull();
    expect(own).toHaveLength(prompt.length);
    const wanted = echoed.choices[0]!.logprobs!.token_logprobs;
    for (const [at, id] of prompt.entries()) {
      if (at === 0) continue;
      expect(own[at]![id]!.logprob).toBe(wanted[at]);
      const ranks = Object.values(own[at]!).map(({ rank }) => rank);
      expect(ranks).toContain(1);
      expect(ranks).toContain(2);
      expect(Object.keys(own[at]!).length).toBe(own[at]![id]!.rank <= 2 ? 2 : 3);
    }
  });

  it('work along with an echo, each with its own number of alternatives', async () => {
    const alone = await text({ prompt, echo: true, logprobs: 1 });
    const both = await text({ prompt, echo: true, logprobs: 1, prompt_logprobs: 5 });
    expect(both.choices[0]!.logprobs).toEqual(alone.choices[0]!.logprobs);
    expect(Object.keys(both.choices[0]!.prompt_logprobs![1]!).length).toBeGreaterThanOrEqual(5);
    const few = await text({ prompt, echo: true, logprobs: 5, prompt_logprobs: 0 });
    expect(Object.keys(few.choices[0]!.prompt_logprobs![1]!)).toEqual([String(prompt[1])]);
  });

  it('work for each prompt of a list, and for a chat', async () => {
    const list = await text({ prompt: [prompt, [9, 5]], prompt_logprobs: 1, n: 2 });
    expect(list.choices.map(({ prompt_logprobs: scores }) => scores!.length)).toEqual([4, 4, 2, 2]);
    const messages = [{ role: 'user', content: 'hello' }];
    const answer = (await (
      await post('chat/completions', { messages, prompt_logprobs: 1 })
    ).json()) as ChatCompletion;
    const scores: PromptLogprobs = answer.prompt_logprobs!;
    expect(scores).toHaveLength(answer.usage.prompt_tokens);
    expect(scores[0]).toBeNull();
    expect(Object.values(scores[1]!)[0]).toEqual({
      logprob: expect.any(Number) as number,
      rank: expect.any(Number) as number,
      decoded_token: expect.any(String) as string,
    });
    const plain = (await (await post('chat/completions', { messages })).json()) as object;
    expect(plain).not.toHaveProperty('prompt_logprobs');
  });

  it.each<[object, string]>([
    [{ prompt, prompt_logprobs: -1 }, 'invalid_request'],
    [{ prompt, prompt_logprobs: 1, stream: true }, 'invalid_request'],
  ])('refuses %j', async (fields, code) => {
    const response = await post('completions', fields);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code, param: 'prompt_logprobs' } });
  });

  it('lowers values beyond 20', async () => {
    const response = await post('completions', { prompt, prompt_logprobs: 50 });
    expect(response.headers.get('x-graft-ignored')).toBe('prompt_logprobs=20');
  });
});
