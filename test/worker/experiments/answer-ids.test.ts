/** Feedback by an answer's `id`: through the edge and an origin, as each API and the official client show it. */
import OpenAI from 'openai';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { createAnswerTokens } from '../../../worker/experiments/answer-token.ts';
import { NAME, startExperimentPath, type ExperimentPath } from './experiment-path.ts';
import { makeKey } from './experiment-rig.ts';

const DAY_MS = 86_400_000;
const MESSAGES = [{ role: 'user' as const, content: 'hi' }];

let path: ExperimentPath;
beforeEach(async () => {
  for (const method of ['log', 'error'] as const)
    vi.spyOn(console, method).mockImplementation(() => undefined);
  path = await startExperimentPath();
});
afterEach(() => path.stop());

const rate = async (body: object, key = path.key) => {
  const response = await path.edge.request('/v1/feedback', {
    key,
    body: { metric: 'thumbs', value: 1, ...body },
  });
  const json = (await response.json()) as { status?: string; error?: { code: string; param: string } };
  return json.error === undefined ? json.status : [response.status, json.error.code, json.error.param];
};
const rated = async () => {
  const { comparisons } = await path.look();
  return comparisons[0]!.control.n + comparisons[0]!.treatment.n;
};
const post = async (at: string, body: object): Promise<string> => {
  const response = await path.edge.request(at, { key: path.key, body: { model: NAME, ...body } });
  const text = await response.text();
  expect(response.status, text).toBe(200);
  return text;
};

