import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { ClassifyAnswer, RerankAnswer, ScoreAnswer } from '../../../protocol/classify.ts';
import type { RowScore } from '../../../protocol/origin-wire.ts';
import type { ClassifierHead } from '../../../gpu-origin/engine/ports.ts';
import { envelope, signedFetch, startTestOrigin, type Origin } from './harness.ts';

let origin: Origin;
let head: ClassifierHead | null;
const headOf = (classes: number, more: Partial<ClassifierHead> = {}): ClassifierHead => ({
  weight: Float32Array.from({ length: classes * 8 }, (_, i) => (((i * 7) % 11) - 5) / 5),
  ...{ labels: null, problemType: null, ...more },
});
beforeEach(async () => {
  head = headOf(3, { labels: ['no', 'yes', 'perhaps'] });
  origin = await startTestOrigin({ runner: { classifier: () => head } });
});
afterEach(() => origin.stop());

const post = (path: string, body: object) =>
  fetch(origin.url + path, { method: 'POST', body: JSON.stringify({ model: 'alice/notes', ...body }) });
async function ask<T>(path: string, body: object): Promise<T> {
  const response = await post(path, body);
  const answer = (await response.json()) as T;
  if (!response.ok) throw new Error(JSON.stringify(answer));
  return answer;
}
const refusalOf = async (path: string, body: object): Promise<unknown> => {
  const response = await post(path, body);
  const { error } = (await response.json()) as { error: { code: string; param: string; message: string } };
  return { status: response.status, code: error.code, param: error.param, message: error.message };
};
const classify = (body: object) => ask<ClassifyAnswer>('/v1/classify', body);
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

describe('an evaluation of rows with labels', () => {
  const evaluate = async (rows: object[]): Promise<Response> =>
    fetch(`${origin.url}/adapters/${origin.adapter}/evaluate`, {
      method: 'POST',
      body: JSON.stringify({ rows }),
    });

  it('gives each row the class and its -log p of /v1/classify', async () => {
    const messages = [{ role: 'user', content: 'a cough' }];
    const texts = ['hello', 'a cough', '<s> opening hours'];
    const asked = [...(await classify({ input: texts })).data, ...(await classify({ messages })).data].map(
      ({ label, probs }) => ({ label, nll: -Math.log(probs[1]!) }),
    );
    const rows = [...texts.map((text) => ({ text, label: 'yes' })), { messages, label: 'yes' }];
    const scored = await evaluate(rows);
    const { rows: scores } = (await scored.json()) as { rows: (RowScore & { nll: number })[] };
    expect(scores).toEqual(
      asked.map(({ label }) => ({
        ...{ exact: label === 'yes', nll: expect.any(Number), tokens: 1 },
        ...(label === 'yes' ? {} : { got: label }),
      })),
    );
    scores.forEach(({ nll }, at) => expect(nll).toBeCloseTo(asked[at]!.nll, 10));
    const prompts = await evaluate(texts.map((prompt) => ({ prompt, label: 'yes' })));
    expect(await prompts.json()).toEqual({ rows: scores.slice(0, 3) });
  });

  it('says of a label that the head lacks which classes it has, and scores the other rows', async () => {
    const answer = await evaluate([
      { text: 'hello', label: 'maybe' },
      { text: 'hello', label: 'no' },
    ]);
    expect(await answer.json()).toMatchObject({
      rows: [
        {
          error: "The classifier has no class 'maybe', but no, yes, perhaps.",
          code: 'label_unknown',
        },
        { tokens: 1 },
      ],
    });
  });

  it.each([
    ['of one class', () => headOf(1), 'one output'],
    ['of a regression', () => headOf(3, { problemType: 'regression' }), "'regression'"],
    [
      'of classes that do not exclude each other',
      () => headOf(3, { problemType: 'multi_label_classification' }),
      'multi',
    ],
    ['that is none', () => null, 'no classification head'],
  ])('refuses a head %s', async (_, made, word) => {
    head = made();
    const answer = await evaluate([{ text: 'hello', label: 'yes' }]);
    expect([answer.status, await answer.json()]).toMatchObject([
      400,
      { error: { code: 'wrong_endpoint', message: expect.stringContaining(word) } },
    ]);
  });

  it('refuses expected answers of a classifier', async () => {
    const answer = await evaluate([{ prompt: 'hello', expected: 'world' }]);
    expect([answer.status, await answer.json()]).toMatchObject([400, { error: { code: 'wrong_endpoint' } }]);
  });
});

