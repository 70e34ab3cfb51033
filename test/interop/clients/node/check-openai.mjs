/** npm's openai; the version that this repository is tested with is in test/conformance. */
import assert from 'node:assert/strict';
import OpenAI from 'openai';
import { API_KEY, BASE_URL, CITY, MODEL, TOO_LONG, fails, run } from './checks.mjs';

const options = { baseURL: BASE_URL, apiKey: API_KEY, maxRetries: 0 };
const client = new OpenAI(options);
const hello = { role: 'user', content: 'Hello' };
const again = { role: 'user', content: 'And again?' };
const chatOf = (body) => client.chat.completions.create({ model: MODEL, ...body });

await run({
  async chat() {
    assert.equal((await chatOf({ messages: [hello] })).choices[0].message.content, 'Hi there.');
    const answer = await client.responses.create({ model: MODEL, input: 'Hello' });
    assert.equal(answer.output_text, 'Hi there.');
  },
  async stream() {
    const chat = client.chat.completions.stream({ model: MODEL, messages: [hello] });
    assert.equal((await chat.finalMessage()).content, 'Hi there.');
    const response = client.responses.stream({ model: MODEL, input: 'Hello' });
    assert.equal((await response.finalResponse()).output_text, 'Hi there.');
  },
  async second_turn() {
    const { message } = (await chatOf({ messages: [hello] })).choices[0];
    const answer = await chatOf({ messages: [hello, message, again] });
    assert.equal(answer.choices[0].message.content, 'Still here.');
    const first = await client.responses.create({ model: MODEL, input: [hello] });
    const second = await client.responses.create({ model: MODEL, input: [hello, ...first.output, again] });
    assert.equal(second.output_text, 'Still here.');
  },
  async schema() {
    const json_schema = { name: 'city', schema: CITY, strict: true };
    const parsed = await client.chat.completions.parse({
      model: MODEL,
      messages: [{ role: 'user', content: 'Describe a city' }],
      response_format: { type: 'json_schema', json_schema },
    });
    assert.deepEqual(parsed.choices[0].message.parsed, { city: 'Rome' });
  },
  async tools() {
    const runner = client.chat.completions.runTools({
      model: MODEL,
      messages: [{ role: 'user', content: 'Weather in Paris?' }],
      tools: [
        {
          type: 'function',
          function: {
            name: 'weather',
            parameters: CITY,
            parse: JSON.parse,
            function: ({ city }) => `18 degrees in ${city}`,
          },
        },
      ],
    });
    assert.equal(await runner.finalContent(), 'It is 18 degrees.');
  },
  async embeddings() {
    const { data } = await client.embeddings.create({ model: MODEL, input: ['one', 'two', 'one'] });
    assert.deepEqual(data[0].embedding, data[2].embedding);
    assert.ok(Math.abs(Math.hypot(...data[1].embedding) - 1) < 1e-5);
  },
  async errors() {
    const full = await fails(() => chatOf({ messages: [{ role: 'user', content: TOO_LONG }] }));
    assert.equal(full.code, 'context_length_exceeded');
    assert.ok(full instanceof OpenAI.BadRequestError);
    const missing = await fails(() => chatOf({ model: 'nobody', messages: [hello] }));
    assert.ok(missing instanceof OpenAI.NotFoundError);
    const stranger = new OpenAI({ ...options, apiKey: 'sk-nobody' });
    assert.ok((await fails(() => stranger.models.list())) instanceof OpenAI.AuthenticationError);
  },
});
