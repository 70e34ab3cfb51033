/**
 * `npm run interop -- bases [file.gguf | folder …]`: each family and quantization against the originals, as the table of
 * docs/engine.md; of bases that are given, int8 against float32. Needs no Python: the originals' numbers are fixtures.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import Table from 'cli-table3';
import { blockFormat, dequantize } from '../../gpu-origin/model/dequantize.ts';
import { loadTokenizer } from '../../gpu-origin/model/tokenizer.ts';
import { createRunner } from '../../gpu-origin/runtime/create-runner.ts';
import type { OrtRunner } from '../../gpu-origin/runtime/ort-runner.ts';
import { TINY_ADAPTERS, TINY_SHAPES } from '../fixtures/tiny-base.ts';
import { argmax, divergence, logProbabilities, makeTinyRunner, prefillAll } from '../fixtures/tiny-runner.ts';

const MAX_FLOAT32_DIFFERENCE = 1e-3;
const MAX_KL = 0.02;
/** Tokens of the text that bases are compared by. */
const TEXT_TOKENS = 128;

interface Row {
  chain: string[];
  logprobs: Record<string, number[]>;
}
const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../fixtures/${name}`, import.meta.url), 'utf8'));

const every = (runner: OrtRunner, tokens: readonly number[]): Promise<Float32Array[]> =>
  prefillAll(
    runner,
    0,
    tokens,
    tokens.map((_, at) => at),
  );
const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;
const klOf = (exact: readonly Float32Array[], coarse: readonly Float32Array[]): number =>
  mean(exact.map((row, at) => divergence(row, coarse[at]!)));

/** Quantized weights, each against float32. */
const COARSE = ['int8', 'int4'] as const;

/** @returns the largest difference of a log-probability to PyTorch's, and the largest mean KL of int8 and 4 bit, over all chains. */
async function compareFamily(family: string, rows: readonly Row[], prompt: readonly number[]) {
  const shape = TINY_SHAPES[family]!;
  const plain = await makeTinyRunner({ shape, weights: 'f32' });
  const coarse = await Promise.all(COARSE.map((weights) => makeTinyRunner({ shape, weights })));
  let [base, adapted] = [0, 0];
  const kl = COARSE.map(() => 0);
  for (const { chain, logprobs } of rows) {
    const logits: Float32Array[][] = [];
    for (const tiny of [plain, ...coarse]) {
      const members = await Promise.all(
        chain.map(async (name) => ({ adapter: await tiny.adapter(name, TINY_ADAPTERS[name]), scale: 1 })),
      );
      tiny.runner.assign(0, members.length === 0 ? null : tiny.runner.compose(members));
      logits.push(await every(tiny.runner, prompt));
      tiny.runner.release(0);
    }
    const differences = Object.entries(logprobs).flatMap(([position, expected]) => {
      const got = logProbabilities(logits[0]![Number(position)]!);
      return expected.map((value, token) => Math.abs(got[token]! - value));
    });
    if (chain.length === 0) base = Math.max(...differences);
    else adapted = Math.max(adapted, ...differences);
    kl.forEach((most, at) => (kl[at] = Math.max(most, klOf(logits[0]!, logits[at + 1]!))));
  }
  await plain.close();
  for (const tiny of coarse) await tiny.close();
  return { base, adapted, kl };
}

/** Largest difference to gguf-py's values, of the largest one. */
function compareBlocks({ type, raw, values }: { type: number; raw: string; values: string }): number {
  const expected = new Float32Array(new Uint8Array(Buffer.from(values, 'base64')).buffer);
  const got = dequantize(type, new Uint8Array(Buffer.from(raw, 'base64')));
  const largest = expected.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  return expected.reduce((most, value, at) => Math.max(most, Math.abs(got[at]! - value)), 0) / largest;
}

/** int8 and 4 bit against float32 on the beginning of this repository's licence. */
async function compareReal(basePath: string): Promise<{ tokens: number; kl: number; same: number }[]> {
  const text = readFileSync(new URL('../../LICENSE', import.meta.url), 'utf8');
  const cacheDir = mkdtempSync(path.join(tmpdir(), 'graft-bases-'));
  const logits: Float32Array[][] = [];
  for (const weights of ['f32', ...COARSE] as const) {
    const { runner, tokenizerSource } = await createRunner({
      ...{ basePath, weights, slots: 1, context: 1024, cacheDir },
      onProgress: () => undefined,
      onNotice: (message) => console.log(message),
    });
    const tokenizer = loadTokenizer(tokenizerSource);
    const encoded = tokenizer.encode(text, { allowSpecial: false }).slice(0, TEXT_TOKENS);
    logits.push(await every(runner, [...tokenizer.prefixIds, ...encoded]));
    await runner.close();
  }
  rmSync(cacheDir, { recursive: true, force: true });
  const [exact, ...others] = logits as [Float32Array[], ...Float32Array[][]];
  return others.map((coarse) => {
    const same = exact.filter((row, at) => argmax(row) === argmax(coarse[at]!)).length;
    return { tokens: exact.length, kl: klOf(exact, coarse), same };
  });
}

const shown = (value: number): string => value.toExponential(1);

/** @returns the exit code. */
export async function runBases(paths: readonly string[]): Promise<number> {
  let failed = false;
  const families = new Table({
    head: ['family', 'float32 to PyTorch', 'with LoRA, to PEFT', 'int8, KL to float32', '4 bit'],
  });
  for (const file of ['tiny-reference.json', 'tiny-families-reference.json']) {
    const { prompt, ...rows } = fixture(file) as { prompt: number[] } & Record<string, Row[]>;
    for (const [family, reference] of Object.entries(rows as Record<string, Row[]>)) {
      const { base, adapted, kl } = await compareFamily(family, reference, prompt);
      failed ||= base > MAX_FLOAT32_DIFFERENCE || adapted > MAX_FLOAT32_DIFFERENCE || kl[0]! > MAX_KL;
      families.push([family, shown(base), shown(adapted), kl[0]!.toFixed(4), kl[1]!.toFixed(2)]);
    }
  }
  console.log(families.toString());
  const quantizations = new Table({ head: ['ggml type', 'to gguf-py'] });
  for (const blocks of Object.values(
    fixture('ggml-blocks.json') as Record<string, Parameters<typeof compareBlocks>[0]>,
  )) {
    const difference = compareBlocks(blocks);
    failed ||= difference > 1e-6;
    quantizations.push([blockFormat(blocks.type)?.name ?? '', shown(difference)]);
  }
  console.log(quantizations.toString());
  for (const given of paths) {
    for (const [at, { tokens, kl, same }] of (await compareReal(given)).entries()) {
      const format = COARSE[at]!;
      failed ||= format === 'int8' && kl > MAX_KL;
      console.log(
        `${path.basename(given)}: ${tokens} tokens, ${format} to float32: KL ${kl.toFixed(4)}, the same likeliest token at ${same}`,
      );
    }
  }
  return failed ? 1 : 0;
}