describe('POST /v1/classify', () => {
  it('answers in vLLM’s shape', async () => {
    const { data, ...rest } = await classify({ input: ['hello', 'a cough', 'hello'] });
    expect(rest).toMatchObject({
      id: expect.stringMatching(/^classify-[0-9a-f]{32}$/),
      ...{ object: 'list', created: expect.any(Number), model: 'alice/notes' },
    });
    expect(rest.usage.prompt_tokens).toBeGreaterThan(0);
    expect(rest.usage).toEqual({
      ...{ prompt_tokens: rest.usage.prompt_tokens, total_tokens: rest.usage.prompt_tokens },
      completion_tokens: 0,
    });
    expect(data.map(({ index, num_classes }) => [index, num_classes])).toEqual([
      [0, 3],
      [1, 3],
      [2, 3],
    ]);
    for (const { probs, label } of data) {
      expect(probs.reduce((sum, p) => sum + p, 0)).toBeCloseTo(1, 12);
      expect(label).toBe(['no', 'yes', 'perhaps'][probs.indexOf(Math.max(...probs))]);
    }
    expect([data[2]!.probs, data[1]!.probs]).not.toEqual([data[0]!.probs, data[0]!.probs]);
    expect(data[2]!.probs).toEqual(data[0]!.probs);
  });

  it('takes ids, conversations, and texts without the first tokens', async () => {
    const [text] = (await classify({ input: 'hello' })).data;
    const ids = await ask<{ tokens: number[] }>('/tokenize', { model: undefined, prompt: 'hello' });
    expect((await classify({ input: ids.tokens })).data).toEqual([text]);
    expect((await classify({ input: [ids.tokens] })).data).toEqual([text]);
    const messages = [{ role: 'user', content: 'hello' }];
    const [asked, begun] = [
      await classify({ messages }),
      await classify({ messages, add_generation_prompt: true }),
    ];
    const tokens = async (more: object) =>
      (await ask<{ count: number }>('/tokenize', { model: undefined, messages, ...more })).count;
    // As in vLLM, no answer is begun.
    expect(asked.usage.prompt_tokens).toBe(await tokens({ add_generation_prompt: false }));
    expect(begun.usage.prompt_tokens).toBe(await tokens({}));
    const bare = await classify({ input: 'hello', add_special_tokens: false });
    expect(bare.usage.prompt_tokens).toBe(ids.tokens.length - origin.tokenizer.prefixIds.length);
  });

  it('gives probabilities, independent ones, or the head’s own numbers', async () => {
    const raw = (await classify({ input: 'hello', use_activation: false })).data[0]!.probs;
    const powers = raw.map(Math.exp);
    const sum = powers.reduce((a, b) => a + b, 0);
    const near = (probs: number[], wanted: number[]) =>
      probs.forEach((p, at) => expect(p).toBeCloseTo(wanted[at]!, 6));
    near(
      (await classify({ input: 'hello' })).data[0]!.probs,
      powers.map((p) => p / sum),
    );
    const again = async (changed: ClassifierHead) => {
      await origin.engine.drop(new Set([origin.adapter]));
      head = changed;
      return (await classify({ input: 'hello' })).data[0]!;
    };
    near((await again(headOf(3, { problemType: 'multi_label_classification' }))).probs, raw.map(sigmoid));
    const plain = await again(headOf(3, { problemType: 'regression' }));
    near(plain.probs, raw);
    expect(plain.label).toMatch(/^LABEL_[012]$/);
    near((await again(headOf(1))).probs, [sigmoid(raw[0]!)]);
  });

  it.each([
    ['no input', {}, 'input'],
    ['input and messages', { input: 'a', messages: [{ role: 'user', content: 'a' }] }, 'messages'],
    ['an empty text', { input: ['a', ''] }, 'input[1]'],
    ['a token that is none', { input: [1, 99_999] }, 'input[1]'],
    ['a wrong switch', { input: 'a', use_activation: 1 }, 'use_activation'],
  ])('refuses %s', async (_, body, param) => {
    expect(await refusalOf('/v1/classify', body)).toMatchObject({
      ...{ status: 400, code: 'invalid_request', param },
    });
  });

  it('refuses what would change the answer by name, and drops what would not', async () => {
    expect(await refusalOf('/v1/classify', { input: 'a', truncate_prompt_tokens: 5 })).toMatchObject({
      ...{ code: 'unsupported_parameter', param: 'truncate_prompt_tokens' },
    });
    const response = await post('/v1/classify', { input: 'a', truncate_prompt_tokens: -1, priority: 0 });
    expect([response.status, response.headers.get('x-graft-ignored')]).toEqual([
      200,
      'truncate_prompt_tokens, priority',
    ]);
  });

  it('answers no more texts than their probabilities allow', async () => {
    await origin.engine.drop(new Set([origin.adapter]));
    head = headOf(1_000);
    const texts = (count: number) => ({ input: Array.from({ length: count }, () => [1]) });
    expect((await classify(texts(262))).data).toHaveLength(262);
    expect(await refusalOf('/v1/classify', texts(263))).toMatchObject({
      ...{ status: 400, code: 'invalid_request', param: 'input' },
      message: 'This model has 1000 classes. Send at most 262 texts in one request.',
    });
  });

  it('is refused for the base, and for an adapter without a head; text is for one that has one', async () => {
    const wrong = { status: 400, code: 'wrong_endpoint', param: 'model' };
    for (const [path, body] of [
      ['/v1/completions', { prompt: 'a' }],
      ['/v1/chat/completions', { messages: [{ role: 'user', content: 'a' }] }],
    ] as const)
      expect(await refusalOf(path, body)).toMatchObject({
        ...{ ...wrong, message: expect.stringContaining('/v1/classify') },
      });
    await origin.engine.drop(new Set([origin.adapter]));
    head = null;
    for (const model of ['base', 'alice/notes'])
      expect(await refusalOf('/v1/classify', { model, input: 'a' })).toMatchObject({
        ...{ ...wrong, message: expect.stringContaining('/v1/chat/completions') },
      });
  });
});

