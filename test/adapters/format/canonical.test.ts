import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AdapterFormatError } from '../../../adapters/errors.ts';
import { CONFIG_KEY, encodeCanonical, parseCanonical } from '../../../adapters/format/canonical.ts';
import { toDtype, makeLoraModule, type LoraModule } from '../../../adapters/format/lora-module.ts';
import type { Tensor } from '../../../adapters/format/dtype.ts';
import { parseSafetensors, writeSafetensors } from '../../../adapters/format/safetensors.ts';
import { MAX_RANK } from '../../../protocol/limits.ts';
import { BASE_ID, filled, loraModule, Q, refusal, tensor, V } from '../make-adapter.ts';

fc.configureGlobal({ seed: 1 });

const PARENT = 'b'.repeat(64);
const file = (
  modules: LoraModule[] = [loraModule(Q), loraModule(V, 1, 4, 2, 0.5)],
  parent: string | null = PARENT,
) => encodeCanonical({ base: BASE_ID, parent, modules });

/** The file with another config text, and with tensors put in or taken out. */
function forged(
  config: string | undefined,
  change: (tensors: Map<string, Tensor>) => void = () => undefined,
) {
  const { tensors, metadata } = parseSafetensors(file());
  change(tensors);
  return writeSafetensors({
    tensors,
    metadata: config === undefined ? new Map() : new Map([...metadata, [CONFIG_KEY, config]]),
  });
}
const goodConfig = () => parseSafetensors(file()).metadata.get(CONFIG_KEY) as string;

describe('the canonical file', () => {
  it('is the same whether values were rounded before or while packing', () => {
    const modules = [loraModule(Q), { ...loraModule(V, 1, 4, 2, 0.5), a: filled(1, 4, 'F16') }];
    for (const dtype of ['BF16', 'F16', 'F32'] as const)
      expect(encodeCanonical({ base: BASE_ID, parent: null, modules, dtype })).toEqual(
        encodeCanonical({ base: BASE_ID, parent: null, modules: toDtype(modules, dtype) }),
      );
  });

  it('has this configuration and these tensors', () => {
    const { metadata, tensors } = parseSafetensors(file());
    expect(metadata).toEqual(
      new Map([
        [
          'graft.config',
          `{"format":1,"base":"tiny-llama","modules":{"${Q}":{"rank":2,"alpha":4},"${V}":{"rank":1,"alpha":0.5}},"parent":"${PARENT}"}`,
        ],
      ]),
    );
    expect([...tensors].map(([name, { shape }]) => [name, shape])).toEqual([
      [`${Q}.lora_A`, [2, 4]],
      [`${Q}.lora_B`, [6, 2]],
      [`${V}.lora_A`, [1, 4]],
      [`${V}.lora_B`, [2, 1]],
    ]);
  });

  it('is read back unchanged', () => {
    const { config, modules } = parseCanonical(file());
    expect(config).toEqual({
      base: BASE_ID,
      parent: PARENT,
      modules: new Map([
        [Q, { rank: 2, alpha: 4 }],
        [V, { rank: 1, alpha: 0.5 }],
      ]),
    });
    expect(modules).toEqual([loraModule(Q), loraModule(V, 1, 4, 2, 0.5)]);
    expect(modules.map(({ scale }) => scale)).toEqual([2, 0.5]);
    expect(parseCanonical(file(undefined, null)).config.parent).toBeNull();
  });

  it('does not depend on the order of the modules, and packs again to the same bytes', () => {
    const name = fc
      .array(fc.stringMatching(/^[A-Za-z0-9_]{1,5}$/), { minLength: 1, maxLength: 3 })
      .map((segments) => segments.join('.'));
    const some = fc.uniqueArray(
      fc.record({
        name: fc.oneof(name, fc.constantFrom('__proto__', 'constructor', '1', '0')),
        rank: fc.integer({ min: 1, max: 3 }),
        alpha: fc.double({ min: 1e-3, max: 1e6, noNaN: true }),
        dtype: fc.constantFrom('F32' as const, 'BF16' as const),
      }),
      { selector: (module) => module.name, minLength: 1, maxLength: 5 },
    );
    fc.assert(
      fc.property(some, fc.constantFrom(null, PARENT), (specs, parent) => {
        const modules = specs.map(({ name: module, rank, alpha, dtype }) =>
          makeLoraModule({ name: module, rank, alpha, a: filled(rank, 3, dtype), b: filled(2, rank, dtype) }),
        );
        const bytes = file(modules, parent);
        expect(file([...modules].reverse(), parent)).toEqual(bytes);
        const read = parseCanonical(bytes);
        expect(
          encodeCanonical({ base: read.config.base, parent: read.config.parent, modules: read.modules }),
        ).toEqual(bytes);
        expect(new Set(read.modules)).toEqual(new Set(modules));
      }),
    );
  });
});

