import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startTestOrigin, type Origin } from './harness.ts';

/** Fields that the client's types do not know are passed on. */
const OWN_FIELDS: object = { ignore_eos: true };

/** The official client against the origin: its requirements for streams, errors and lists. */
describe('openai', () => {
  let origin: Origin;
  let client: OpenAI;
  beforeAll(async () => {
    origin = await startTestOrigin();
    client = new OpenAI({ baseURL: `${origin.url}/v1`, apiKey: 'none', maxRetries: 0 });
  });
  afterAll(() => origin.stop());

  const ask = {
    model: 'alice/notes',
    messages: [{ role: 'user' as const, content: 'hello' }],
    max_tokens: 8,
    temperature: 0,
  };

  it('gets a whole answer', async () => {
    const answer = await client.chat.completions.create(ask);
    expect(answer.choices[0]?.message.role).toBe('assistant');
    expect(answer._request_id).toMatch(/^req_/);
  });

  it('streams: chunks, the helper that assembles them, usage', async () => {
    const whole = await client.chat.completions.create(ask);
    let text = '';
    for await (const chunk of await client.chat.completions.create({ ...ask, stream: true }))
      text += chunk.choices[0]?.delta.content ?? '';
    expect(text).toBe(whole.choices[0]?.message.content);
    const runner = client.chat.completions.stream({ ...ask, stream_options: { include_usage: true } });
    const final = await runner.finalChatCompletion();
    expect(final.choices[0]?.message.content).toBe(text);
    expect(final.choices[0]?.finish_reason).toBe(whole.choices[0]?.finish_reason);
    expect(final.usage).toEqual(whole.usage);
  });

  it('completes texts, streamed too', async () => {
    const params = { model: 'base', prompt: 'hello', max_tokens: 5, temperature: 0 };
    const whole = await client.completions.create(params);
    let text = '';
    for await (const chunk of await client.completions.create({ ...params, stream: true }))
      text += chunk.choices[0]?.text ?? '';
    expect(text).toBe(whole.choices[0]?.text);
  });

  it('lists models and gets one whose id has slashes', async () => {
    const ids = (await client.models.list()).data.map((model) => model.id);
    expect(ids).toEqual(['fake', 'alice/notes']);
    expect((await client.models.retrieve('alice/notes')).id).toBe('alice/notes');
    const raw = await fetch(`${origin.url}/v1/models/alice/notes`);
    expect(await raw.json()).toMatchObject({
      id: 'alice/notes',
      object: 'model',
      created: 0,
      owned_by: 'graft',
    });
  });

  it('turns errors into its classes', async () => {
    await expect(client.models.retrieve('nobody')).rejects.toBeInstanceOf(OpenAI.NotFoundError);
    const bad = client.chat.completions.create({ ...ask, temperature: 3 });
    await expect(bad).rejects.toBeInstanceOf(OpenAI.BadRequestError);
    await expect(bad).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'temperature',
      type: 'invalid_request_error',
    });
    await expect(
      client.chat.completions.create({ ...ask, functions: [{ name: 'f' }] }),
    ).rejects.toMatchObject({
      code: 'unsupported_parameter',
    });
    await expect(client.moderations.create({ input: 'x' })).rejects.toBeInstanceOf(OpenAI.NotFoundError);
  });

  it('throws on an error in the middle of a stream', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    let steps = 0;
    const failing = await startTestOrigin({
      runner: {
        duringStep: async () => {
          steps += 1;
          if (steps === 4) {
            await held;
            throw new Error('the model broke');
          }
        },
      },
    });
    try {
      const other = new OpenAI({ baseURL: `${failing.url}/v1`, apiKey: 'none', maxRetries: 0 });
      const stream = await other.chat.completions.create({ ...ask, model: 'base', stream: true });
      const read = (async () => {
        for await (const _chunk of stream) release();
      })();
      await expect(read).rejects.toBeInstanceOf(OpenAI.APIError);
      expect(failing.faults).toHaveLength(1);
    } finally {
      await failing.stop();
    }
  });

  it('is told to retry when the queue is full', async () => {
    let release = (): void => undefined;
    const held = new Promise<void>((resolve) => (release = resolve));
    const busy = await startTestOrigin({ maxQueue: 1, runner: { slots: 1, duringStep: () => held } });
    try {
      const other = new OpenAI({ baseURL: `${busy.url}/v1`, apiKey: 'none', maxRetries: 0 });
      const waiting = [];
      for (const busyRows of [1, 2]) {
        waiting.push(other.chat.completions.create({ ...ask, model: 'base' }));
        await expect.poll(() => busy.engine.stats().running + busy.engine.stats().waiting).toBe(busyRows);
      }
      const refused = other.chat.completions.create({ ...ask, model: 'base' });
      await expect(refused).rejects.toBeInstanceOf(OpenAI.RateLimitError);
      await refused.catch((error: InstanceType<typeof OpenAI.APIError>) => {
        expect(error.code).toBe('queue_full');
        expect(error.headers?.get('x-should-retry')).toBe('true');
        expect(Number(error.headers?.get('retry-after'))).toBeGreaterThanOrEqual(1);
      });
      release();
      await Promise.all(waiting);
    } finally {
      release();
      await busy.stop();
    }
  });

  it('frees the row when it disconnects', async () => {
    const origin = await startTestOrigin({ runner: { context: 100_000 } });
    try {
      const other = new OpenAI({ baseURL: `${origin.url}/v1`, apiKey: 'none', maxRetries: 0 });
      const stream = await other.chat.completions.create({
        ...ask,
        model: 'base',
        max_tokens: 50_000,
        stream: true,
        ...OWN_FIELDS,
      });
      for await (const _chunk of stream) break;
      await expect.poll(() => origin.engine.stats().running).toBe(0);
      expect(await origin.context.metrics.text()).toContain(
        'graft_requests_finished_total{outcome="aborted"} 1',
      );
    } finally {
      await origin.stop();
    }
  });
});
