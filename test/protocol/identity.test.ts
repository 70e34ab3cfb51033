import fc from 'fast-check';
import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import {
  AdapterName,
  baseIdOf,
  nameProblem,
  chainId,
  ChainEntry,
  Digest,
  sha256Hex,
  toHex,
} from '../../protocol/identity.ts';
import { MAX_NAME_LENGTH, MAX_NAME_SEGMENT, MAX_NAME_SEGMENTS } from '../../protocol/limits.ts';

fc.configureGlobal({ seed: 1 });

describe('nameProblem', () => {
  it.each([
    'medicine',
    'medicine/cardiology/dr-lee',
    '0',
    'a.b_c-d',
    '...',
    '.hidden',
    'versions/v1/admin/base',
    'v11',
    'a'.repeat(MAX_NAME_SEGMENT),
    Array(MAX_NAME_SEGMENTS).fill('a').join('/'),
  ])('accepts %j', (name) => {
    expect(nameProblem(name)).toBeNull();
    expect(AdapterName.safeParse(name).success).toBe(true);
  });

  it.each([
    '',
    '/',
    '/a',
    'a/',
    'a//b',
    '.',
    '..',
    'a/../b',
    'a/./b',
    'A',
    'a b',
    'a@3',
    'a%2fb',
    'a\\b',
    'a\0',
    'a\n',
    'é',
    'e\u0301',
    '\u0430dmin',
    '\u202ea',
    'a\ufeff',
    'a:b',
    'a?b',
    'a#b',
    'base',
    'admin',
    'v1',
    'v1/models',
    'base/x',
    'a'.repeat(MAX_NAME_SEGMENT + 1),
    Array(MAX_NAME_SEGMENTS + 1)
      .fill('a')
      .join('/'),
  ])('refuses %j', (name) => {
    expect(nameProblem(name)).toEqual(expect.any(String));
    expect(AdapterName.safeParse(name).success).toBe(false);
  });

  it('holds its length limit at the boundary', () => {
    const name = (length: number) => {
      const text = Array(5).fill('a'.repeat(60)).join('/').slice(0, length);
      return text.endsWith('/') ? `${text.slice(0, -1)}a` : text;
    };
    expect(nameProblem(name(MAX_NAME_LENGTH))).toBeNull();
    expect(nameProblem(name(MAX_NAME_LENGTH + 1))).toContain(`${MAX_NAME_LENGTH}`);
  });

  it('accepts nothing that a URL, a path or a KV key would read differently', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom('a', '.', '/', '%', 'A', '\\', ' ', '@', 'é'), maxLength: 12 }),
        (name) => {
          if (nameProblem(name) !== null) return;
          expect(new URL(`http://h/v1/models/${name}`).pathname).toBe(`/v1/models/${name}`);
          expect(encodeURI(name)).toBe(name);
        },
      ),
      { numRuns: 2_000 },
    );
  });
});

describe('baseIdOf', () => {
  it.each([
    ['HuggingFaceTB/SmolLM2-135M-Instruct', 'smollm2-135m-instruct'],
    ['smollm2-135m-instruct', 'smollm2-135m-instruct'],
    ['/models/My Model', 'my-model'],
    ['Qwen/Qwen2.5-0.5B', 'qwen2.5-0.5b'],
  ])('%s -> %s', (hubId, id) => {
    expect(baseIdOf(hubId)).toBe(id);
  });
  it('returns ids that it leaves unchanged', () => {
    fc.assert(
      fc.property(fc.string(), (text) => {
        expect(baseIdOf(baseIdOf(text))).toBe(baseIdOf(text));
      }),
    );
  });
});

const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');
const [A, B] = ['a'.repeat(64), 'b'.repeat(64)];

describe('chainId', () => {
  it('is the sha256 of one line per member', async () => {
    expect(
      await chainId([
        { digest: A, scale: 1 },
        { digest: B, scale: 0.5 },
      ]),
    ).toBe(sha256(`${A} 1\n${B} 0.5\n`));
    expect(await chainId([{ digest: A, scale: -1e21 }])).toBe(sha256(`${A} -1e+21\n`));
  });
  it('of the base is that of the empty string', async () => {
    expect(await chainId([])).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });
  it('depends on order, scale and digest', async () => {
    const chains = [
      [{ digest: A, scale: 1 }],
      [{ digest: A, scale: 2 }],
      [{ digest: B, scale: 1 }],
      [
        { digest: A, scale: 1 },
        { digest: B, scale: 1 },
      ],
      [
        { digest: B, scale: 1 },
        { digest: A, scale: 1 },
      ],
    ];
    expect(new Set(await Promise.all(chains.map(chainId))).size).toBe(chains.length);
  });
});

describe('digests', () => {
  it('hash bytes and text like node', async () => {
    await fc.assert(
      fc.asyncProperty(fc.string(), async (text) => {
        expect(await sha256Hex(text)).toBe(sha256(text));
        expect(await sha256Hex(new TextEncoder().encode(text))).toBe(sha256(text));
      }),
    );
  });
  it('toHex is lower-case, two digits per byte', () => {
    expect(toHex(Uint8Array.of(0, 15, 255))).toBe('000fff');
    expect(toHex(Uint8Array.of(0, 15, 255).buffer)).toBe('000fff');
  });
  it.each(['', 'A'.repeat(64), 'a'.repeat(63), 'a'.repeat(65), `${'a'.repeat(64)}\n`, 'g'.repeat(64)])(
    '%j is none',
    (text) => {
      expect(Digest.safeParse(text).success).toBe(false);
    },
  );
  it.each([NaN, Infinity, '1', null])('a chain entry with the scale %j is refused', (scale) => {
    expect(ChainEntry.safeParse({ digest: A, scale }).success).toBe(false);
  });
});