describe('heads of one class', () => {
  beforeEach(() => (head = headOf(1)));

  it('score pairs: one text with each, or each with its own', async () => {
    const one = await ask<ScoreAnswer>('/v1/score', { text_1: 'a', text_2: ['b', 'c'] });
    expect(one).toMatchObject({
      id: expect.stringMatching(/^score-[0-9a-f]{32}$/),
      ...{ object: 'list', model: 'alice/notes' },
      data: [
        { index: 0, object: 'score', score: expect.any(Number) },
        { index: 1, object: 'score', score: expect.any(Number) },
      ],
    });
    // Joined as vLLM joins them for decoders: nothing comes between.
    const joined = await classify({ input: ['ab', 'ac'] });
    expect(one.data.map(({ score }) => [score])).toEqual(joined.data.map(({ probs }) => probs));
    const scores = async (body: object) =>
      (await ask<ScoreAnswer>('/v1/score', body)).data.map(({ score }) => score);
    const wanted = one.data.map(({ score }) => score);
    for (const body of [
      { text_1: ['a', 'a'], text_2: ['b', 'c'] },
      { queries: 'a', documents: ['b', 'c'] },
      { queries: ['a'], items: ['b', { text: 'c' }] },
      { data_1: 'a', data_2: ['b', 'c'] },
    ])
      expect(await scores(body)).toEqual(wanted);
    const raw = await scores({ text_1: 'a', text_2: ['b', 'c'], use_activation: false });
    raw.forEach((score, at) => expect(sigmoid(score)).toBeCloseTo(wanted[at]!, 12));
  });

  it('rerank documents, the most relevant first', async () => {
    const documents = ['one', { text: 'two' }, 'three', 'one', ''];
    const all = await ask<RerankAnswer>('/v1/rerank', { query: 'what', documents });
    expect(Object.keys(all).sort()).toEqual(['id', 'model', 'results', 'usage']);
    expect(all.id).toMatch(/^rerank-[0-9a-f]{32}$/);
    const scores = all.results.map(({ relevance_score }) => relevance_score);
    expect(scores).toEqual([...scores].sort((a, b) => b - a));
    const texts = ['one', 'two', 'three', 'one', ''];
    for (const { index, document } of all.results) expect(document).toEqual({ text: texts[index] });
    const places = all.results.map(({ index }) => index);
    expect(places.indexOf(0)).toBe(places.indexOf(3) - 1);
    const body = { query: 'what', documents, top_n: 2, return_documents: false };
    const top = await ask<RerankAnswer>('/v1/rerank', body);
    expect(top.results).toEqual(all.results.slice(0, 2).map(({ document: _, ...result }) => result));
    expect(top.usage).toEqual(all.usage);
    const none = await ask<RerankAnswer>('/v1/rerank', { ...body, top_n: 0 });
    expect(none.results).toHaveLength(5);
  });

  it.each([
    ['/v1/score', { text_1: 'a' }, 'text_2'],
    ['/v1/score', { text_1: ['a', 'b'], text_2: ['c'] }, 'text_1'],
    ['/v1/score', { queries: ['a', 'b'], documents: ['c', 'd', 'e'] }, 'queries'],
    ['/v1/rerank', { documents: ['a'] }, 'query'],
    ['/v1/rerank', { query: 'a', documents: [] }, 'documents'],
    ['/v1/rerank', { query: 'a', documents: ['b'], top_n: -1 }, 'top_n'],
  ])('%s refuses %j', async (path, body, param) => {
    expect(await refusalOf(path, body)).toMatchObject({ status: 400, code: 'invalid_request', param });
  });

  it.each(['instruction', 'chat_template', 'max_tokens_per_doc'])('refuse %s', async (field) => {
    const body = { query: 'a', documents: ['b'], [field]: field === 'max_tokens_per_doc' ? 5 : 'x' };
    expect(await refusalOf('/v1/rerank', body)).toMatchObject({
      code: 'unsupported_parameter',
      param: field,
    });
  });

  it('are refused where the head has several', async () => {
    await origin.engine.drop(new Set([origin.adapter]));
    head = headOf(3);
    for (const [path, body] of [
      ['/v1/score', { text_1: 'a', text_2: 'b' }],
      ['/v1/rerank', { query: 'a', documents: ['b'] }],
    ] as const)
      expect(await refusalOf(path, body)).toMatchObject({
        ...{ status: 400, code: 'wrong_endpoint', message: expect.stringContaining('3 classes') },
      });
  });
});

it('notes its usage for an edge, and takes the end of its id from it', async () => {
  const signed = await startTestOrigin({ signed: true, runner: { classifier: () => headOf(2) } });
  const chain = [{ digest: signed.adapter, scale: 1 }];
  const answer = 'a'.repeat(32);
  const cancelId = '00000000-0000-4000-8000-000000000001';
  const response = await signedFetch(signed, `/v1/classify?answer=${answer}&cancel=${cancelId}`, {
    body: envelope({ model: 'alice/notes', input: ['hi', 'you'] }, { chain }),
  });
  const { id, usage } = (await response.json()) as ClassifyAnswer;
  expect(response.headers.get('x-graft-usage')).toContain(String(usage.prompt_tokens));
  expect(response.headers.get('x-graft-classes')).toMatch(/^LABEL_[01]=[12](,LABEL_[01]=1)?$/);
  expect(id).toBe(`classify-${answer}`);
  // As it says to an edge whose client has gone: of all texts together.
  const cancelled = await signedFetch(signed, `/cancel/${cancelId}`, { method: 'POST', body: '' });
  expect(await cancelled.json()).toMatchObject({ state: 'ended', prompt_tokens: usage.prompt_tokens });
  await signed.stop();
});
