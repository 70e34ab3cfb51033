// Streams an answer with the official OpenAI client: `node examples/chat.mjs NAME "prompt"`, in a folder where
// `npm start` runs, or with GRAFT_URL and GRAFT_KEY set. NAME is an adapter's name or the base's id.
import { readFileSync } from 'node:fs';
import OpenAI from 'openai';

const [model = 'base', content = 'Name three fruits.'] = process.argv.slice(2);
const { GRAFT_URL, GRAFT_KEY } = process.env;
const local = GRAFT_URL
  ? { url: GRAFT_URL, key: GRAFT_KEY }
  : JSON.parse(readFileSync('.graft/local.json', 'utf8'));

const client = new OpenAI({ baseURL: `${local.url}/v1`, apiKey: local.key });
const { data: stream, response } = await client.chat.completions
  .create({ model, messages: [{ role: 'user', content }], temperature: 0, max_tokens: 64, stream: true })
  .withResponse();
console.error(`served by ${response.headers.get('x-graft-adapter')}`);
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta.content ?? '');
process.stdout.write('\n');
