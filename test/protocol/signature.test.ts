import { createHash, createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SIGNATURE_WINDOW_MS } from '../../protocol/limits.ts';
import {
  newStartId,
  parseSignature,
  parseSigningKeys,
  PROTOCOL_VERSION,
  readStartId,
  sign,
  verifySignature,
  type SigningKey,
} from '../../protocol/signature.ts';

fc.configureGlobal({ seed: 1 });

const NOW = 1_800_000_000_000;
const key: SigningKey = { kid: 'k1', secret: new Uint8Array(32).fill(7) };
const other: SigningKey = { kid: 'k2', secret: new Uint8Array(32).fill(8) };
const parts = {
  originId: 'origin-1',
  method: 'POST',
  pathAndQuery: '/v1/completions?x=%2F',
  bodyHash: createHash('sha256').update('{}').digest('hex'),
};

const nonces =
  (seen = new Set<string>()) =>
  (nonce: string) =>
    seen.has(nonce) ? ('seen' as const) : seen.add(nonce) && ('new' as const);
type Checked = Parameters<typeof verifySignature>[0];
const verify = (header: string | null, change: Partial<Checked> = {}) =>
  verifySignature({
    header,
    keys: [key, other],
    originId: parts.originId,
    method: parts.method,
    pathAndQuery: parts.pathAndQuery,
    now: NOW,
    startedAt: 0,
    rememberNonce: nonces(),
    ...change,
  });
const problemOf = async (header: string | null, change: Partial<Checked> = {}) => {
  const result = await verify(header, change);
  return result.ok ? null : result.error.kind;
};

