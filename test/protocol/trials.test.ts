import { describe, expect, it } from 'vitest';
import { MAX_CHAIN, MAX_TOP_LOGPROBS } from '../../protocol/limits.ts';
import {
  AdapterProof,
  EvaluateRequest,
  Evaluation,
  MAX_EVALUATION_ROWS,
  RowScore,
  VerifyAnswer,
  VerifyRequest,
} from '../../protocol/origin-wire.ts';

const DIGEST = 'a'.repeat(64);
const tokens = (count: number) => Array.from({ length: count }, (_, id) => ({ id, logprob: -1 }));
const chain = (length: number) => Array.from({ length }, () => ({ digest: DIGEST, scale: 1 }));
const proof = { base_digest: DIGEST, weights: 'int8', prompt: 'Hi?', tokens: tokens(2), at: 1 };
const evaluation = { rows: 1, exact_match: 1, mean_nll: 0, sha256: DIGEST };
const row = { prompt: 'a', expected: 'b' };

describe('what travels when adapters are tried', () => {
  it.each([
    ['a proof', AdapterProof, proof, true],
    ['as many tokens as there are', AdapterProof, { ...proof, tokens: tokens(MAX_TOP_LOGPROBS) }, true],
    ['one token more', AdapterProof, { ...proof, tokens: tokens(MAX_TOP_LOGPROBS + 1) }, false],
    ['no tokens', AdapterProof, { ...proof, tokens: [] }, false],
    ['a probability that is none', AdapterProof, { ...proof, tokens: [{ id: 1, logprob: NaN }] }, false],
    ['a field that is not known', AdapterProof, { ...proof, note: 'x' }, false],
    ['nothing to verify but the adapter', VerifyRequest, {}, true],
    ['the longest chain', VerifyRequest, { chain: chain(MAX_CHAIN) }, true],
    ['a longer chain', VerifyRequest, { chain: chain(MAX_CHAIN + 1) }, false],
    ['an expectation', VerifyRequest, { expected: { tokens: tokens(1) } }, true],
    ['a prompt of no characters', VerifyRequest, { expected: { prompt: '', tokens: tokens(1) } }, false],
    ['an evaluation', Evaluation, evaluation, true],
    ['more than all answers', Evaluation, { ...evaluation, exact_match: 1.1 }, false],
    ['an infinite mean', Evaluation, { ...evaluation, mean_nll: Infinity }, false],
    ['as many rows as may be', EvaluateRequest, { rows: Array(MAX_EVALUATION_ROWS).fill(row) }, true],
    ['one row more', EvaluateRequest, { rows: Array(MAX_EVALUATION_ROWS + 1).fill(row) }, false],
    ['a chat row', EvaluateRequest, { rows: [{ user: 'a', system: 'b', expected: 'c' }] }, true],
    ['a row that is both', EvaluateRequest, { rows: [{ ...row, user: 'a' }] }, false],
    ['a row that is neither', EvaluateRequest, { rows: [{ expected: 'c' }] }, false],
    ['a score', RowScore, { exact: true, nll: 0.1, tokens: 2 }, true],
    ['an error', RowScore, { error: 'too long' }, true],
    ['half a score', RowScore, { exact: true }, false],
  ])('%s', (_, schema, value, good) => {
    expect(schema.safeParse(value).success).toBe(good);
  });

  it('accepts an origin that sends more fields than needed', () => {
    const { base_digest, weights, prompt } = proof;
    const answer = { digest: DIGEST, ok: true, reason: null, prompt, base_digest, weights };
    const whole = { ...answer, adapter: tokens(1), kl: null, max_difference: 0 };
    expect(VerifyAnswer.parse({ ...whole, base: [], below: [] })).toEqual(whole);
  });
});
