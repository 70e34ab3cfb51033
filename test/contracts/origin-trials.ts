import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { EvaluateAnswer, VerifyAnswer } from '../../protocol/origin-wire.ts';

export interface TriedOrigin {
  /** Signed POST. */
  post(path: string, body: unknown): Promise<Response>;
  /** The same, unsigned. */
  unsigned(path: string, body: unknown): Promise<Response>;
  /** Digest of an adapter that it holds. */
  held: string;
  stop(): Promise<void>;
}

/** What the edge relies on when it has an origin try an adapter. */
export function originTrialsContract(origin: string, start: () => Promise<TriedOrigin>): void {
  describe(`trials at ${origin}`, () => {
    const missing = 'd'.repeat(64);
    const rows = [
      { prompt: 'a', expected: 'b' },
      { user: 'a', system: 'c', expected: 'b' },
    ];
    let tried: TriedOrigin;
    let own: { digest: string; scale: number };
    beforeAll(async () => {
      tried = await start();
      own = { digest: tried.held, scale: 1 };
    });
    afterAll(() => tried.stop());

    const verify = async (body: object) => {
      const response = await tried.post(`/adapters/${tried.held}/verify`, body);
      expect(response.status).toBe(200);
      return VerifyAnswer.parse(await response.json());
    };

    it('answers what it sees of an adapter that it holds', async () => {
      const seen = await verify({});
      expect(seen).toMatchObject({ digest: tried.held, ok: true, reason: null, kl: null });
      expect(seen.adapter.length).toBeGreaterThan(0);
      expect(seen.max_difference).toBeGreaterThan(0);
      expect(await verify({ chain: [own] })).toEqual(seen);
    });

    it('compares with what is expected', async () => {
      const { prompt, adapter } = await verify({});
      const tokens = adapter.map(({ id, logprob }) => ({ id, logprob }));
      expect(await verify({ expected: { prompt, tokens } })).toMatchObject({ ok: true, prompt, kl: 0 });
      const other = tokens.map(({ id }, i) => ({ id, logprob: tokens.at(-1 - i)?.logprob ?? 0 }));
      const found = await verify({ expected: { prompt, tokens: other } });
      expect(found).toMatchObject({ ok: false, reason: 'proof_mismatch' });
      expect(found.kl).toBeGreaterThan(0.05);
    });

    it('scores one row after the other', async () => {
      const response = await tried.post(`/adapters/${tried.held}/evaluate`, {
        chain: [own],
        tenant: 'me',
        budget_ms: 60_000,
        rows,
      });
      expect(response.status).toBe(200);
      const { rows: scores } = EvaluateAnswer.parse(await response.json());
      expect(scores).toHaveLength(rows.length);
      for (const score of scores) expect(score).toMatchObject({ exact: expect.any(Boolean) as boolean });
    });

    it.each(['verify', 'evaluate'])('%s: says which adapters of the chain are missing', async (what) => {
      const chain = [{ digest: missing, scale: 1 }, own];
      const response = await tried.post(`/adapters/${tried.held}/${what}`, {
        chain,
        ...(what === 'evaluate' ? { rows } : {}),
      });
      expect(response.status).toBe(409);
      expect(await response.json()).toMatchObject({ error: { code: 'adapter_missing', missing: [missing] } });
    });

    it.each(['verify', 'evaluate'])('%s: refuses another chain and an unsigned request', async (what) => {
      const body = { chain: [own], ...(what === 'evaluate' ? { rows } : {}) };
      const other = await tried.post(`/adapters/${missing}/${what}`, body);
      expect([other.status, await other.json()]).toMatchObject([400, { error: { param: 'chain' } }]);
      expect((await tried.unsigned(`/adapters/${tried.held}/${what}`, body)).status).toBe(401);
    });
  });
}
