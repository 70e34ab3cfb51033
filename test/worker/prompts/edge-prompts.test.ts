/** Prompts that are kept, in real workerd: who has them kept, who reads them, when they go, and that nothing else stays. */
import { cp, readdir, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import type { ServerResponse } from 'node:http';
import { Miniflare } from 'miniflare';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { KeyList } from '../../../protocol/admin-api/keys.ts';
import type { ChangeList } from '../../../protocol/admin-api/names.ts';
import type { KeptPrompt } from '../../../protocol/admin-api/prompts.ts';
import type { RequestList } from '../../../protocol/admin-api/traffic.ts';
import { USAGE_HEADER, writeUsageNote } from '../../../protocol/origin-wire.ts';
import type { SqlDatabase } from '../../../worker/platform/d1-database.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { startTestEdge, type TestEdge } from '../edge-harness.ts';

const JSON_TYPE = { 'content-type': 'application/json' };
/** In every text of this test. */
const CANARY = 'canary-3f9c';

let graft: TestEdge;
let keeping: string;
let silent: string;
let reader: string;
/** Keys by name, as the admin API lists them. */
const ids: Record<string, string> = {};

const post = (route: string, body: object, key = graft.adminKey) =>
  graft.admin(route, { method: 'POST', headers: JSON_TYPE, body: JSON.stringify(body), key });
async function makeKey(label: string, body: object): Promise<string> {
  const response = await post('/admin/keys', { label, ...body });
  const made = (await response.json()) as { key: string; id: string };
  ids[label] = made.id;
  return made.key;
}
async function ask(route: string, body: object, key: string): Promise<string> {
  const response = await graft.request(route, {
    ...{ method: 'POST', key, headers: JSON_TYPE, body: JSON.stringify({ model: 'notes', ...body }) },
  });
  await response.text();
  return response.headers.get('x-request-id') ?? '';
}
const asked = (text: string) => ({ messages: [{ role: 'user', content: `${CANARY} ${text}` }] });
const read = (id: string, key = reader) => graft.admin(`/admin/requests/${id}/prompt`, { key });
async function kept(id: string, key = reader): Promise<KeptPrompt> {
  await expect.poll(async () => (await read(id, key)).status, { interval: 50 }).toBe(200);
  return (await (await read(id, key)).json()) as KeptPrompt;
}
/** Files of the state whose bytes hold the word. */
async function filesWith(word: string): Promise<string[]> {
  const found: string[] = [];
  for (const file of await readdir(graft.stateFolder, { recursive: true, withFileTypes: true })) {
    if (!file.isFile()) continue;
    const whole = path.join(file.parentPath, file.name);
    if ((await readFile(whole)).includes(word)) found.push(whole);
  }
  return found;
}
/** The origin says this, as a stream or whole. */
const says = (stream: boolean, payloads: readonly object[]) => (response: ServerResponse) => {
  const note = { promptTokens: 3, completionTokens: 2, finish: 'stop' as const };
  response.setHeader(USAGE_HEADER, writeUsageNote(stream ? { ...note, completionTokens: null } : note));
  response.setHeader('content-type', stream ? 'text/event-stream' : 'application/json');
  if (!stream) return void response.end(JSON.stringify(payloads[0]));
  for (const payload of payloads) response.write(`data: ${JSON.stringify(payload)}\n\n`);
  response.end('data: [DONE]\n\n');
};
/** Another edge on the same state. @param change it while none runs. */
async function restart(change?: (db: SqlDatabase) => Promise<unknown>): Promise<void> {
  const { edge, origin, stateFolder, adminKey } = graft;
  await edge.stop();
  graft = await startTestEdge({
    adminKey,
    async fill(folder) {
      await cp(stateFolder, folder, { recursive: true });
      if (change === undefined) return;
      const miniflare = new Miniflare({
        ...{ modules: true, script: 'export default {}', compatibilityDate: '2026-05-03', cf: false },
        ...{ d1Databases: { DB: 'graft' }, d1Persist: path.join(folder, 'v3/d1') },
      });
      await change((await miniflare.getD1Database('DB')) as unknown as SqlDatabase);
      await miniflare.dispose();
    },
  });
  await origin.stop();
  await rm(stateFolder, { recursive: true, force: true });
}
async function erase(what: { name: string } | { tenant: string }): Promise<void> {
  for (let cursor: string | null | undefined; cursor !== null;) {
    const page = await post('/admin/erase', { ...what, ...(cursor === undefined ? {} : { cursor }) });
    expect(page.status).toBe(200);
    ({ cursor } = (await page.json()) as { cursor: string | null });
  }
}
const delta = (more: object) => ({
  choices: [{ index: 0, delta: more, logprobs: null, finish_reason: null }],
});

beforeAll(async () => {
  graft = await startTestEdge();
  keeping = await makeKey('keeping', { tenant: 'acme', scopes: ['**'], keep_prompts: 24 });
  silent = await makeKey('silent', { tenant: 'acme', scopes: ['**'] });
  reader = await makeKey('reader', { kind: 'admin', tenant: 'acme', prompts: true });
  const published = await graft.publish({
    ...{ name: 'notes', owner: 'acme', adapter: tinyAdapter({ seed: 1 }) },
  });
  expect(published.status).toBe(201);
});
afterAll(() => graft?.stop());

it('keeps nothing of a key that does not ask for it', async () => {
  const whole = await ask('/v1/chat/completions', asked('whole'), silent);
  await ask('/v1/chat/completions', { ...asked('streamed'), stream: true }, silent);
  // What comes later is written: so would this have been.
  await kept(await ask('/v1/chat/completions', { messages: [{ role: 'user', content: 'x' }] }, keeping));
  expect((await read(whole)).status).toBe(404);
  expect(await filesWith(CANARY)).toEqual([]);
});

it('keeps what was asked and answered, whole and streamed, in every API', async () => {
  graft.origin.answerWith(
    says(false, [
      { choices: [{ index: 0, message: { content: `${CANARY} whole` }, finish_reason: 'stop' }] },
    ]),
  );
  const whole = await ask(
    '/v1/chat/completions',
    { messages: [{ role: 'system', content: 'Be brief.' }, ...asked('hello').messages] },
    keeping,
  );
  graft.origin.answerWith(
    says(true, [
      delta({ role: 'assistant', content: '' }),
      delta({ content: 'Let me ' }),
      delta({ content: 'look.' }),
      delta({ tool_calls: [{ index: 0, id: 'c1', function: { name: 'look', arguments: '' } }] }),
      delta({ tool_calls: [{ index: 0, function: { arguments: '{"at":' } }] }),
      delta({ tool_calls: [{ index: 0, function: { arguments: '"sky"}' } }] }),
    ]),
  );
  const streamed = await ask('/v1/chat/completions', { ...asked('streamed'), stream: true }, keeping);
  graft.origin.answerWith(
    says(true, [
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'said' } },
    ]),
  );
  const message = await ask(
    '/v1/messages',
    { ...asked('message'), system: 'Sys', max_tokens: 5, stream: true },
    keeping,
  );
  graft.origin.answerWith(
    says(true, [
      { type: 'response.output_text.delta', delta: 'a' },
      { type: 'response.output_text.delta', delta: 'b' },
      { type: 'response.completed', response: { output: [{ content: [{ text: 'ab' }] }] } },
    ]),
  );
  const response = await ask('/v1/responses', { input: `${CANARY} in`, stream: true }, keeping);
  graft.origin.answerWith(null);

  const { id, at, ...rest } = await kept(whole);
  expect(id).toBe(whole);
  expect(rest).toEqual({
    ...{ tenant: 'acme', key_id: ids['keeping'], name: 'notes', expires_at: at + 24 * 3_600_000 },
    prompt: [
      { role: 'system', text: 'Be brief.' },
      { role: 'user', text: `${CANARY} hello` },
    ],
    ...{ prompt_cut: false, answers: [`${CANARY} whole`], answers_cut: false },
  });
  expect((await kept(streamed)).answers).toEqual(['Let me look.\nlook {"at":"sky"}']);
  expect(await kept(message)).toMatchObject({
    prompt: [
      { role: 'system', text: 'Sys' },
      { role: 'user', text: `${CANARY} message` },
    ],
    answers: ['said'],
  });
  expect(await kept(response)).toMatchObject({
    prompt: [{ role: 'user', text: `${CANARY} in` }],
    answers: ['ab'],
  });
  // Encrypted in D1, and nowhere else.
  expect(await filesWith(CANARY)).toEqual([]);
  expect(graft.logs.join('\n')).not.toContain(CANARY);
  const { keys } = (await (await graft.admin('/admin/keys')).json()) as KeyList;
  expect(Object.fromEntries(keys.map((key) => [key.label, [key.keep_prompts, key.prompts]]))).toEqual({
    ...{ keeping: [24, false], silent: [null, false], reader: [null, true] },
  });
});

