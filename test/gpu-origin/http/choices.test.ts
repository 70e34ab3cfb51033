import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ErrorBody } from '../../../protocol/api-error.ts';
import type {
  ChatCompletion,
  ChatCompletionChunk,
  TextCompletion,
} from '../../../protocol/completion-answers.ts';
import { events, startTestOrigin, type Origin } from './harness.ts';

describe('n', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin();
  });
  afterAll(() => origin.stop());

  const post = (path: string, body: object, from = origin) =>
    fetch(from.url + path, { method: 'POST', body: JSON.stringify(body) });
  const chat = async (fields: object) =>
    (await (
      await post('/v1/chat/completions', {
        model: 'fake',
        messages: [{ role: 'user', content: 'hello' }],
        max_tokens: 6,
        ignore_eos: true,
        seed: 7,
        ...fields,
      })
    ).json()) as ChatCompletion;
  const text = { model: 'fake', prompt: 'hello world', max_tokens: 6, ignore_eos: true, seed: 7 };
  const chunksOf = async <T>(path: string, body: object) => {
    const data = events(await (await post(path, { ...body, stream: true })).text());
    expect(data.pop()).toBe('[DONE]');
    return data.map((one) => JSON.parse(one) as T);
  };

  it('returns as many choices, each equal to its seed’s own answer; the prompt counts once', async () => {
    const one = await chat({});
    const four = await chat({ n: 4, logprobs: true });
    expect(four.choices.map((choice) => choice.index)).toEqual([0, 1, 2, 3]);
    for (const [index, choice] of four.choices.entries()) {
      const alone = await chat({ seed: 7 + index, logprobs: true });
      expect({ ...choice, index: 0 }).toEqual(alone.choices[0]);
    }
    expect(four.usage.prompt_tokens).toBe(one.usage.prompt_tokens);
    expect(four.usage.completion_tokens).toBe(24);
    expect(four.usage.total_tokens).toBe(one.usage.prompt_tokens + 24);
  });

  it.each([{}, { logprobs: true, top_logprobs: 2 }])(
    'streams chats with the same text as whole answers: %j',
    async (fields) => {
      const whole = await chat({ n: 3, ...fields });
      const chunks = await chunksOf<ChatCompletionChunk>('/v1/chat/completions', {
        model: 'fake',
        messages: [{ role: 'user', content: 'hello' }],
        max_tokens: 6,
        ignore_eos: true,
        seed: 7,
        n: 3,
        stream_options: { include_usage: true },
        ...fields,
      });
      expect(chunks.pop()).toMatchObject({ choices: [], usage: whole.usage });
      for (const [index, choice] of whole.choices.entries()) {
        const own = chunks.flatMap((chunk) => chunk.choices).filter((one) => one.index === index);
        expect(own[0]?.delta.role).toBe('assistant');
        expect(own.map((one) => one.delta.content ?? '').join('')).toBe(choice.message.content);
        expect(own.flatMap((one) => one.logprobs?.content ?? [])).toEqual(choice.logprobs?.content ?? []);
        expect(own.map((one) => one.finish_reason).filter((reason) => reason !== null)).toEqual(['length']);
      }
    },
  );

  it.each([{}, { echo: true }, { echo: true, logprobs: 1 }, { logprobs: 2 }])(
    'streams texts with the same text as whole answers: %j',
    async (fields) => {
      const body = { ...text, n: 3, ...fields };
      const whole = (await (await post('/v1/completions', body)).json()) as TextCompletion;
      expect(whole.choices).toHaveLength(3);
      const choices = (await chunksOf<TextCompletion>('/v1/completions', body)).flatMap((one) => one.choices);
      for (const choice of whole.choices) {
        const own = choices.filter((one) => one.index === choice.index);
        expect(own.map((one) => one.text).join('')).toBe(choice.text);
        expect(own.flatMap((one) => one.logprobs?.tokens ?? [])).toEqual(choice.logprobs?.tokens ?? []);
        expect(own.flatMap((one) => one.logprobs?.text_offset ?? [])).toEqual(
          choice.logprobs?.text_offset ?? [],
        );
      }
    },
  );

  it('ends all rows when the client disconnects', async () => {
    const roomy = await startTestOrigin({ runner: { context: 100_000 } });
    try {
      const gone = new AbortController();
      const response = await fetch(`${roomy.url}/v1/completions`, {
        method: 'POST',
        signal: gone.signal,
        body: JSON.stringify({ ...text, n: 6, max_tokens: 50_000, stream: true }),
      });
      await response.body?.getReader().read();
      gone.abort();
      await expect.poll(() => roomy.engine.stats().running + roomy.engine.stats().waiting).toBe(0);
      expect(await roomy.context.metrics.text()).toContain(
        'graft_requests_finished_total{outcome="aborted"} 6',
      );
    } finally {
      await roomy.stop();
    }
  });

  it('fails as a whole if one row does', async () => {
    let steps = 0;
    const failing = await startTestOrigin({
      runner: {
        duringStep: (step) => {
          steps += 1;
          if (step.kind === 'decode' && steps > 12) throw new Error('the model broke');
        },
      },
    });
    try {
      const whole = await post('/v1/completions', { ...text, n: 3, max_tokens: 400 }, failing);
      expect([whole.status, ((await whole.json()) as ErrorBody).error.code]).toEqual([500, 'internal_error']);
      steps = 0;
      const streamed = await post(
        '/v1/completions',
        { ...text, n: 3, max_tokens: 400, stream: true },
        failing,
      );
      const data = events(await streamed.text());
      expect(JSON.parse(data.at(-1)!)).toMatchObject({ error: { code: 'internal_error' } });
      await expect.poll(() => failing.engine.stats().running).toBe(0);
    } finally {
      await failing.stop();
    }
  });

  it('is refused without a time to retry if it can never fit', async () => {
    const small = await startTestOrigin({ maxQueue: 2, runner: { slots: 2 } });
    try {
      const refused = await post('/v1/completions', { ...text, n: 5 }, small);
      expect(refused.status).toBe(429);
      expect(refused.headers.get('x-should-retry')).toBe('false');
      expect(refused.headers.get('retry-after')).toBeNull();
      expect(await refused.json()).toMatchObject({ error: { code: 'queue_full' } });
      expect((await post('/v1/completions', { ...text, n: 4 }, small)).status).toBe(200);
    } finally {
      await small.stop();
    }
  });

  it.each(['/v1/chat/completions', '/v1/completions', '/v1/responses'])(
    '%s rejects a token of logit_bias that the model does not have',
    async (path) => {
      const ask = { model: 'fake', messages: [{ role: 'user', content: 'a' }], prompt: 'a', input: 'a' };
      const [field] = path.includes('chat') ? ['messages'] : path.includes('resp') ? ['input'] : ['prompt'];
      const body = { model: 'fake', [field as keyof typeof ask]: ask[field as keyof typeof ask] };
      const good = await post(path, { ...body, logit_bias: { '5': 100 } });
      expect(good.status).toBe(200);
      const bad = await post(path, { ...body, logit_bias: { '5': 1, '999999': 1 } });
      expect(bad.status).toBe(400);
      expect(bad.headers.get('x-should-retry')).toBe('false');
      expect(await bad.json()).toMatchObject({
        error: { code: 'invalid_request', param: 'logit_bias.999999' },
      });
    },
  );

  it('follows logit_bias', async () => {
    const bias = { max_tokens: 3, temperature: 0, logit_bias: { '5': 100 }, logprobs: 0 };
    const body = (await (await post('/v1/completions', { ...text, ...bias })).json()) as TextCompletion;
    expect(new Set(body.choices[0]?.logprobs?.tokens).size).toBe(1);
  });

  it('leaves nothing behind', () => {
    expect(origin.faults).toEqual([]);
    expect(origin.runner.misuses).toEqual([]);
    expect(origin.engine.stats().running).toBe(0);
  });
});
