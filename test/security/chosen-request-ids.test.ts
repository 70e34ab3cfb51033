/** What a client can do with an `x-request-id` of its choice, and what is kept of a name that does not exist. */
import { beforeEach, describe, expect, it } from 'vitest';
import { KeptPrompt } from '../../protocol/admin-api/prompts.ts';
import { RequestList, type RequestView } from '../../protocol/admin-api/traffic.ts';
import { createAppHarness, type AppHarness } from '../worker/app-harness.ts';

const CHOSEN = 'chosen-by-the-client';

let edge: AppHarness;
let key: string;
let reader: string;

const made = async (body: object): Promise<string> => {
  const response = await edge.request('/admin/keys', { body });
  expect(response.status).toBe(201);
  return ((await response.json()) as { key: string }).key;
};
const ask = async (content: string, headers: Record<string, string> = {}, model = 'base') => {
  const response = await edge.request('/v1/chat/completions', {
    ...{ key, headers, body: { model, messages: [{ role: 'user', content }] } },
  });
  await response.text();
  await edge.settled();
  edge.clock.advance(1);
  return response;
};
const list = async (query = ''): Promise<RequestView[]> => {
  const response = await edge.request(`/admin/requests${query}`, { key: reader });
  return RequestList.parse(await response.json()).requests;
};
const read = (id: string) => edge.request(`/admin/requests/${id}/prompt`, { key: reader });
const promptOf = async (id: string) =>
  KeptPrompt.parse(await (await read(id)).json()).prompt.map(({ text }) => text);

beforeEach(async () => {
  edge = await createAppHarness();
  key = await made({ tenant: 'acme', scopes: ['**'], keep_prompts: 24 });
  reader = await made({ kind: 'admin', tenant: 'acme', prompts: true });
});

describe('requests that a client gives the same id', () => {
  it('are told apart by ids of the edge, and each prompt that is kept can be read', async () => {
    for (const content of ['the first', 'the second']) {
      const answer = await ask(content, { 'x-request-id': CHOSEN });
      expect(answer.headers.get('x-request-id')).toBe(CHOSEN);
    }
    const requests = await list();
    expect(requests.map(({ request_id: id }) => id)).toEqual([CHOSEN, CHOSEN]);
    const ids = requests.map(({ id }) => id);
    expect(new Set([...ids, CHOSEN]).size).toBe(3);
    // Who has the client's id finds them by it.
    expect((await list(`?id=${CHOSEN}`)).map(({ id }) => id)).toEqual(ids);
    expect(await list(`?id=${ids[0]}`)).toHaveLength(1);
    const prompts = await Promise.all(ids.map(promptOf));
    expect(prompts.flat().sort()).toEqual(['the first', 'the second']);
    expect((await read(CHOSEN)).status).toBe(404);
  });

  it('have the id of the answer where the client sends none', async () => {
    const answer = await ask('hello');
    const [request] = await list();
    expect(request?.id).toBe(answer.headers.get('x-request-id'));
    expect(request).not.toHaveProperty('request_id');
    expect(await promptOf(request?.id ?? '')).toEqual(['hello']);
  });
});

describe('a name that does not exist', () => {
  it('is in the list of requests, cut, and marked as one that nobody has', async () => {
    await ask('hi', {}, 'support/no-such');
    await ask('hi', {}, 'x'.repeat(500));
    await ask('hi', {}, 'red\u001b[31m \u202e<b>');
    const requests = await list('?status=404');
    expect(requests.map(({ name, unknown_name: asked }) => [name, asked]).reverse()).toEqual([
      ['', 'support/no-such'],
      ['', 'x'.repeat(100)],
      ['', 'red?[31m ?<b>'],
    ]);
    // Sums have no row for what anybody may write.
    const { rows } = (await (await edge.request('/admin/usage?by=name')).json()) as { rows: unknown[] };
    expect(rows).toEqual([]);
  });
});
