/** Fields of a request that its answer repeats: large ones must not take an origin out of service. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseChatCompletion, parseTextCompletion } from '../../protocol/completion.ts';
import { parseResponse } from '../../protocol/responses.ts';
import { startTestOrigin, type Origin } from '../gpu-origin/http/harness.ts';

const TOKENS = 400_000;

describe('a stream of responses that repeats its request', () => {
  let origin: Origin;
  beforeAll(async () => {
    origin = await startTestOrigin({ runner: { context: TOKENS, chunk: 8_192 } });
  });
  afterAll(() => origin.stop());
  const ask = (fields: object) =>
    fetch(`${origin.url}/v1/responses`, {
      method: 'POST',
      body: JSON.stringify({
        model: 'alice/notes',
        input: 'a',
        stream: true,
        max_output_tokens: 4,
        ...fields,
      }),
    });

  it('is whole, with 300 kB of instructions in it three times', async () => {
    const response = await ask({ instructions: 'ab '.repeat(100_000), ignore_eos: true });
    expect(response.status).toBe(200);
    const text = await response.text();
    expect(text.length).toBeGreaterThan(900_000);
    expect(text).toMatch(/\nevent: response\.incomplete\ndata: .*\n\n$/);
  });

  it.each(['prompt_cache_key', 'safety_identifier', 'user'])(
    'is refused for a %s of 300 kB',
    async (field) => {
      const response = await ask({ [field]: 'x'.repeat(300_000) });
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: { code: 'invalid_request', param: field } });
    },
  );
});

it.each([
  ['safety_identifier', 64],
  ['user', 512],
])('%s has at most %i characters everywhere', (field, most) => {
  const bodies = [
    [parseChatCompletion, { model: 'm', messages: [{ role: 'user', content: 'a' }] }],
    [parseTextCompletion, { model: 'm', prompt: 'a' }],
    [parseResponse, { model: 'm', input: 'a' }],
  ] as const;
  for (const [parse, body] of bodies) {
    expect(parse({ ...body, [field]: 'x'.repeat(most) }).ok).toBe(true);
    expect(parse({ ...body, [field]: 'x'.repeat(most + 1) })).toMatchObject({
      ok: false,
      error: { code: 'invalid_request', param: field },
    });
  }
});

it.each(['prompt_cache_key', 'service_tier', 'metadata'])(
  '%s goes no further where nothing repeats it',
  (field) => {
    const parsed = parseTextCompletion({ model: 'm', prompt: 'a', [field]: 'x'.repeat(300_000) });
    expect(parsed).toEqual({ ok: true, value: { request: { model: 'm', prompt: 'a' }, ignored: [field] } });
  },
);
