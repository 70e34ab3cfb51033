import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** What the official client makes of refusals, and when it asks again. */
describe('openai (npm) and errors, through the edge', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  beforeAll(async () => {
    stack = await startConformanceStack({ corsOrigins: ['*'] });
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  const own: object = { ignore_eos: true };
  const ask = {
    model: ADAPTER,
    messages: [{ role: 'user' as const, content: 'hello' }],
    max_tokens: 8,
    temperature: 0,
    ...own,
  };

  it('gets its errors as its classes, with code, param and request id', async () => {
    const refused = client.chat.completions.create({ ...ask, temperature: 3 });
    await expect(refused).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(refused).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'temperature',
      type: 'invalid_request_error',
      requestID: expect.stringMatching(/./),
    });
    const stranger = new OpenAI({ baseURL: stack.baseURL, apiKey: 'sk-nobody', maxRetries: 0 });
    await expect(stranger.models.list()).rejects.toBeInstanceOf(OpenAI.AuthenticationError);
    const { response, request_id } = await client.chat.completions.create(ask).withResponse();
    expect(response.headers.get('x-request-id')).toBe(request_id);
    expect(response.headers.get('x-graft-adapter')).toBe(`${ADAPTER}@1`);
  });

  it.each([
    ['where it fits no context', 'x'.repeat(5_000)],
    ['where it leaves no room for an answer', 'x'.repeat(512)],
  ])('says that a prompt is too long in the words that clients look for, %s', async (_what, prompt) => {
    const refused = client.completions.create({ model: ADAPTER, prompt, max_tokens: 8 });
    await expect(refused).rejects.toMatchObject({ code: 'context_length_exceeded' });
    for (const words of [
      "This model's maximum context length is 512 tokens", // LiteLLM, Pydantic AI, LangChain's JavaScript
      'prompt is too long', // LangChain's Python, Anthropic's API
    ])
      await expect(refused).rejects.toThrow(words);
  });

  it.each<[string, (client: OpenAI) => Promise<unknown>]>([
    ['moderations', (c) => c.moderations.create({ input: 'x' })],
    ['speech', (c) => c.audio.speech.create({ model: ADAPTER, input: 'x', voice: 'alloy' })],
    ['images', (c) => c.images.generate({ prompt: 'x' })],
    ['vector stores', (c) => c.vectorStores.list()],
    ['batches', (c) => c.batches.list()],
  ])('is told what there is instead of %s', async (_what, call) => {
    const called = call(client);
    await expect(called).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    await expect(called).rejects.toMatchObject({
      code: 'unknown_url',
      message: expect.stringContaining('/v1/chat/completions'),
    });
  });

  it.each<[string, string, number]>([
    ['GET', '/models', 200],
    ['GET', '/models/nobody', 404],
    ['GET', '/chat/completions', 405],
    ['POST', '/chat/completions', 400],
    ['POST', '/embeddings', 400],
    ['GET', '/responses/resp_1', 404],
    ['OPTIONS', '/models', 204],
  ])("%s %s has a request id, the client's if it has one", async (method, path, status) => {
    const headers = { authorization: `Bearer ${stack.apiKey}`, 'x-request-id': 'mine-1' };
    const named = await fetch(stack.baseURL + path, { method, headers });
    expect([named.status, named.headers.get('x-request-id')]).toEqual([status, 'mine-1']);
    const plain = await fetch(stack.baseURL + path, { method });
    expect(plain.headers.get('x-request-id')).toMatch(/.{8,}/);
  });

  it('finds the request id in the log of the origin', async () => {
    const failing = await startConformanceStack({
      runner: {
        duringStep: () => {
          throw new Error('the model broke');
        },
      },
    });
    try {
      const failure = await clientOf(failing)
        .chat.completions.create(ask, { headers: { 'x-request-id': 'mine-2' } })
        .catch((error: unknown) => error);
      expect(failure).toMatchObject({ status: 500, requestID: 'mine-2' });
      expect(failing.origin.faults).toMatchObject([{ requestIds: ['mine-2'] }]);
    } finally {
      await failing.stop();
    }
  });

  describe('retries', () => {
    it('come back while the queue is full, and then get their answer', async () => {
      const { opened, open } = gate();
      const busy = await startConformanceStack({
        maxQueue: 1,
        runner: { slots: 1, duringStep: () => opened },
      });
      try {
        const first = [];
        for (const rows of [1, 2]) {
          first.push(clientOf(busy).chat.completions.create(ask));
          await expect
            .poll(() => busy.origin.engine.stats().running + busy.origin.engine.stats().waiting)
            .toBe(rows);
        }
        let asked = 0;
        const patient = new OpenAI({
          baseURL: busy.baseURL,
          apiKey: busy.apiKey,
          maxRetries: 2,
          fetch: async (url, init) => {
            asked += 1;
            const response = await fetch(url, init);
            if (response.status === 429) {
              expect(response.headers.get('x-should-retry')).toBe('true');
              expect(Number(response.headers.get('retry-after-ms'))).toBeGreaterThan(0);
              open();
            }
            return response;
          },
        });
        expect((await patient.chat.completions.create(ask)).usage?.completion_tokens).toBe(8);
        expect(asked).toBe(2);
        await Promise.all(first);
      } finally {
        open();
        await busy.stop();
      }
    });

    it('do not happen where they cannot help', async () => {
      let asked = 0;
      const eager = new OpenAI({
        baseURL: stack.baseURL,
        apiKey: stack.apiKey,
        maxRetries: 5,
        fetch: (url, init) => {
          asked += 1;
          return fetch(url, init);
        },
      });
      await expect(eager.chat.completions.create({ ...ask, model: 'nobody' })).rejects.toBeInstanceOf(
        OpenAI.NotFoundError,
      );
      expect(asked).toBe(1);
      const small = await startConformanceStack({ maxQueue: 1, runner: { slots: 1 } });
      try {
        asked = 0;
        const { baseURL, apiKey } = small;
        const many = eager.withOptions({ baseURL, apiKey });
        await expect(many.chat.completions.create({ ...ask, n: 5 })).rejects.toMatchObject({
          code: 'queue_full',
        });
        expect(asked).toBe(1);
      } finally {
        await small.stop();
      }
    });
  });

  it('may ask from a page in a browser when the edge allows it, with its own headers', async () => {
    const preflight = await fetch(`${stack.baseURL}/chat/completions`, {
      method: 'OPTIONS',
      headers: {
        origin: 'https://example.org',
        'access-control-request-method': 'POST',
        'access-control-request-headers':
          'authorization,content-type,x-stainless-lang,x-stainless-retry-count',
      },
    });
    expect(preflight.status).toBe(204);
    expect(preflight.headers.get('access-control-allow-origin')).toBe('*');
    expect(preflight.headers.get('access-control-allow-headers')).toContain('x-stainless-retry-count');
    const answer = await fetch(`${stack.baseURL}/models`, { headers: { origin: 'https://example.org' } });
    expect(answer.status).toBe(401);
    expect(answer.headers.get('access-control-allow-origin')).toBe('*');
    expect(answer.headers.get('access-control-expose-headers')).toContain('x-request-id');
    const admin = await fetch(stack.baseURL.replace('/v1', '/admin/keys'), { method: 'OPTIONS' });
    expect(admin.headers.get('access-control-allow-origin')).toBeNull();
  });
});

function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}
