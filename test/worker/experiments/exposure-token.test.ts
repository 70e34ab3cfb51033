import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createExposureTokens, type Exposure } from '../../../worker/experiments/exposure-token.ts';
import { EXPOSURE_LIFE_MS, MAX_EXPOSURE_CHARACTERS } from '../../../worker/experiments/limits.ts';

fc.configureGlobal({ seed: 11 });

const SECRET = new Uint8Array(32).fill(7);
const NOW = 1_790_000_000_000;
const tokens = createExposureTokens(SECRET);
const fixed = createExposureTokens(SECRET, [], () => new Uint8Array(12).fill(1));

const exposure: Omit<Exposure, 'id'> = {
  tenant: 'acme',
  experiment: 'support/intent',
  version: 7,
  variant: 'treatment',
  unit: 'AAAAAAAAAAAAAAAAAAAAAA',
  at: NOW,
};
const open = (token: string, tenant = 'acme', now = NOW) => tokens.open(token, { tenant, now });

describe('exposure token', () => {
  it('gives back what was put in, whatever is in it', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ minLength: 1, unit: 'grapheme' }), fc.nat(), async (tenant, version) => {
        const given = { ...exposure, tenant, version: version + 1 };
        const opened = await tokens.open(await tokens.issue(given), { tenant, now: NOW });
        expect(opened).toMatchObject({ ok: true, value: given });
      }),
      { numRuns: 50 },
    );
  });

  it('is another one for each answer, so that each can be rated once', async () => {
    const [one, other] = await Promise.all([tokens.issue(exposure), tokens.issue(exposure)]);
    expect(one).not.toBe(other);
    const ids = await Promise.all([one, other].map(async (token) => await open(token)));
    expect(new Set(ids.map((opened) => opened.ok && opened.value.id)).size).toBe(2);
  });

  it('has the written form, which a change of the format must not break unseen', async () => {
    // Made by Python's hmac and json.
    const payload =
      'WyJBUUVCQVFFQkFRRUJBUUVCIiwiYWNtZSIsInN1cHBvcnQvaW50ZW50Iiw3LCJ0cmVhdG1lbnQiLCJBQUFBQUFBQUFBQUFBQUFBQUFBQUFBIiwxNzkwMDAwMDAwMDAwXQ';
    expect(await fixed.issue(exposure)).toBe(`v1.${payload}.SE3LVk9U3E6XxPKBI5K-v7BQZGYKAZRLHV_bA9D4JM0`);
  });

  it('can be given back for seven days', async () => {
    const token = await tokens.issue(exposure);
    expect((await open(token, 'acme', NOW + EXPOSURE_LIFE_MS - 1)).ok).toBe(true);
    expect(await open(token, 'acme', NOW + EXPOSURE_LIFE_MS)).toEqual({
      ok: false,
      error: { kind: 'expired', expiredAt: NOW + EXPOSURE_LIFE_MS },
    });
  });

  it('belongs to its tenant', async () => {
    expect(await open(await tokens.issue(exposure), 'other')).toEqual({
      ok: false,
      error: { kind: 'other_tenant' },
    });
  });

  it('from further ahead than clocks differ is not ours', async () => {
    expect((await open(await tokens.issue({ ...exposure, at: NOW + 60_000 }))).ok).toBe(true);
    expect(await open(await tokens.issue({ ...exposure, at: NOW + 60_001 }))).toMatchObject({
      error: { kind: 'forged' },
    });
  });

  it('made with another secret, or with the secret itself, is forged', async () => {
    const other = createExposureTokens(new Uint8Array(32).fill(8));
    expect(await open(await other.issue(exposure))).toEqual({ ok: false, error: { kind: 'forged' } });
    const [head = ''] = (await tokens.issue(exposure)).split(/\.(?=[^.]*$)/);
    const key = await crypto.subtle.importKey('raw', SECRET, { name: 'HMAC', hash: 'SHA-256' }, false, [
      'sign',
    ]);
    const mac = await crypto.subtle.sign('HMAC', key, new TextEncoder().encode(head));
    const forged = `${head}.${Buffer.from(mac).toString('base64url')}`;
    expect(await open(forged)).toEqual({ ok: false, error: { kind: 'forged' } });
  });

  it('opens with a secret that is accepted while it is rotated', async () => {
    const next = createExposureTokens(new Uint8Array(32).fill(8), [SECRET]);
    expect((await next.open(await tokens.issue(exposure), { tenant: 'acme', now: NOW })).ok).toBe(true);
    expect((await open(await next.issue(exposure))).ok).toBe(false);
  });

  it('is refused with any one character changed, added or gone', async () => {
    const token = await tokens.issue(exposure);
    for (let i = 0; i < token.length; i++) {
      const other = token[i] === 'A' ? 'B' : 'A';
      for (const changed of [
        token.slice(0, i) + other + token.slice(i + 1),
        token.slice(0, i) + token.slice(i + 1),
        token.slice(0, i) + other + token.slice(i),
      ])
        if ((await open(changed)).ok) expect.unreachable(`${i}: ${changed}`);
    }
  });

  it.each([
    '',
    'v1',
    'v1.',
    'v1..',
    'v2.AAAA.AAAA',
    'v1.AAAA.AAAA.AAAA',
    'v1.%%%%.AAAA',
    'v1.A.AAAA',
    '\u0000',
  ])('is malformed or forged as %j', async (token) => {
    const opened = await open(token);
    expect(opened.ok).toBe(false);
    expect(['malformed', 'forged']).toContain(opened.ok ? '' : opened.error.kind);
  });

  it('that is too long is not looked at', async () => {
    expect(await open(`v1.${'A'.repeat(MAX_EXPOSURE_CHARACTERS)}.AAAA`)).toEqual({
      ok: false,
      error: { kind: 'malformed' },
    });
  });
});