it('keeps texts and pairs of classification heads, and what was made of them', async () => {
  const common = { id: 'x', created: 1, model: 'notes', usage: {} };
  const heard = async (route: string, body: object, answer: object) => {
    graft.origin.answerWith(says(false, [{ ...common, ...answer }]));
    const id = await ask(route, body, keeping);
    graft.origin.answerWith(null);
    const { prompt, answers, classes } = await kept(id);
    return { prompt: prompt.map(({ role, text }) => `${role}: ${text}`), answers, classes };
  };
  const data = [{ index: 0, label: `${CANARY} yes`, probs: [0.25, 0.75], num_classes: 2 }];
  expect(await heard('/v1/classify', { input: [`${CANARY} cough`] }, { object: 'list', data })).toEqual({
    ...{ prompt: [`user: ${CANARY} cough`], answers: [`${CANARY} yes 0.75`], classes: true },
  });
  expect(await heard('/v1/classify', asked('chat'), { object: 'list', data })).toMatchObject({
    prompt: [`user: ${CANARY} chat`],
  });
  const score = { index: 0, object: 'score', score: 0.125 };
  expect(
    await heard('/v1/score', { queries: CANARY, documents: 'b' }, { object: 'list', data: [score] }),
  ).toEqual({ prompt: [`query: ${CANARY}`, 'document: b'], answers: ['0.125'], classes: true });
  const results = [{ index: 1, document: { text: `${CANARY} c` }, relevance_score: 0.5 }];
  expect(
    await heard('/v1/rerank', { query: 'a', documents: ['b', { text: `${CANARY} c` }] }, { results }),
  ).toEqual({
    prompt: ['query: a', 'document: b', `document: ${CANARY} c`],
    ...{ answers: ['document 2: 0.5'], classes: true },
  });
  const embedding = { data: [{ index: 0, object: 'embedding', embedding: [1] }] };
  expect(await heard('/v1/embeddings', { input: CANARY }, embedding)).toMatchObject({ answers: null });
  expect(await filesWith(CANARY)).toEqual([]);
  expect(graft.logs.join('\n')).not.toContain(CANARY);
});

