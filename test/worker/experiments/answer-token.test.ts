import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createAnswerTokens, newExposureId, variantTag } from '../../../worker/experiments/answer-token.ts';
import { EXPOSURE_LIFE_MS } from '../../../worker/experiments/limits.ts';

const SECRET = new Uint8Array(32).fill(7);
const NOW = 1_790_000_000_000;
const tokens = createAnswerTokens(SECRET);

const exposure = {
  id: 'AQEBAQEBAQEBAQEB',
  tenant: 'acme',
  experiment: 'exp_00000000000000aa',
  version: 7,
  variant: 'treatment',
  unit: 'AAECAwQFBgcICQoLDA0ODw',
  at: NOW,
};
const issue = async (changes: Partial<typeof exposure> = {}): Promise<string> => {
  const token = await tokens.issue({ ...exposure, ...changes });
  if (token === null) throw new Error('no token');
  return token;
};
const open = (token: string, tenant = 'acme', now = NOW) => tokens.open(token, { tenant, now });

describe("the token in an answer's id", () => {
  it('gives back what was put in, in 102 characters', async () => {
    const letters = [...'abcdefghijklmnopqrstuvwxyz0123456789'];
    const experiment = fc
      .array(fc.constantFrom(...letters), { minLength: 16, maxLength: 16 })
      .map((id) => `exp_${id.join('')}`);
    await fc.assert(
      fc.asyncProperty(
        experiment,
        fc.string({ minLength: 1, unit: 'grapheme' }),
        fc.integer({ min: 1, max: 2 ** 32 - 1 }),
        async (id, tenant, version) => {
          const token = await issue({ experiment: id, tenant, version });
          expect(token).toMatch(/^[A-Za-z0-9_-]{102}$/);
          const { tenant: _tenant, variant, ...rest } = { ...exposure, experiment: id, version };
          expect(await open(token, tenant)).toEqual({
            ok: true,
            value: { ...rest, variantTag: variantTag(variant) },
          });
        },
      ),
      { numRuns: 50, seed: 3 },
    );
    const greatest = await open(await issue({ experiment: 'exp_zzzzzzzzzzzzzzzz' }));
    expect(greatest).toMatchObject({ ok: true, value: { experiment: 'exp_zzzzzzzzzzzzzzzz' } });
  });

  it('has the written form, which a change of the format must not break unseen', async () => {
    // Made by Python's hmac and struct.
    expect(await issue()).toBe(WRITTEN);
  });

  it('is good for its tenant, for seven days', async () => {
    const token = await issue();
    expect(await open(token, 'other')).toEqual({ ok: false, error: { kind: 'other_tenant' } });
    expect((await open(token, 'acme', NOW + EXPOSURE_LIFE_MS - 1)).ok).toBe(true);
    expect(await open(token, 'acme', NOW + EXPOSURE_LIFE_MS)).toEqual({
      ok: false,
      error: { kind: 'expired', expiredAt: NOW + EXPOSURE_LIFE_MS },
    });
    expect(await open(await issue({ at: NOW + 61_000 }))).toMatchObject({ error: { kind: 'forged' } });
  });

  it('cannot be changed in any place', async () => {
    const bytes = Buffer.from(await issue(), 'base64url');
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Uint8Array.from(bytes);
      changed[at]! ^= 1;
      expect(await open(Buffer.from(changed).toString('base64url'))).toEqual({
        ok: false,
        error: { kind: at === 0 ? 'malformed' : 'forged' },
      });
    }
    for (const text of ['', 'x', '0123456789abcdef0123456789abcdef', `${await issue()}A`, 'ä'.repeat(102)])
      expect(await open(text)).toEqual({ ok: false, error: { kind: 'malformed' } });
  });

  it('cannot have a character more or less', async () => {
    const token = await issue();
    for (let at = 0; at < token.length; at += 1)
      for (const changed of [
        token.slice(0, at) + token.slice(at + 1),
        `${token.slice(0, at)}A${token.slice(at)}`,
        `${token.slice(0, at)}.${token.slice(at + 1)}`,
      ])
        if ((await open(changed)).ok) expect.unreachable(`${at}: ${changed}`);
    expect(await open('A'.repeat(10_000))).toEqual({ ok: false, error: { kind: 'malformed' } });
  });

  it('is forged when the secret itself has made it', async () => {
    const bytes = Buffer.from(await issue(), 'base64url');
    const key = await crypto.subtle.importKey('raw', SECRET, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
    ]);
    const mac = await crypto.subtle.sign('HMAC', key, bytes.subarray(0, 60));
    bytes.set(new Uint8Array(mac, 0, 16), 60);
    expect(await open(bytes.toString('base64url'))).toEqual({ ok: false, error: { kind: 'forged' } });
  });

  it('is another one for each answer, so that each can be rated once', async () => {
    expect(newExposureId()).toMatch(/^[A-Za-z0-9_-]{16}$/);
    const [one, other] = [await issue({ id: newExposureId() }), await issue({ id: newExposureId() })];
    expect(one).not.toBe(other);
    const ids = [await open(one), await open(other)].map((opened) => opened.ok && opened.value.id);
    expect(new Set(ids).size).toBe(2);
  });

  it('is opened with a secret that was changed, and with no other', async () => {
    const other = new Uint8Array(32).fill(8);
    const rotated = createAnswerTokens(other, [SECRET]);
    const asked = { tenant: 'acme', now: NOW };
    expect((await rotated.open(await issue(), asked)).ok).toBe(true);
    expect(await createAnswerTokens(other).open(await issue(), asked)).toMatchObject({
      error: { kind: 'forged' },
    });
  });

  it('is of an experiment and a unit of ours, or there is none', async () => {
    expect(await tokens.issue({ ...exposure, experiment: 'support/intent' })).toBeNull();
    expect(await tokens.issue({ ...exposure, unit: 'u' })).toBeNull();
  });
});

const WRITTEN =
  'AQEBAQEBAQEBAQEBAQAAAAAAAAAAAAFyAAECAwQFBgcICQoLDA0OD9hPw1D3iJldOVWgCwAAAAdqsTuAISOsz2gb4Dw6RSEpSOK_dA';