describe('a signature', () => {
  it('is verified by the key that made it', async () => {
    const result = await verify(await sign(key, parts, NOW));
    expect(result).toMatchObject({ ok: true, value: { kid: 'k1', t: NOW, h: parts.bodyHash } });
    expect(await problemOf(await sign(other, parts, NOW))).toBeNull();
  });

  it('names the protocol version, and distinguishes another one from a malformed header', async () => {
    const header = await sign(key, parts, NOW);
    expect(header).toMatch(new RegExp(`^v${PROTOCOL_VERSION} `));
    const later = header.replace(/^v\d+/, `v${PROTOCOL_VERSION + 1}`);
    expect(await verify(later)).toEqual({
      ok: false,
      error: { kind: 'protocol_version', version: PROTOCOL_VERSION + 1 },
    });
    expect(await problemOf(header.replace(/^v\d+/, 'v'))).toBe('malformed');
  });

  it('is the HMAC over the lines of the format', async () => {
    const nonce = new Uint8Array(16).fill(1);
    const header = await sign(key, { ...parts, method: 'post' }, NOW, nonce);
    const n = Buffer.from(nonce).toString('base64url');
    const lines = ['graft-v1', 'origin-1', 'k1', 'POST', parts.pathAndQuery, NOW, n, parts.bodyHash].join(
      '\n',
    );
    const mac = createHmac('sha256', key.secret).update(lines).digest('hex');
    expect(header).toBe(`v1 kid=k1,t=${NOW},n=${n},h=${parts.bodyHash},s=${mac}`);
  });

  it('has a new nonce every time', async () => {
    expect(await sign(key, parts, NOW)).not.toBe(await sign(key, parts, NOW));
  });

  it('is not valid for another origin, method or path', async () => {
    const header = await sign(key, parts, NOW);
    expect(await problemOf(header, { originId: 'origin-2' })).toBe('mismatch');
    expect(await problemOf(header, { method: 'PUT' })).toBe('mismatch');
    expect(await problemOf(header, { pathAndQuery: '/v1/completions?x=/' })).toBe('mismatch');
    expect(await problemOf(header, { pathAndQuery: '/v1/completions' })).toBe('mismatch');
  });

  it('is not valid under another secret, nor under an unknown key', async () => {
    const header = await sign(key, parts, NOW);
    expect(await problemOf(header, { keys: [{ ...key, secret: other.secret }] })).toBe('mismatch');
    expect(await problemOf(header, { keys: [other] })).toBe('unknown_key');
    expect(await problemOf(header, { keys: [] })).toBe('unknown_key');
  });

  it('cannot be replayed, not even in another spelling', async () => {
    const header = await sign(key, parts, NOW);
    const rememberNonce = nonces();
    expect(await problemOf(header, { rememberNonce })).toBeNull();
    expect(await problemOf(header, { rememberNonce })).toBe('replayed');
    const [fields] = [header.slice(3).split(',')];
    expect(await problemOf(`v1 ${fields.reverse().join(',')}`, { rememberNonce })).toBe('replayed');
  });

  it('is valid under each of two keys during a rotation, and no longer under the removed one', async () => {
    const [before, after] = [await sign(key, parts, NOW), await sign(other, parts, NOW)];
    const turns = [[key], [key, other], [other, key], [other]];
    const problems = turns.map((keys) =>
      Promise.all([before, after].map((header) => problemOf(header, { keys }))),
    );
    expect(await Promise.all(problems)).toEqual([
      [null, 'unknown_key'],
      [null, null],
      [null, null],
      ['unknown_key', null],
    ]);
  });

  it('reports the difference of the clocks, and its direction', async () => {
    const header = await sign(key, parts, NOW);
    for (const skewMs of [-90_000, 61_000])
      expect(await verify(header, { now: NOW - skewMs })).toEqual({
        ok: false,
        error: { kind: 'clock_skew', skewMs },
      });
  });

  it('is not affected by a forged one with its nonce', async () => {
    const rememberNonce = nonces();
    const header = await sign(key, parts, NOW);
    const forged = header.slice(0, -64) + '0'.repeat(64);
    expect(await problemOf(forged, { rememberNonce })).toBe('mismatch');
    expect(await problemOf(header, { rememberNonce })).toBeNull();
  });

  it('is refused when its nonce cannot be kept', async () => {
    const header = await sign(key, parts, NOW);
    expect(await problemOf(header, { rememberNonce: () => 'full' })).toBe('store_full');
  });

  it('is valid within the window, including its borders, and not beyond', async () => {
    const header = await sign(key, parts, NOW);
    for (const skew of [-SIGNATURE_WINDOW_MS, 0, SIGNATURE_WINDOW_MS])
      expect(await problemOf(header, { now: NOW + skew })).toBeNull();
    for (const skew of [-SIGNATURE_WINDOW_MS - 1, SIGNATURE_WINDOW_MS + 1])
      expect(await problemOf(header, { now: NOW + skew })).toBe('clock_skew');
  });

  it('is refused when it is older than the start, because nonces were forgotten', async () => {
    const header = await sign(key, parts, NOW);
    expect(await problemOf(header, { startedAt: NOW })).toBeNull();
    expect(await problemOf(header, { startedAt: NOW + 1 })).toBe('before_start');
  });

  it('stores only nonces of valid signatures, for longer than the window', async () => {
    const kept: [string, number][] = [];
    const rememberNonce = (nonce: string, expiresAt: number) => {
      kept.push([nonce, expiresAt]);
      return 'new' as const;
    };
    const header = await sign(key, parts, NOW);
    await verify(header, { originId: 'elsewhere', rememberNonce });
    await verify(header, { now: NOW + SIGNATURE_WINDOW_MS + 1, rememberNonce });
    expect(kept).toEqual([]);
    await verify(header, { rememberNonce });
    expect(kept).toHaveLength(1);
    expect(kept[0]![1]).toBeGreaterThan(NOW + SIGNATURE_WINDOW_MS);
  });

  it('does not survive the change of any character', async () => {
    const header = await sign(key, parts, NOW, new Uint8Array(16).fill(200));
    await fc.assert(
      fc.asyncProperty(
        fc.nat(header.length - 1),
        fc.string({ minLength: 1, maxLength: 1, unit: 'grapheme-ascii' }),
        async (at, character) => {
          fc.pre(header[at] !== character);
          expect(await problemOf(header.slice(0, at) + character + header.slice(at + 1))).not.toBeNull();
        },
      ),
      { numRuns: 500 },
    );
  });
});

