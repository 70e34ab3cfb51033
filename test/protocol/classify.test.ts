import { describe, expect, it } from 'vitest';
import {
  charactersOfPairs,
  joinedPair,
  pairsIn,
  parseClassify,
  parseRerank,
  parseScore,
  type RerankRequest,
} from '../../protocol/classify.ts';
import type { ApiError, Result } from '../../protocol/api-error.ts';
import { MAX_EMBEDDING_INPUTS, MAX_PAIR_CHARACTERS } from '../../protocol/limits.ts';
import type { Parsed } from '../../protocol/parse-body.ts';

function parsed<T>(result: Result<Parsed<T>, ApiError>): T {
  if (!result.ok) throw new Error(result.error.message);
  return result.value.request;
}
const refused = <T>(result: Result<Parsed<T>, ApiError>): unknown =>
  result.ok ? null : [result.error.code, 'param' in result.error ? result.error.param : null];
const model = 'm';

describe('a request to a head', () => {
  it('parses to the same again: an origin reads what an edge has read', () => {
    const bodies = [
      [parseClassify, { model, input: ['a', 'b'], use_activation: false }],
      [parseClassify, { model, messages: [{ role: 'user', content: 'a' }], chat_template_kwargs: { a: 1 } }],
      [parseScore, { model, queries: 'a', documents: ['b', { text: 'c' }] }],
      [parseRerank, { model, query: { text: 'a' }, documents: 'b', top_n: 1 }],
    ] as const;
    for (const [parse, body] of bodies) {
      const once = parsed<object>(parse(body));
      expect(parsed<object>(parse(once))).toEqual(once);
    }
  });

  it('begins no answer to a conversation unless it is told to', () => {
    const messages = [{ role: 'user', content: 'a' }];
    expect(parsed(parseClassify({ model, messages }))).toMatchObject({ add_generation_prompt: false });
    expect(parsed(parseClassify({ model, messages, add_generation_prompt: true }))).toMatchObject({
      ...{ model, add_generation_prompt: true },
    });
  });

  it('joins query and document with nothing between', () => {
    const rerank = parsed(parseRerank({ model, query: 'q ', documents: ['one', 'two'] }));
    const score = parsed(parseScore({ model, text_1: ['a', 'b'], text_2: ['c', 'd'] }));
    expect([0, 1].map((at) => joinedPair(rerank, at))).toEqual(['q one', 'q two']);
    expect([0, 1].map((at) => joinedPair(score, at))).toEqual(['ac', 'bd']);
    expect([pairsIn(rerank), charactersOfPairs(rerank)]).toEqual([2, 10]);
  });

  it('limits the number of pairs, and the characters in them', () => {
    const of = (query: string, count: number): Result<Parsed<RerankRequest>, ApiError> =>
      parseRerank({ model, query, documents: Array.from({ length: count }, () => '') });
    expect(refused(of('a', MAX_EMBEDDING_INPUTS))).toBeNull();
    expect(refused(of('a', MAX_EMBEDDING_INPUTS + 1))).toEqual(['invalid_request', 'documents']);
    const half = 'a'.repeat(MAX_PAIR_CHARACTERS / 2);
    expect(refused(of(half, 2))).toBeNull();
    expect(refused(of(`${half}a`, 2))).toEqual(['invalid_request', 'documents']);
    expect(refused(parseScore({ model, text_1: `${half}a`, text_2: ['', ''] }))).toEqual([
      ...['invalid_request', 'text_2'],
    ]);
  });

  it.each([
    [{ text_1: 'a', documents: ['b'] }, 'text_2'],
    [{ queries: 'a' }, 'text_1'],
    [{ text_1: 'a', text_2: [1] }, 'text_2'],
    [{ text_1: [], text_2: ['a'] }, 'text_1'],
  ])('of pairs is refused: %j', (body, param) => {
    expect(refused(parseScore({ model, ...body }))).toEqual(['invalid_request', param]);
  });

  it('names unknown fields where they are refused', () => {
    const body = { model, query: 'a', documents: ['b'], rank_fields: ['x'] };
    expect(refused(parseRerank(body, { strict: true }))).toEqual(['invalid_request', 'rank_fields']);
    const lenient = parseRerank(body);
    expect(lenient.ok && lenient.value.ignored).toEqual(['rank_fields']);
  });
});
