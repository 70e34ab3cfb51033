import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { ManifestChainEntry } from '../../../protocol/adapter-manifest.ts';
import { composeChain } from '../../../worker/completions/resolve.ts';

fc.configureGlobal({ seed: 20 });

const entry = (id: string, more: Partial<ManifestChainEntry> = {}): ManifestChainEntry => ({
  digest: id.repeat(64).slice(0, 64),
  scale: 1,
  name: `n/${id}`,
  owner: 'me',
  rank: 4,
  ...more,
});
const part = (ids: string, more: Partial<ManifestChainEntry> = {}) => ({
  chain: [...ids].map((id) => entry(id, more)),
  rank: 4,
});
/** Letters and scales of a chain. */
const shape = (result: ReturnType<typeof composeChain>) =>
  result.ok ? result.value.map(({ digest, scale }) => `${digest[0]}*${scale}`).join(' ') : result.error.code;

describe('composeChain', () => {
  it('appends an adapter and what it was trained on, with its scale', () => {
    expect(shape(composeChain(part('ab'), [{ manifest: part('cd'), scale: 0.5 }], null))).toBe(
      'a*1 b*1 c*0.5 d*0.5',
    );
    expect(shape(composeChain(null, [{ manifest: part('cd'), scale: -2 }], null))).toBe('c*-2 d*-2');
    expect(shape(composeChain(part('ab'), [], null))).toBe('a*1 b*1');
  });

  it('multiplies existing scales of a chain', () => {
    const scaled = part('c', { scale: 0.5 });
    expect(shape(composeChain(null, [{ manifest: scaled, scale: 3 }], null))).toBe('c*1.5');
  });

  it('contains a shared parent once, with its first scale', () => {
    const parts = [
      { manifest: part('ac'), scale: 0.5 },
      { manifest: part('cd'), scale: 2 },
    ];
    expect(shape(composeChain(part('ab'), parts, null))).toBe('a*1 b*1 c*0.5 d*2');
  });

  it('always writes a scale of zero the same way, because the chain id depends on it', () => {
    const composed = composeChain(null, [{ manifest: part('a'), scale: -0 }], null);
    expect(composed.ok && Object.is(composed.value[0]?.scale, 0)).toBe(true);
  });

  it('allows at most eight adapters, including parents', () => {
    const seven = part('abcdefg');
    expect(composeChain(seven, [{ manifest: part('h'), scale: 1 }], null).ok).toBe(true);
    const nine = composeChain(seven, [{ manifest: part('hi'), scale: 1 }], null);
    expect(nine).toMatchObject({ error: { code: 'invalid_request', param: 'adapters' } });
    expect(!nine.ok && nine.error.message).toContain('chain of 9 adapters');
    // A name given twice is added once.
    expect(composeChain(part('abcdefgh'), [{ manifest: part('ah'), scale: 1 }], null).ok).toBe(true);
  });

  it('allows at most the base’s sum of ranks', () => {
    const parts = [{ manifest: part('b', { rank: 60 }), scale: 1 }];
    expect(composeChain(part('a'), parts, 64).ok).toBe(true);
    expect(composeChain(part('a'), parts, 63)).toMatchObject({
      error: { code: 'invalid_request', message: expect.stringContaining('64'), param: 'adapters' },
    });
  });

  it('uses the manifest’s rank for a last member without one', () => {
    const { rank: _, ...old } = entry('b');
    const manifest = { chain: [old], rank: 60 };
    expect(composeChain(part('a'), [{ manifest, scale: 1 }], 63).ok).toBe(false);
    expect(composeChain(manifest, [], 59).ok).toBe(false);
  });

  it('never contains an adapter twice and never loses one', () => {
    const ids = fc
      .uniqueArray(fc.constantFrom(...'abcdef'), { minLength: 1 })
      .map((letters) => letters.join(''));
    const parts = fc.array(
      fc.record({ manifest: ids.map((one) => part(one)), scale: fc.integer({ min: -3, max: 3 }) }),
      {
        maxLength: 4,
      },
    );
    fc.assert(
      fc.property(ids, parts, (main, more) => {
        const composed = composeChain(part(main), more, null);
        if (!composed.ok) throw new Error('six letters fit into eight places');
        const digests = composed.value.map(({ digest }) => digest);
        const wanted = new Set(
          [part(main), ...more.map(({ manifest }) => manifest)].flatMap(({ chain }) =>
            chain.map(({ digest }) => digest),
          ),
        );
        expect(new Set(digests)).toEqual(wanted);
        expect(digests).toHaveLength(wanted.size);
        expect(composed.value.slice(0, main.length)).toEqual(part(main).chain);
      }),
    );
  });
});