describe('parseCanonical refuses', () => {
  const sub = (from: string, to: string) => () => forged(goodConfig().replace(from, to));
  it.each([
    ['no configuration', () => forged(undefined), 'not_canonical'],
    ['configuration that is not JSON', () => forged('{'), 'not_canonical'],
    ['configuration that is a list', () => forged('[]'), 'not_canonical'],
    ['another format', sub('"format":1', '"format":2'), 'format_version'],
    ['a base that is no id', sub('tiny-llama', 'Tiny/Llama'), 'not_canonical'],
    ['a parent that is no digest', sub(PARENT, 'b'), 'not_canonical'],
    ['an unknown key', sub('{"format"', '{"x":1,"format"'), 'not_canonical'],
    ['a key twice', sub('{"format"', '{"format":1,"format"'), 'not_canonical'],
    ['__proto__ as a key', sub('{"format"', '{"__proto__":{},"format"'), 'not_canonical'],
    ['a module that is a number', sub('{"rank":2,"alpha":4}', '4'), 'not_canonical'],
    ['a module with a third key', sub('"alpha":4', '"alpha":4,"x":1'), 'not_canonical'],
    ['rank as text', sub('"rank":2', '"rank":"2"'), 'not_canonical'],
    ['rank zero', sub('"rank":2', '"rank":0'), 'not_canonical'],
    ['white space in the configuration', sub('"format":1', '"format": 1'), 'not_canonical'],
    ['another spelling of a number', sub('"alpha":0.5', '"alpha":5e-1'), 'not_canonical'],
    ['alpha that overflows', sub('"alpha":4', '"alpha":1e999'), 'not_canonical'],
    ['alpha above float32', sub('"alpha":4', '"alpha":1e300'), 'scale_invalid'],
    ['alpha zero', sub('"alpha":4', '"alpha":0'), 'scale_invalid'],
    ['a rank that the tensors do not have', sub('"rank":2', '"rank":3'), 'rank_mismatch'],
    [
      'no modules',
      () => forged('{"format":1,"base":"tiny-llama","modules":{},"parent":null}', (t) => t.clear()),
      'empty_adapter',
    ],
    ['a module without tensors', sub('"modules":{', '"modules":{"x":{"rank":1,"alpha":1},'), 'missing_pair'],
    ['a missing B', () => forged(goodConfig(), (t) => t.delete(`${Q}.lora_B`)), 'missing_pair'],
    [
      'a tensor of no module',
      () => forged(goodConfig(), (t) => t.set('x.lora_A', filled(1, 1))),
      'unknown_tensor',
    ],
    [
      'a tensor of another kind',
      () => forged(goodConfig(), (t) => t.set(`${Q}.weight`, filled(1, 1))),
      'unknown_tensor',
    ],
    [
      'integers',
      () => forged(goodConfig(), (t) => t.set(`${Q}.lora_A`, { ...filled(2, 4), dtype: 'I32' })),
      'dtype_unsupported',
    ],
    [
      'float64',
      () =>
        forged(goodConfig(), (t) =>
          t.set(`${Q}.lora_A`, { dtype: 'F64', shape: [2, 4], data: new Uint8Array(64) }),
        ),
      'dtype_unsupported',
    ],
    [
      'three dimensions',
      () => forged(goodConfig(), (t) => t.set(`${Q}.lora_A`, tensor([2, 2, 2], [1, 1, 1, 1, 1, 1, 1, 1]))),
      'shape_invalid',
    ],
    [
      'an empty matrix',
      () => forged(goodConfig(), (t) => t.set(`${Q}.lora_A`, tensor([2, 0], []))),
      'shape_invalid',
    ],
    [
      'A and B of different rank',
      () => forged(goodConfig(), (t) => t.set(`${Q}.lora_B`, filled(6, 3))),
      'rank_mismatch',
    ],
  ] as const)('%s', (_, make, code) => {
    refusal(code, () => parseCanonical(make()));
  });

  it('a PEFT file', () => {
    refusal('not_canonical', () =>
      parseCanonical(writeSafetensors({ tensors: new Map([['a', filled(1, 1)]]) })),
    );
  });

  it('further metadata, another header order or other padding: one adapter has one digest', () => {
    const { metadata, tensors } = parseSafetensors(file());
    refusal('not_canonical', () =>
      parseCanonical(writeSafetensors({ tensors, metadata: new Map([...metadata, ['format', 'pt']]) })),
    );
    const bytes = file();
    const end = 8 + new DataView(bytes.buffer).getUint32(0, true);
    const padded = Uint8Array.from([
      ...bytes.slice(0, end),
      ...new Array<number>(8).fill(0x20),
      ...bytes.slice(end),
    ]);
    new DataView(padded.buffer).setUint32(0, end, true);
    refusal('not_canonical', () => parseCanonical(padded));
  });

  it('a rank above the limit, but not at it', () => {
    const make = (rank: number) => loraModule(Q, rank, 2, 2);
    expect(parseCanonical(file([make(MAX_RANK)])).modules[0]?.rank).toBe(MAX_RANK);
    refusal('rank_too_large', () => make(MAX_RANK + 1));
  });

  it.each(['', '.a', 'a.', 'a..b', 'a b', 'a/b', '../a', 'é', 'a\n', 'a'.repeat(257)])(
    'the module name %j',
    (name) => {
      refusal('module_name_invalid', () => loraModule(name));
    },
  );
});

it('a corrupted byte gives an AdapterFormatError, or changes only values', () => {
  const bytes = file();
  const original = parseCanonical(bytes);
  fc.assert(
    fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
      const damaged = bytes.with(at, bytes[at]! ^ flip);
      try {
        const read = parseCanonical(damaged);
        // Whatever is accepted is itself canonical, so it has an identity of its own.
        expect(encodeCanonical({ ...read.config, modules: read.modules })).toEqual(damaged);
        expect(read.modules.map(({ a, b }) => [a.data.length, b.data.length])).toEqual(
          original.modules.map(({ a, b }) => [a.data.length, b.data.length]),
        );
      } catch (error) {
        expect(error).toBeInstanceOf(AdapterFormatError);
      }
    }),
    { numRuns: 3_000 },
  );
});
