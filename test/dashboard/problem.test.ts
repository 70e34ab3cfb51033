import fc from 'fast-check';
import { expect, it } from 'vitest';
import { jsonOf, linkProblem, noAnswer, oddAnswer, problemOf } from '../../dashboard/model/problem.ts';
import { errorBody, type ApiError } from '../../protocol/api-error.ts';

it.each<[ApiError, object]>([
  [
    { code: 'invalid_api_key', message: 'No such key.' },
    { advice: 'Check the key, or sign in with another one.', param: null },
  ],
  [
    { code: 'invalid_request', message: 'must be a number', param: 'coverage' },
    { advice: '', param: 'coverage' },
  ],
  [{ code: 'adapter_loading', message: 'x', retryAfterMs: 1 }, { advice: expect.stringContaining('moment') }],
])("uses the edge's words: %j", (error, expected) => {
  expect(problemOf(418, JSON.stringify(errorBody(error)))).toMatchObject({
    ...{ status: 418, code: error.code, message: error.message },
    ...expected,
  });
});

it('works without a code', () => {
  expect(problemOf(400, '{"error":{"message":"x","code":null}}')).toEqual({
    ...{ status: 400, code: 'unknown', message: 'x', advice: '', param: null },
  });
  // No field of every object.
  expect(problemOf(400, '{"error":{"message":"x","code":"nonsense"}}').advice).toBe('');
});

it.each(['', '<html>502</html>', '{', 'null', '[]', '{"error":"x"}', '{"error":{"message":1}}'])(
  'calls %j odd, and shows nothing of it',
  (text) => {
    const problem = problemOf(502, text);
    expect(problem).toMatchObject({ status: 502, code: 'odd_answer', param: null });
    expect(problem.message).toBe('The edge gave an unexpected answer (502).');
    expect(problem.advice).not.toBe('');
  },
);

it('reads any answer', () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.json()), (text) => {
      const { code, message, advice } = problemOf(500, text);
      expect([typeof code, typeof message, typeof advice]).toEqual(['string', 'string', 'string']);
    }),
  );
  expect([jsonOf('{"a":1}'), jsonOf('{')]).toEqual([{ a: 1 }, undefined]);
});

it('has texts for no answer, and for another version', () => {
  expect(noAnswer()).toMatchObject({ status: 0, code: 'no_answer' });
  expect(oddAnswer('/admin/names')).toMatchObject({ status: 200, code: 'odd_answer' });
  expect(oddAnswer('/admin/names').message).toContain('/admin/names');
});

it('advises on a used link, without mentioning a key', () => {
  const used = problemOf(401, JSON.stringify(errorBody({ code: 'invalid_api_key', message: 'Used.' })));
  expect(linkProblem(used)).toEqual({
    ...used,
    advice: 'Sign in with the admin key, or restart it and open the new link.',
  });
  expect(linkProblem(noAnswer())).toEqual(noAnswer());
});
