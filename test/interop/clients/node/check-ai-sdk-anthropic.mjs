/** npm's ai with @ai-sdk/anthropic. */
import assert from 'node:assert/strict';
import { createAnthropic } from '@ai-sdk/anthropic';
import { APICallError, generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai';
import { API_KEY, BASE_URL, CITY, MODEL, NotThere, TOO_LONG, fails, run } from './checks.mjs';

const providerOf = (apiKey) => createAnthropic({ baseURL: BASE_URL, apiKey });
const settings = { model: providerOf(API_KEY)(MODEL), maxRetries: 0 };
const hello = { role: 'user', content: 'Hello' };
const weather = tool({ inputSchema: jsonSchema(CITY), execute: ({ city }) => `18 degrees in ${city}` });

await run({
  async chat() {
    assert.equal((await generateText({ ...settings, prompt: 'Hello' })).text, 'Hi there.');
  },
  async stream() {
    assert.equal(await streamText({ ...settings, prompt: 'Hello' }).text, 'Hi there.');
  },
  async second_turn() {
    const { response } = await generateText({ ...settings, messages: [hello] });
    const messages = [hello, ...response.messages, { role: 'user', content: 'And again?' }];
    assert.equal((await generateText({ ...settings, messages })).text, 'Still here.');
  },
  async schema() {
    const output = Output.object({ schema: jsonSchema(CITY) });
    const answer = await generateText({ ...settings, prompt: 'Call json', output });
    assert.deepEqual(answer.output, { city: 'Rome' });
  },
  async tools() {
    const ask = { ...settings, prompt: 'Weather in Paris?', tools: { weather }, stopWhen: stepCountIs(3) };
    assert.equal((await generateText(ask)).text, 'It is 18 degrees.');
    assert.equal((await streamText(ask).steps).at(-1).text, 'It is 18 degrees.');
  },
  async embeddings() {
    throw new NotThere('Anthropic has none');
  },
  async errors() {
    const full = await fails(() => generateText({ ...settings, prompt: TOO_LONG }));
    assert.ok(APICallError.isInstance(full) && full.statusCode === 400 && !full.isRetryable);
    const nobody = { ...settings, model: providerOf(API_KEY)('nobody'), prompt: 'Hello' };
    assert.equal((await fails(() => generateText(nobody))).statusCode, 404);
    const stranger = { ...settings, model: providerOf('sk-nobody')(MODEL), prompt: 'Hello' };
    assert.equal((await fails(() => generateText(stranger))).statusCode, 401);
  },
});
