import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Fields of ours, which the client's types do not know and passes on. */
const own = (fields: object): object => fields;

describe('embeddings, by the official client through the edge', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  beforeAll(async () => {
    stack = await startConformanceStack();
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  const embed = async (input: OpenAI.EmbeddingCreateParams['input'], more: object = {}) => {
    const list = await client.embeddings.create({ model: ADAPTER, input, encoding_format: 'float', ...more });
    return list.data.map(({ embedding }) => embedding);
  };
  const ask = (body: object, path = '/embeddings') =>
    fetch(stack.baseURL + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${stack.apiKey}`, 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const errorOf = async (response: Response) => {
    const { error } = (await response.json()) as { error: { code: string; param: string | null } };
    return [response.status, error.code, error.param];
  };

  it('are vectors of length 1, in the order of the texts, each as it is alone', async () => {
    const texts = ['hello', 'a dry cough', 'hello'];
    const vectors = await embed(texts);
    for (const vector of vectors) expect(Math.hypot(...vector)).toBeCloseTo(1, 6);
    expect(vectors[2]).toEqual(vectors[0]);
    expect(vectors[1]).not.toEqual(vectors[0]);
    for (const [at, text] of texts.entries()) expect(await embed(text)).toEqual([vectors[at]]);
  });

  it('are the adapter’s own, and no longer the base’s', async () => {
    expect(await embed('hello')).not.toEqual(await embed('hello', { model: stack.models[0] }));
  });

  it('come as base64, which the client asks for by itself, with the same numbers', async () => {
    const list = await client.embeddings.create({ model: ADAPTER, input: ['hello', 'there'] });
    expect(list.object).toBe('list');
    expect(list.data.map(({ index, object }) => [index, object])).toEqual([
      [0, 'embedding'],
      [1, 'embedding'],
    ]);
    const floats = await embed(['hello', 'there']);
    for (const [at, { embedding }] of list.data.entries())
      expect([...embedding]).toEqual(floats[at]!.map(Math.fround));
    const raw = await ask({ model: ADAPTER, input: 'hello', encoding_format: 'base64' });
    const { data } = (await raw.json()) as { data: { embedding: unknown }[] };
    expect(typeof data[0]?.embedding).toBe('string');
  });

  it('take token ids, one list or several', async () => {
    const ids = [...Buffer.from('hello')];
    const [vector] = await embed(ids);
    expect(await embed([ids, ids])).toEqual([vector, vector]);
  });

  it('are the mean of the states or the last one, normalized or not', async () => {
    const raw = async (text: string, pooling: string) =>
      (await embed(text, own({ pooling, normalize: false })))[0]!;
    const [mean, last] = [await raw('ab', 'mean'), await raw('ab', 'last')];
    const first = await raw('a', 'last');
    expect(mean).not.toEqual(last);
    mean.forEach((value, at) => expect(value).toBeCloseTo((first[at]! + last[at]!) / 2, 5));
    expect(Math.hypot(...last)).not.toBeCloseTo(1, 2);
  });

  it('are counted, in the answer and for the tenant', async () => {
    const [ids, more] = [[...Buffer.from('hello')], [...Buffer.from('hi')]];
    const counted = async () => {
      await stack.edge.settled();
      const report = await stack.edge.request('/admin/usage?by=name');
      const { rows } = (await report.json()) as {
        rows: { group: string; prompt_tokens: number; completion_tokens: number }[];
      };
      const row = rows.find(({ group }) => group === ADAPTER);
      return [row?.prompt_tokens ?? 0, row?.completion_tokens];
    };
    const [before = 0] = await counted();
    const list = await client.embeddings.create({ model: ADAPTER, input: [ids, more] });
    expect(list.usage).toEqual({ prompt_tokens: 7, total_tokens: 7 });
    expect(await counted()).toEqual([before + 7, 0]);
  });

  it.each([
    ['no input', {}, [400, 'invalid_request', 'input']],
    ['an empty list', { input: [] }, [400, 'invalid_request', 'input']],
    ['an empty text', { input: ['a', ''] }, [400, 'invalid_request', 'input[1]']],
    ['texts and ids', { input: ['a', 1] }, [400, 'invalid_request', 'input']],
    [
      'too many texts',
      { input: Array.from({ length: 2_049 }, () => 'a') },
      [400, 'invalid_request', 'input'],
    ],
    ['another width', { input: 'a', dimensions: 3 }, [400, 'unsupported_parameter', 'dimensions']],
    ['a token that is none', { input: [1, 99_999] }, [400, 'invalid_request', 'input[1]']],
    [
      'a name that is none',
      { input: 'a', model: 'alice/none', strict: true },
      [404, 'model_not_found', null],
    ],
    [
      'a text beyond the context, behind another',
      { input: ['a', 'b'.repeat(5_000)] },
      [400, 'context_length_exceeded', 'input[1]'],
    ],
  ])('refuse %s', async (_what, body, wanted) => {
    expect(await errorOf(await ask({ model: ADAPTER, ...body }))).toEqual(wanted);
  });

  it('take the width that they have', async () => {
    const width = (await embed('a'))[0]!.length;
    expect(await embed('a', { dimensions: width })).toHaveLength(1);
  });
});
