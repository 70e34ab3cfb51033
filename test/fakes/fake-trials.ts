import { createHash } from 'node:crypto';
import type { ChainEntry } from '../../protocol/identity.ts';
import type {
  BaseInfo,
  ProbeToken,
  RowScore,
  ScoredRow,
  VerifyAnswer,
  VerifyRequest,
} from '../../protocol/origin-wire.ts';

export const FAKE_PROBE = 'What is the capital of France?';

/** Two tokens whose probabilities depend on the chain alone. */
export function fakeTokens(chain: readonly ChainEntry[]): ProbeToken[] {
  const hash = createHash('sha256').update(JSON.stringify(chain)).digest();
  const share = 0.6 + hash.readUInt8(0) / 1024;
  return [
    { id: 3 + hash.readUInt8(1), logprob: Math.log(share) },
    { id: 300 + hash.readUInt8(2), logprob: Math.log(0.9 - share) },
  ];
}

/** What an origin without a model says of a chain: it works, and differs from any other expectation entirely. */
export function fakeVerification(params: {
  base: Pick<BaseInfo, 'digest' | 'weights'>;
  chain: readonly ChainEntry[];
  expected?: VerifyRequest['expected'];
}): VerifyAnswer {
  const { base, chain, expected } = params;
  const tokens = fakeTokens(chain);
  const same = expected === undefined || JSON.stringify(expected.tokens) === JSON.stringify(tokens);
  return {
    digest: chain.at(-1)?.digest ?? '',
    ok: same,
    reason: same ? null : 'proof_mismatch',
    prompt: expected?.prompt ?? FAKE_PROBE,
    base_digest: base.digest,
    weights: base.weights,
    adapter: tokens,
    kl: expected === undefined ? null : same ? 0 : 9,
    max_difference: 1.5,
  };
}

/** Exact where the answer or label is the question; a token a character and one for the end; rows that say `fail` do. */
export const fakeScores = (rows: readonly ScoredRow[]): RowScore[] =>
  rows.map((row) => {
    if ('label' in row) {
      const asked = row.text ?? row.prompt;
      return { exact: asked === row.label, nll: 0.5, tokens: 1, got: asked ?? '' };
    }
    const { user, prompt, expected } = row;
    return expected === 'fail'
      ? { error: 'the row is too long' }
      : { exact: (user ?? prompt) === expected, nll: 0.5, tokens: expected.length + 1 };
  });
