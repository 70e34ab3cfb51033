/** Small adapters that the newest tools wrote (`../fixtures/trained/make.py`), against what their own layers compute. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import {
  packAdapter,
  parseCanonical,
  readAdapter,
  toFloat32,
  type LoraModule,
} from '../../adapters/index.ts';
import { readInput } from '../../cli/adapter-files/read-input.ts';

const FOLDER = fileURLToPath(new URL('../fixtures/trained', import.meta.url));
const { x, delta } = JSON.parse(readFileSync(join(FOLDER, 'expected.json'), 'utf8')) as {
  x: number[];
  delta: Record<string, Record<string, number[]>>;
};
const attention = { heads: 2, kvHeads: 1 };

/** @returns scale * B A x. */
function added({ rank, scale, a, b }: LoraModule): number[] {
  const [down, up] = [toFloat32(a), toFloat32(b)];
  const inputs = a.shape[1]!;
  const inner = Array.from({ length: rank }, (_, r) =>
    x.slice(0, inputs).reduce((sum, value, i) => sum + value * down[r * inputs + i]!, 0),
  );
  return Array.from(
    { length: b.shape[0]! },
    (_, row) => scale * inner.reduce((sum, value, r) => sum + value * up[row * rank + r]!, 0),
  );
}

const TOOLS = [
  ['mlx-lm', 'mlx'],
  ['PEFT', 'peft'],
  ['LyCORIS', 'kohya'],
  ['llama.cpp', 'gguf'],
] as const;

it.each(
  TOOLS.flatMap(([tool, format]) =>
    readdirSync(FOLDER)
      .filter((name) => name.startsWith(`${format}-`))
      .map((name) => [tool, name, format] as const),
  ),
)("%s's own file %s adds what its own layers add, before and after packing", async (_, name, format) => {
  const given = join(FOLDER, name);
  const files =
    format === 'mlx' || format === 'peft'
      ? given
      : join(
          given,
          readdirSync(given).find((file) => /\.(?:gguf|safetensors)$/.test(file))!,
        );
  const input = await readInput(files);
  const read = readAdapter(input.files, { attention });
  expect(read.format).toBe(format);
  const packed = await packAdapter({
    files: input.files,
    ...{ attention, baseId: 'llama', parentChainId: null },
  });
  for (const modules of [read.modules, parseCanonical(packed.bytes).modules]) {
    expect(modules.map((module) => module.name)).toEqual(Object.keys(delta[name]!).sort());
    for (const module of modules) {
      const expected = delta[name]![module.name]!;
      const largest = Math.max(...expected.map(Math.abs));
      // The converter rounds to float16; the others' numbers were computed from what is in the file.
      const allowed = (name === 'gguf-f16' ? 2e-3 : 1e-5) * largest;
      const got = added(module);
      expect(got).toHaveLength(expected.length);
      got.forEach((value, at) => expect(Math.abs(value - expected[at]!)).toBeLessThan(allowed));
    }
  }
});

it("reads mlx-lm's files with odd data offsets and null metadata", () => {
  const files = readdirSync(FOLDER)
    .filter((name) => name.startsWith('mlx-'))
    .map((name) => readFileSync(join(FOLDER, name, 'adapters.safetensors')));
  expect(files).toHaveLength(3);
  for (const file of files) {
    expect(Number(file.readBigUInt64LE(0)) % 2).toBe(1);
    expect(file.includes('"__metadata__":null')).toBe(true);
  }
});