it('keeps what a client got that left, and what was asked for nothing', async () => {
  graft.origin.answerWith((response) => {
    response.statusCode = 500;
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ error: { message: CANARY, type: 'x', code: 'internal_error' } }));
  });
  const failed = await ask('/v1/chat/completions', asked('failed'), keeping);
  let breakOff: () => void = () => undefined;
  graft.origin.answerWith((response) => {
    breakOff = () => response.destroy();
    response.setHeader('content-type', 'text/event-stream');
    response.setHeader(
      USAGE_HEADER,
      writeUsageNote({ promptTokens: 3, completionTokens: null, finish: 'stop' }),
    );
    response.write(`data: ${JSON.stringify(delta({ content: 'half an' }))}\n\n`);
  });
  const controller = new AbortController();
  const response = await graft.request('/v1/chat/completions', {
    ...{ method: 'POST', key: keeping, headers: JSON_TYPE, signal: controller.signal },
    body: JSON.stringify({ model: 'notes', stream: true, ...asked('left') }),
  });
  await response.body?.getReader().read();
  controller.abort();
  breakOff();
  graft.origin.answerWith(null);
  expect((await kept(failed)).answers).toBeNull();
  const left = await kept(response.headers.get('x-request-id') ?? '');
  expect([left.answers, left.prompt[0]?.text]).toEqual([['half an'], `${CANARY} left`]);
});