describe('parseSignature', () => {
  const h = 'a'.repeat(64);
  const n = 'A'.repeat(22);
  it.each([
    null,
    undefined,
    '',
    'v1',
    'v1 ',
    'v2 kid=k1',
    `v1 kid=k1,t=1,n=${n},h=${h}`,
    `v1 kid=k1,t=1,n=${n},h=${h},s=${h},x=1`,
    `v1 kid=k1,kid=k1,t=1,n=${n},h=${h},s=${h}`,
    `v1 kid=k1,t=-1,n=${n},h=${h},s=${h}`,
    `v1 kid=k1,t=01,n=${n},h=${h},s=${h}`,
    `v1 kid=k1,t=1e3,n=${n},h=${h},s=${h}`,
    `v1 kid=k1,t=1,n=${n}A,h=${h},s=${h}`,
    `v1 kid=k1,t=1,n=${n},h=${h.toUpperCase()},s=${h}`,
    `v1 kid=,t=1,n=${n},h=${h},s=${h}`,
    `v1 __proto__=k1,t=1,n=${n},h=${h},s=${h}`,
    `v1 kid=k1,t=1,n=${n},h=${h},s=${h}${' '.repeat(512)}`,
  ])('refuses %j', (header) => {
    expect(parseSignature(header)).toBeNull();
  });
  it('reads the fields', () => {
    expect(parseSignature(`v1 kid=k1,t=12,n=${n},h=${h},s=${h}`)).toEqual({ kid: 'k1', t: 12, n, h, s: h });
  });
});

describe('parseSigningKeys', () => {
  const secret = Buffer.alloc(32, 5).toString('base64');
  it('reads a list', () => {
    expect(parseSigningKeys(`k1:${secret}, k-2:${secret}`)).toEqual([
      { kid: 'k1', secret: new Uint8Array(32).fill(5) },
      { kid: 'k-2', secret: new Uint8Array(32).fill(5) },
    ]);
  });
  it.each([
    '',
    'k1',
    `:${secret}`,
    `k 1:${secret}`,
    `k1:${secret},`,
    `k1:${secret},k2:${Buffer.alloc(31).toString('base64')}`,
    `k1:${secret.slice(0, -1)}!`,
    `k1:${secret},k1:${secret}`,
  ])('refuses %j without printing a secret', (text) => {
    let message = '';
    try {
      parseSigningKeys(text);
    } catch (error) {
      message = (error as Error).message;
    }
    expect(message).toMatch(/origin key \d/);
    expect(message).not.toContain(secret.slice(0, 20));
  });
});

describe('a signature for one start of its receiver', () => {
  const [startId, earlier] = [newStartId(), newStartId()];
  const now = { startId, startedAt: NOW + 20_000, now: NOW + 21_000 };

  it('is valid also with an earlier timestamp; one without a start is not', async () => {
    expect(await problemOf(await sign(key, parts, NOW), now)).toBe('before_start');
    expect(await problemOf(await sign(key, { ...parts, startId }, NOW), now)).toBeNull();
    expect(await problemOf(await sign(key, { ...parts, startId }, NOW + 20_500), now)).toBeNull();
  });

  it('is valid for that start only, whatever its timestamp, once, and within the window', async () => {
    for (const t of [NOW, NOW + 20_500, NOW + 30_000])
      expect(await problemOf(await sign(key, { ...parts, startId: earlier }, t), now)).toBe('before_start');
    const header = await sign(key, { ...parts, startId }, NOW);
    expect(await problemOf(header, { ...now, startId: undefined })).toBe('before_start');
    const rememberNonce = nonces();
    expect(await problemOf(header, { ...now, rememberNonce })).toBeNull();
    expect(await problemOf(header, { ...now, rememberNonce })).toBe('replayed');
    expect(await problemOf(header, { ...now, now: NOW + 61_000 })).toBe('clock_skew');
  });

  it('cannot be made from one for another start, or for any', async () => {
    const header = await sign(key, { ...parts, startId: earlier }, NOW);
    expect(await problemOf(header.replace(earlier, startId), now)).toBe('mismatch');
    expect(await problemOf(header.replace(`b=${earlier},`, ''), { ...now, startedAt: 0 })).toBe('mismatch');
    const any = await sign(key, parts, NOW);
    expect(await problemOf(any.replace(',h=', `,b=${startId},h=`), now)).toBe('mismatch');
    expect(await problemOf(any.replace(',h=', ',b=,h='), now)).toBe('malformed');
    expect([readStartId(startId), readStartId('x'), readStartId(null)]).toEqual([startId, null, null]);
  });
});