describe('the id of an answer', () => {
  it('that the official client sees is taken, of a stream in each chunk', async () => {
    const openai = new OpenAI({
      apiKey: path.key,
      baseURL: 'http://edge.test/v1',
      maxRetries: 0,
      fetch: (url, init) => {
        const { pathname } = new URL(String(url));
        const body: unknown = JSON.parse(String(init?.body));
        return path.edge.request(pathname, { key: path.key, body });
      },
    });
    const ask = { model: NAME, messages: MESSAGES, max_tokens: 4 };
    const whole = await openai.chat.completions.create({ ...ask, user: 'alice' });
    expect(whole.id).toMatch(/^chatcmpl-[A-Za-z0-9_-]{102}$/);
    expect(await rate({ id: whole.id })).toBe('counted');
    const ids = new Set<string>();
    for await (const { id } of await openai.chat.completions.create({ ...ask, user: 'bob', stream: true }))
      ids.add(id);
    expect(ids.size).toBe(1);
    expect(await rate({ id: [...ids][0] })).toBe('counted');
    expect(await rated()).toBe(2);
  });

  it.each([
    ['/v1/completions', { prompt: 'hi', user: 'alice', max_tokens: 1 }, /"id":"(cmpl-[^"]+)"/],
    ['/v1/responses', { input: 'hi', user: 'alice', max_output_tokens: 16 }, /"id":"(resp_[^"]+)"/],
    [
      '/v1/messages',
      { messages: MESSAGES, metadata: { user_id: 'alice' }, max_tokens: 1 },
      /"id":"(msg_[^"]+)"/,
    ],
  ])('is taken of %s, whole and streamed', async (at, body, pattern) => {
    for (const stream of [false, true]) {
      const id = pattern.exec(await post(at, { ...body, stream }))?.[1] ?? '';
      expect(id.length).toBeLessThanOrEqual(120);
      expect(await rate({ id })).toBe('counted');
      expect(await rate({ id, value: 0 })).toBe('repeated');
    }
  });

  it('is counted once, and is the only way to name the answer', async () => {
    const { id } = await path.answer({ user: 'alice' });
    expect(await rate({ id })).toBe('counted');
    expect(await rate({ id, value: 0 })).toBe('repeated');
    expect(await rate({ id, exposure: id })).toEqual([400, 'invalid_request', 'exposure']);
    expect(await rate({})).toEqual([400, 'invalid_request', 'id']);
  });

  it('is refused when it is made up, changed, old, or of another tenant', async () => {
    const { id } = await path.answer({ user: 'alice' });
    const { key: other } = await makeKey(path.edge, { tenant: 'other' });
    path.edge.clock.advance(61_000);
    const changed = id.slice(0, -3) + (id.at(-3) === 'A' ? 'B' : 'A') + id.slice(-2);
    for (const [made, code] of [
      [changed, 'exposure_forged'],
      ['chatcmpl-0123456789abcdef0123456789abcdef', 'exposure_malformed'],
      [id.slice('chatcmpl-'.length), 'exposure_malformed'],
    ])
      expect(await rate({ id: made })).toEqual([400, code, 'id']);
    expect(await rate({ id }, other)).toEqual([403, 'exposure_of_another_tenant', 'id']);
    path.edge.clock.advance(7 * DAY_MS);
    expect(await rate({ id })).toEqual([400, 'exposure_expired', 'id']);
    expect(await rated()).toBe(0);
  });

  it('says nothing of who asked, and is plain outside of an experiment and for testers', async () => {
    const { id } = await path.answer({ user: 'alice' });
    expect(Buffer.from(id.slice(9), 'base64url').toString('latin1')).not.toMatch(
      /alice|acme|treatment|control/,
    );
    const plain = await path.answer({ user: 'alice', model: `${NAME}@1` });
    expect(plain.id).toMatch(/^chatcmpl-[0-9a-f]{32}$/);
  });

  it('names a variant by its key, wherever that stands in a later document', async () => {
    const { id, variant } = await path.answer({ user: 'alice' });
    const { document } = path.view;
    const put = (changes: object, version: number) =>
      path.edge.request(`/admin/experiments/${path.view.id}`, {
        method: 'PUT',
        body: { document: { ...document, version: document.version + version, ...changes } },
      });
    expect((await put({ seed: 's2', variants: [...document.variants].reverse() }, 1)).status).toBe(200);
    path.edge.clock.advance(61_000);
    expect(await rate({ id })).toBe('counted');
    const before = await path.edge.services.tallies.snapshot(path.view.id, document.seed);
    expect(before.metrics['thumbs']).toEqual({ [variant ?? '']: { n: 1, sum: 1, sumSquares: 1 } });
    const renamed = document.variants.map((one) => ({ ...one, key: `${one.key}-2` }));
    expect((await put({ seed: 's3', variants: renamed }, 2)).status).toBe(200);
    path.edge.clock.advance(61_000);
    expect(await rate({ id })).toEqual([409, 'experiment_over', 'id']);
  });
});

describe('an origin that does not know the field', () => {
  it('makes ids of its own, which rate nothing', async () => {
    const { answer } = path.edge.origin;
    path.edge.origin.answer = async (method, at, init, url) => {
      const response = await answer(method, at, init, url);
      if (at !== '/v1/chat/completions' || !response.ok) return response;
      const body = await response.text();
      return new Response(body.replace(/chatcmpl-[\w-]+/g, 'chatcmpl-1'), response);
    };
    const { id } = await path.answer({ user: 'alice' });
    expect(id).toBe('chatcmpl-1');
    expect(await rate({ id })).toEqual([400, 'exposure_malformed', 'id']);
  });

  it('is not disturbed: what it does not know is in the path, and signed', async () => {
    const asked: string[] = [];
    const { answer } = path.edge.origin;
    path.edge.origin.answer = (method, at, init, url) => {
      if (at.startsWith('/v1/')) asked.push(String(url));
      return answer(method, at, init, url);
    };
    const { id } = await path.answer({ user: 'alice' });
    const last = new URL(asked.at(-1) ?? '');
    expect(`chatcmpl-${last.searchParams.get('answer')}`).toBe(id);
    const opened = await createAnswerTokens(new Uint8Array(32).fill(3)).open(id.slice(9), {
      ...{ tenant: 'acme', now: path.edge.clock.now() },
    });
    expect(opened).toMatchObject({ ok: true, value: { experiment: path.view.id } });
  });
});
