import { createHash, createHmac } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { sign, verifySignature, type SigningKey } from '../../protocol/signature.ts';
import { mutateSignature } from './mutate-signature.ts';
import { createRandom } from './random.ts';

/** A million: `MUTANTS=1000000 npx vitest run test/security/signatures.test.ts`. */
const MUTANTS = Number(process.env['MUTANTS'] ?? 20_000);
const NOW = 1_700_000_000_000;
const KEYS: SigningKey[] = [
  { kid: 'k1', secret: new Uint8Array(32).fill(7) },
  { kid: 'k0', secret: new Uint8Array(32).fill(9) },
];
const EMPTY = createHash('sha256').digest('hex');
const REQUEST = {
  originId: 'origin-1',
  method: 'POST',
  pathAndQuery: '/v1/chat/completions',
  bodyHash: EMPTY,
};

const verify = (header: string, more: Partial<Parameters<typeof verifySignature>[0]> = {}) =>
  verifySignature({
    header,
    keys: KEYS,
    ...REQUEST,
    now: NOW,
    startedAt: NOW - 1_000,
    rememberNonce: () => 'new',
    ...more,
  });

describe('signatures', () => {
  it('changed anywhere, in any way, are never accepted', async () => {
    const random = createRandom(3);
    const good = await sign(KEYS[0] as SigningKey, REQUEST, NOW);
    const other = await sign(KEYS[1] as SigningKey, { ...REQUEST, method: 'PUT' }, NOW + 5);
    expect((await verify(good)).ok).toBe(true);
    let remembered = 0;
    for (let i = 0; i < MUTANTS; i += 1) {
      const mutant = mutateSignature(random, good, other);
      const checked = await verify(mutant, { rememberNonce: () => ((remembered += 1), 'new') });
      if (checked.ok) throw new Error(`accepted: ${mutant}`);
    }
    // Garbage must not fill the store of nonces either.
    expect(remembered).toBe(0);
  });

  it('for another field are never accepted, and none is accepted twice', async () => {
    const good = await sign(KEYS[0] as SigningKey, REQUEST, NOW);
    const others: Partial<Parameters<typeof verifySignature>[0]>[] = [
      { originId: 'origin-2' },
      { method: 'PUT' },
      { pathAndQuery: '/v1/completions' },
      { pathAndQuery: '/v1/chat/completions?' },
      { pathAndQuery: '/v1/chat%2fcompletions' },
      { now: NOW + 60_001 },
      { now: NOW - 60_001 },
      { startedAt: NOW + 1 },
      { keys: [] },
      { keys: [{ kid: 'k1', secret: new Uint8Array(32) }] },
      { rememberNonce: () => 'seen' },
      { rememberNonce: () => 'full' },
    ];
    for (const other of others) expect((await verify(good, other)).ok, JSON.stringify(other)).toBe(false);
    expect((await verify(good, { now: NOW + 60_000 })).ok).toBe(true);
    expect((await verify(good, { now: NOW - 60_000 })).ok).toBe(true);
  });

  it('made with the same secret for another purpose are not accepted', async () => {
    const key = KEYS[0] as SigningKey;
    const nonce = Buffer.alloc(16).toString('base64url');
    const lines = (label: string) =>
      [label, REQUEST.originId, 'k1', 'POST', REQUEST.pathAndQuery, NOW, nonce, EMPTY].join('\n');
    const headerFor = (label: string) => {
      const s = createHmac('sha256', key.secret).update(lines(label)).digest('hex');
      return `v1 kid=k1,t=${NOW},n=${nonce},h=${EMPTY},s=${s}`;
    };
    expect((await verify(headerFor('graft-v1'))).ok).toBe(true);
    for (const label of ['graft-kv-v1', 'graft-v2', '', 'graft-v1\n']) {
      expect((await verify(headerFor(label))).ok).toBe(false);
    }
  });
});
