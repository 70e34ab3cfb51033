/** A request that has been answered is forgotten, with all that was read and made for it: an origin runs for months. */
import { IncomingMessage } from 'node:http';
import { queryObjects } from 'node:v8';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Sequence } from '../../gpu-origin/engine/sequence.ts';
import { type Origin, startTestOrigin } from '../gpu-origin/http/harness.ts';

/** Many enough to stand out from the connections that are kept, each of which has its last request. */
const REQUESTS = 60;
const CONNECTIONS = 10;

// Counting walks the whole heap: a second or more where other tests left much in it.
const sequences = (): number => queryObjects(Sequence, { format: 'count' });
const requests = (): number => queryObjects(IncomingMessage, { format: 'count' });

let origin: Origin;
/** What other tests of this process have left. */
let before: { sequences: number; requests: number };
beforeAll(async () => {
  origin = await startTestOrigin();
  before = { sequences: sequences(), requests: requests() };
});
afterAll(() => origin.stop());

const chat = { model: 'fake', max_tokens: 4, messages: [{ role: 'user', content: 'hi' }] };

async function ask(path: string, body: object, leaves = false): Promise<number> {
  const left = new AbortController();
  const response = await fetch(origin.url + path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
    signal: left.signal,
  });
  if (leaves) {
    await response.body!.getReader().read();
    left.abort();
  } else await response.arrayBuffer();
  return response.status;
}

const leavesNoSequence = () => expect.poll(sequences).toBeLessThanOrEqual(before.sequences);

it.each<[string, string, object, number]>([
  ['a whole answer', '/v1/chat/completions', chat, 200],
  ['a stream', '/v1/chat/completions', { ...chat, stream: true }, 200],
  [
    'several prompts',
    '/v1/completions',
    { model: 'fake', max_tokens: 2, prompt: ['a', 'b', 'c'], n: 2 },
    200,
  ],
  [
    'an answer held to a schema',
    '/v1/chat/completions',
    { ...chat, response_format: { type: 'json_object' } },
    200,
  ],
  ['a prompt that is too long', '/v1/completions', { model: 'fake', prompt: 'a b '.repeat(900) }, 400],
  ['an embedding', '/v1/embeddings', { model: 'fake', input: ['a', 'b'] }, 200],
])('%s leaves nothing', async (_what, path, body, status) => {
  for (let i = 0; i < REQUESTS; i += 1) expect(await ask(path, body)).toBe(status);
  await leavesNoSequence();
});

it('a client that leaves in the middle leaves nothing', async () => {
  for (let i = 0; i < REQUESTS; i += 1)
    await ask('/v1/chat/completions', { ...chat, stream: true, max_tokens: 400 }, true);
  await leavesNoSequence();
});

it('none of them is left itself, but for the last of each connection', async () => {
  await expect.poll(requests).toBeLessThan(before.requests + CONNECTIONS);
});
