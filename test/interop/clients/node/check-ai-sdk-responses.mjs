/** npm's ai with @ai-sdk/openai, which asks by responses unless it is told otherwise. */
import assert from 'node:assert/strict';
import { createOpenAI } from '@ai-sdk/openai';
import { APICallError, embedMany, generateText, jsonSchema, Output, stepCountIs, streamText, tool } from 'ai';
import { API_KEY, BASE_URL, CITY, MODEL, TOO_LONG, fails, run } from './checks.mjs';

const providerOf = (apiKey) => createOpenAI({ baseURL: BASE_URL, apiKey });
const stateless = { openai: { store: false } };
const settings = { model: providerOf(API_KEY)(MODEL), maxRetries: 0, providerOptions: stateless };
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
    const stored = await fails(() => generateText({ ...settings, messages, providerOptions: {} }));
    assert.match(stored.message, /store: false/);
    return 'with store: false in providerOptions.openai; otherwise it sends answers by their ids, which is refused';
  },
  async schema() {
    const output = Output.object({ schema: jsonSchema(CITY) });
    const answer = await generateText({ ...settings, prompt: 'Describe a city', output });
    assert.deepEqual(answer.output, { city: 'Rome' });
  },
  async tools() {
    const ask = { ...settings, prompt: 'Weather in Paris?', tools: { weather }, stopWhen: stepCountIs(3) };
    assert.equal((await generateText(ask)).text, 'It is 18 degrees.');
    assert.equal((await streamText(ask).steps).at(-1).text, 'It is 18 degrees.');
  },
  async embeddings() {
    const model = providerOf(API_KEY).embeddingModel(MODEL);
    const { embeddings } = await embedMany({ model, values: ['one', 'two', 'one'], maxRetries: 0 });
    assert.deepEqual(embeddings[0], embeddings[2]);
  },
  async errors() {
    const full = await fails(() => generateText({ ...settings, prompt: TOO_LONG }));
    assert.ok(APICallError.isInstance(full) && full.statusCode === 400 && !full.isRetryable);
    assert.equal(full.data.error.code, 'context_length_exceeded');
    const nobody = { ...settings, model: providerOf(API_KEY)('nobody'), prompt: 'Hello' };
    assert.equal((await fails(() => generateText(nobody))).statusCode, 404);
    const stranger = { ...settings, model: providerOf('sk-nobody')(MODEL), prompt: 'Hello' };
    assert.equal((await fails(() => generateText(stranger))).statusCode, 401);
  },
});
