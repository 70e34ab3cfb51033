/** npm's @anthropic-ai/sdk, whose base address is without /v1. */
import assert from 'node:assert/strict';
import Anthropic from '@anthropic-ai/sdk';
import { API_KEY, BASE_URL, CITY, MODEL, NotThere, TOO_LONG, fails, run } from './checks.mjs';

const options = { baseURL: BASE_URL.replace(/\/v1$/, ''), apiKey: API_KEY, maxRetries: 0 };
const client = new Anthropic(options);
const hello = { role: 'user', content: 'Hello' };
const ask = (body) => client.messages.create({ model: MODEL, max_tokens: 200, ...body });

await run({
  async chat() {
    const answer = await ask({ system: 'Be brief.', messages: [hello] });
    assert.deepEqual([answer.content[0].text, answer.stop_reason], ['Hi there.', 'end_turn']);
  },
  async stream() {
    const stream = client.messages.stream({ model: MODEL, max_tokens: 200, messages: [hello] });
    assert.equal(await stream.finalText(), 'Hi there.');
  },
  async second_turn() {
    const first = await ask({ messages: [hello] });
    const said = { role: 'assistant', content: first.content };
    const answer = await ask({ messages: [hello, said, { role: 'user', content: 'And again?' }] });
    assert.equal(answer.content[0].text, 'Still here.');
  },
  async schema() {
    const parsed = await client.messages.parse({
      model: MODEL,
      max_tokens: 200,
      messages: [{ role: 'user', content: 'Describe a city' }],
      output_config: { format: { type: 'json_schema', schema: CITY } },
    });
    assert.deepEqual(JSON.parse(parsed.content[0].text), { city: 'Rome' });
  },
  async tools() {
    const runner = client.beta.messages.toolRunner({
      model: MODEL,
      max_tokens: 200,
      messages: [{ role: 'user', content: 'Weather in Paris?' }],
      tools: [
        {
          name: 'weather',
          description: 'Of a city.',
          input_schema: CITY,
          parse: (input) => input,
          run: ({ city }) => `18 degrees in ${city}`,
        },
      ],
    });
    assert.equal((await runner).content[0].text, 'It is 18 degrees.');
  },
  embeddings() {
    throw new NotThere('');
  },
  async errors() {
    const full = await fails(() => ask({ messages: [{ role: 'user', content: TOO_LONG }] }));
    assert.ok(full instanceof Anthropic.BadRequestError);
    assert.ok(
      (await fails(() => ask({ model: 'nobody', messages: [hello] }))) instanceof Anthropic.NotFoundError,
    );
    const stranger = new Anthropic({ ...options, apiKey: 'sk-nobody' });
    const unknown = await fails(() =>
      stranger.messages.create({ model: MODEL, max_tokens: 8, messages: [hello] }),
    );
    assert.ok(unknown instanceof Anthropic.AuthenticationError);
  },
});
