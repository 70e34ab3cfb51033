/** Kept evaluations between the edge's app and a whole origin, signed; its model says one word and ends. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { SCORED_ROWS, type EvaluationScore } from '../../../protocol/admin-api/evaluations.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { tinyMetadata } from '../../gpu-origin/model-tokenizer/tiny-tokenizer.ts';
import { createEdgeAndOrigin, type EdgeAndOrigin } from '../edge-and-origin.ts';

const N = 'alice/notes';
const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
const encode = (text: string) => tokenizer.encode(text, { allowSpecial: false });
/** A word of one token. */
const WORD = ['q', 'a', 'b'].find((text) => encode(text).length === 1) ?? '';
const [SAID] = encode(WORD);
const [END] = tokenizer.eosIds;

let stack: EdgeAndOrigin;
beforeAll(async () => {
  const logit = (id: number, tokens: readonly number[]) =>
    id === (tokens.at(-1) === SAID ? END : SAID) ? 10 : 0;
  stack = await createEdgeAndOrigin({ runner: { logit } });
});
afterAll(() => stack.stop());

const post = async (path: string, body: object): Promise<[number, EvaluationScore]> => {
  const response = await stack.edge.request(path, { body });
  return [response.status, (await response.json()) as EvaluationScore];
};
const score = (more: object = {}) => post('/admin/evaluations/score', { name: N, label: 'holdout', ...more });

it('is scored by the origin that has the chain, page by page, and goes on where it was', async () => {
  // The model treats all adapters alike, which no origin would admit.
  const answer = stack.edge.origin.answer;
  const verified = { ok: true, reason: null, kl: null, max_difference: 1, prompt: 'a' };
  stack.edge.origin.answer = async (method, path, init, url) => {
    const response = await answer(method, path, init, url);
    if (!path.endsWith('/verify') || !response.ok) return response;
    return Response.json({ ...((await response.json()) as object), ...verified });
  };
  const adapter = tinyAdapter({ seed: 1 });
  const published = await stack.edge.publish(N, adapter);
  expect(published.status, await published.clone().text()).toBe(201);
  const rows = Array.from({ length: SCORED_ROWS + 4 }, (_, i) => ({
    prompt: `row ${i} =`,
    expected: i % 5 === 0 ? `${WORD}${WORD}` : WORD,
  }));
  expect((await post('/admin/evaluations', { name: N, label: 'holdout', rows }))[0]).toBe(201);

  expect(await score()).toEqual([200, expect.objectContaining({ scored: SCORED_ROWS, exact: 12 })]);
  // The origin is away for a while.
  const there = stack.edge.origin.answer;
  stack.edge.origin.answer = () => Promise.reject(new Error('away'));
  expect((await score())[0]).toBe(503);
  stack.edge.origin.answer = there;
  stack.sent.length = 0;
  const [, whole] = await score();
  expect(whole).toMatchObject({ rows: 20, scored: 20, exact: 16, missed: [1, 6, 11, 16] });
  expect(stack.sent).toEqual([`o1 POST /adapters/${adapter.digest}/evaluate 200`]);
  expect(await score()).toEqual([200, whole]);
  expect(stack.sent).toHaveLength(1);
});
