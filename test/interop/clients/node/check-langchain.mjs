/** npm's @langchain/openai, by chat completions and by responses. */
import assert from 'node:assert/strict';
import { HumanMessage, ToolMessage } from '@langchain/core/messages';
import { tool } from '@langchain/core/tools';
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai';
import { API_KEY, BASE_URL, CITY, MODEL, TOO_LONG, fails, run } from './checks.mjs';

const settings = { model: MODEL, apiKey: API_KEY, maxRetries: 0, configuration: { baseURL: BASE_URL } };
const byChat = new ChatOpenAI(settings);
const both = [byChat, new ChatOpenAI({ ...settings, useResponsesApi: true })];
const weather = tool(({ city }) => `18 degrees in ${city}`, {
  name: 'weather',
  description: 'Of a city.',
  schema: CITY,
});

await run({
  async chat() {
    for (const model of both) assert.equal((await model.invoke('Hello')).text, 'Hi there.');
  },
  async stream() {
    for (const model of both) {
      let text = '';
      for await (const chunk of await model.stream('Hello')) text += chunk.text;
      assert.equal(text, 'Hi there.');
    }
  },
  async second_turn() {
    for (const model of both) {
      const said = await model.invoke('Hello');
      const messages = [new HumanMessage('Hello'), said, new HumanMessage('And again?')];
      assert.equal((await model.invoke(messages)).text, 'Still here.');
    }
  },
  async schema() {
    for (const model of both) {
      const held = model.withStructuredOutput(CITY, { name: 'City', method: 'jsonSchema' });
      assert.deepEqual(await held.invoke('Describe a city'), { city: 'Rome' });
    }
    const called = byChat.withStructuredOutput(CITY, { name: 'City', method: 'functionCalling' });
    assert.deepEqual(await called.invoke('Call with a city'), { city: 'Rome' });
  },
  async tools() {
    for (const model of both) {
      const bound = model.bindTools([weather]);
      const question = new HumanMessage('Weather in Paris?');
      const message = await bound.invoke([question]);
      const [call] = message.tool_calls;
      assert.deepEqual([call.name, call.args], ['weather', { city: 'Paris' }]);
      const result = new ToolMessage({ content: await weather.invoke(call.args), tool_call_id: call.id });
      assert.equal((await bound.invoke([question, message, result])).text, 'It is 18 degrees.');
    }
  },
  async embeddings() {
    const embedder = new OpenAIEmbeddings(settings);
    const [first, second] = await embedder.embedDocuments(['one', 'two']);
    assert.deepEqual(await embedder.embedQuery('one'), first);
    assert.equal(first.length, second.length);
  },
  async errors() {
    for (const model of both)
      assert.equal((await fails(() => model.invoke(TOO_LONG))).name, 'ContextOverflowError');
    const nobody = new ChatOpenAI({ ...settings, model: 'nobody' });
    assert.equal((await fails(() => nobody.invoke('Hello'))).status, 404);
    const stranger = new ChatOpenAI({ ...settings, apiKey: 'sk-nobody' });
    assert.equal((await fails(() => stranger.invoke('Hello'))).status, 401);
  },
});