it('is read by keys of its tenant with the right alone, each time with a row in the history', async () => {
  const id = await ask('/v1/chat/completions', asked('secret'), keeping);
  await kept(id);
  const plain = await makeKey('plain', { kind: 'admin', tenant: 'acme' });
  const other = await makeKey('other', { kind: 'admin', tenant: 'other', prompts: true });
  const refused = await read(id, plain);
  expect([refused.status, await refused.text()]).toEqual([403, expect.stringContaining('--prompts')]);
  expect((await read(id, other)).status).toBe(404);
  const root = await read(id, graft.adminKey);
  expect([root.status, await root.text()]).toEqual([404, expect.stringContaining('its own tenant only')]);
  expect((await read(id, keeping)).status).toBe(401);
  expect((await read(id)).status).toBe(200);
  const { changes } = (await (await graft.admin('/admin/history?tenant=acme')).json()) as ChangeList;
  const readings = changes.filter(({ action, target }) => action === 'read-prompt' && target === id);
  expect(readings).toHaveLength(3);
  expect(readings[0]).toMatchObject({ actor: ids['reader'], name: '**', owner: 'acme' });
  // Nobody gives a right that he has not.
  const given = await post('/admin/keys/change', { id: ids['keeping'], prompts: true });
  expect([given.status, await given.text()]).toEqual([400, expect.stringContaining('admin keys')]);
  const { requests } = (await (await graft.admin('/admin/requests?tenant=acme')).json()) as RequestList;
  expect(JSON.stringify(requests)).not.toContain(CANARY);
});

it('forgets with the key when that is asked for, and when the key keeps nothing any more', async () => {
  const key = await makeKey('short', { tenant: 'acme', scopes: ['**'], keep_prompts: 5 });
  const first = await ask('/v1/chat/completions', asked('first'), key);
  expect((await kept(first)).expires_at).toBeGreaterThan(Date.now() + 4 * 3_600_000);
  expect((await post('/admin/keys/change', { id: ids['short'], keep_prompts: 1 })).status).toBe(200);
  expect((await kept(first)).expires_at).toBeLessThan(Date.now() + 3_600_000);
  expect((await post('/admin/keys/change', { id: ids['short'], keep_prompts: null })).status).toBe(200);
  expect((await read(first)).status).toBe(404);

  const gone = await makeKey('gone', { tenant: 'acme', scopes: ['**'], keep_prompts: 5 });
  const second = await ask('/v1/chat/completions', asked('second'), gone);
  await kept(second);
  expect((await graft.admin(`/admin/keys/${ids['gone']}`, { method: 'DELETE' })).status).toBe(204);
  expect((await read(second)).status).toBe(200);
  const path = `/admin/keys/${ids['gone']}?forget_prompts=true`;
  expect((await graft.admin(path, { method: 'DELETE' })).status).toBe(204);
  expect((await read(second)).status).toBe(404);
});

it('outlives a restart, and goes when it has expired or its tenant is erased', async () => {
  const id = await ask('/v1/chat/completions', asked('later'), keeping);
  await kept(id);
  await restart();
  expect((await kept(id)).prompt[0]?.text).toBe(`${CANARY} later`);
  expect(await filesWith(CANARY)).toEqual([]);
  await graft.edge.runSchedule();
  expect((await read(id)).status).toBe(200);

  const soon = await ask('/v1/chat/completions', asked('soon'), keeping);
  await kept(soon);
  await restart((db) =>
    db.prepare('UPDATE kept_prompts SET expires_at = ? WHERE id = ?').bind(Date.now(), soon).run(),
  );
  expect((await read(soon)).status).toBe(404);
  await graft.edge.runSchedule();
  let left = -1;
  await restart(async (db) => {
    const count = db.prepare('SELECT COUNT(*) AS n FROM kept_prompts WHERE id = ?').bind(soon);
    left = (await count.first<{ n: number }>())?.n ?? -1;
  });
  expect(left).toBe(0);
  expect((await read(id)).status).toBe(200);

  const onBase = await ask('/v1/chat/completions', { model: 'base', ...asked('base') }, keeping);
  await kept(onBase);
  await erase({ name: 'notes' });
  expect([(await read(id)).status, (await read(onBase)).status]).toEqual([404, 200]);
  await erase({ tenant: 'acme' });
  const again = await makeKey('again', { kind: 'admin', tenant: 'acme', prompts: true });
  expect((await read(onBase, again)).status).toBe(404);
});
