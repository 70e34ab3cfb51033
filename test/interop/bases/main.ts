/**
 * `npm run interop -- bases [file.gguf | folder …]`: each family and quantization against the originals, as the table of
 * bench/LOG.md; of bases that are given, int8 against float32. The originals' numbers are fixtures; GGUF files by llama.cpp's
 * converter need its source and Python, and are skipped without.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import { blockFormat, dequantize } from '../../../gpu-origin/model/gguf.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { createRunner } from '../../../gpu-origin/runtime/create-runner.ts';
import {
  TINY_ADAPTERS,
  TINY_GEMMA2,
  TINY_GEMMA3,
  TINY_MISTRAL,
  TINY_PHI3,
  TINY_QWEN3MOE_RAW,
  TINY_SEEING,
  TINY_SHAPES,
  TINY_VARIANTS,
  type TinyShape,
  writeTinyAdapter,
  writeTinyBase,
} from '../../fixtures/tiny-base.ts';
import { argmax, logProbabilities, makeTinyRunner } from '../../fixtures/tiny-runner.ts';
import { runTool } from '../llama-tool.ts';
import { findPeers } from '../peers.ts';
import { COARSE, every, klOf, logitsOf } from './measures.ts';
import { compareQuantized } from './quantized.ts';

const MAX_FLOAT32_DIFFERENCE = 1e-3;
const MAX_KL = 0.02;
/** Tokens of the text that bases are compared by. */
const TEXT_TOKENS = 128;

interface Row {
  chain: string[];
  logprobs: Record<string, number[]>;
}
const fixture = (name: string): unknown =>
  JSON.parse(readFileSync(new URL(`../../fixtures/${name}`, import.meta.url), 'utf8'));

/**
 * @param gguf a file of the same base, which is then served instead, in float32 alone.
 * @returns the largest difference of a log-probability to PyTorch's, and the largest mean KL of int8 and 4 bit, over all chains.
 */
async function compareFamily(
  shape: TinyShape,
  rows: readonly Row[],
  prompt: readonly number[],
  gguf?: string,
) {
  const plain = await makeTinyRunner({
    ...{ shape, weights: 'f32' },
    ...(gguf === undefined ? {} : { basePath: gguf, baseId: 'tiny-base' }),
  });
  const formats = gguf === undefined ? COARSE : [];
  const coarse = await Promise.all(formats.map((weights) => makeTinyRunner({ shape, weights })));
  let [base, adapted] = [0, 0];
  const kl = formats.map(() => 0);
  for (const { chain, logprobs } of rows) {
    const logits: Float32Array[][] = [];
    for (const tiny of [plain, ...coarse]) logits.push(await logitsOf(tiny, chain, prompt));
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
  const text = readFileSync(new URL('../../../LICENSE', import.meta.url), 'utf8');
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

/** All files of references, as one. */
function references(): { prompt: number[]; rows: Map<string, Row[]> } {
  const rows = new Map<string, Row[]>();
  let prompt: number[] = [];
  for (const file of [
    'tiny-reference.json',
    'tiny-families-reference.json',
    'tiny-variants-reference.json',
  ]) {
    const { prompt: same, ...families } = fixture(file) as { prompt: number[] } & Record<string, Row[]>;
    prompt = same;
    for (const [family, reference] of Object.entries(families)) rows.set(family, reference as Row[]);
  }
  return { prompt, rows };
}

/**
 * What a GGUF does not say: Mistral's window (llama.cpp has none for it either), and of Gemma which layers are local
 * (every sixth is not) and what q is scaled by (its heads' size). What llama.cpp does otherwise: it has no window for Phi-3
 * and the same rotary base in all layers of OLMo 3, as its real files do. These bases are as the files take them to be.
 */
const GEMMA_AS_GGUF: TinyShape = {
  ...{ ...TINY_GEMMA3, layers: 6 },
  config: { ...TINY_GEMMA3.config, sliding_window_pattern: 6, query_pre_attn_scalar: TINY_GEMMA3.headDim },
};
const OLMO3 = TINY_VARIANTS.olmo3!;
const { full_attention: stretched } = OLMO3.config!.rope_parameters as Record<string, { rope_theta: number }>;
const OLMO3_AS_GGUF: TinyShape = {
  ...OLMO3,
  config: {
    ...OLMO3.config,
    rope_parameters: {
      full_attention: stretched,
      sliding_attention: { rope_type: 'default', rope_theta: stretched!.rope_theta },
    },
  },
};
const AS_GGUF_HAS_IT: Record<string, TinyShape> = {
  mistral: { ...TINY_MISTRAL, config: { sliding_window: null } },
  gemma2: {
    ...TINY_GEMMA2,
    config: { ...TINY_GEMMA2.config, query_pre_attn_scalar: TINY_GEMMA2.headDim },
  },
  gemma3: GEMMA_AS_GGUF,
  gemma3_vl: { ...TINY_SEEING.gemma3_vl!, ...GEMMA_AS_GGUF },
  phi3: { ...TINY_PHI3, config: { ...TINY_PHI3.config, sliding_window: null } },
  olmo3: OLMO3_AS_GGUF,
};
const SHAPES: Readonly<Record<string, TinyShape>> = {
  ...TINY_SHAPES,
  ...TINY_SEEING,
  ...TINY_VARIANTS,
  qwen3moe_raw: TINY_QWEN3MOE_RAW,
};

/** Bases that graft does not read from GGUF, and one whose weights of experts llama.cpp makes add up to 1. */
const NOT_IN_GGUF: ReadonlySet<string> = new Set(['qwen3_5', 'qwen3moe_raw']);

/**
 * The tiny bases as llama.cpp's own converter writes them to GGUF, against PyTorch's and PEFT's log-probabilities.
 * @returns a table's rows, and whether one is further off than it may be; null without the tools.
 */
async function compareConverted(): Promise<{ rows: string[][]; failed: boolean } | null> {
  const { python, llamaSource, llamaNode } = findPeers(process.env);
  if (python === null || llamaSource === null) return null;
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-converted-'));
  const { prompt, rows: all } = references();
  const rows = new Map([...all].filter(([family]) => !NOT_IN_GGUF.has(family)));
  const table: string[][] = [];
  let failed = false;
  const shapes = { ...SHAPES, ...AS_GGUF_HAS_IT };
  const runScript = (file: string, args: readonly string[]): string => {
    const script = fileURLToPath(new URL(file, import.meta.url));
    return runTool(python, [script, ...args]);
  };
  try {
    for (const [family, shape] of Object.entries(shapes)) {
      writeTinyBase(path.join(folder, family, 'base'), shape);
      for (const [name, adapter] of Object.entries(TINY_ADAPTERS))
        writeTinyAdapter(path.join(folder, family, name), adapter, shape);
    }
    runScript('convert_tiny.py', [llamaSource, folder, ...rows.keys()]);
    const others = Object.keys(AS_GGUF_HAS_IT);
    const own = JSON.parse(runScript('../../fixtures/make-reference.py', [folder, ...others])) as Record<
      string,
      Row[]
    >;
    const file = (family: string): string => path.join(folder, `${family}.gguf`);
    const files = [...rows.keys()].map(file);
    const computed = llamaNode === null ? null : llamaLogprobs(llamaNode, prompt, files);
    for (const [at, [family, reference]] of [...rows].entries()) {
      const shape = shapes[family]!;
      const { base, adapted } = await compareFamily(shape, own[family] ?? reference, prompt, file(family));
      const llama =
        computed === null
          ? null
          : (await compareFamily(shape, [{ chain: [], logprobs: computed[at]! }], prompt, file(family))).base;
      failed ||= Math.max(base, adapted, llama ?? 0) > MAX_FLOAT32_DIFFERENCE;
      table.push([family, shown(base), shown(adapted), llama === null ? 'skipped' : shown(llama)]);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { rows: table, failed };
}

/** Of each file, log-probabilities by position. */
function llamaLogprobs(
  llamaNode: string,
  prompt: readonly number[],
  files: readonly string[],
): Record<string, number[]>[] {
  const script = fileURLToPath(new URL('llama-logprobs.mjs', import.meta.url));
  const printed = runTool(process.execPath, [script, llamaNode, JSON.stringify(prompt), ...files]);
  return (JSON.parse(printed) as number[][][]).map((positions) => Object.fromEntries(positions.entries()));
}

const shown = (value: number): string => value.toExponential(1);

/** @returns the exit code. */
export async function runBases(paths: readonly string[]): Promise<number> {
  let failed = false;
  const families = new Table({
    head: ['family', 'float32 to PyTorch', 'with LoRA, to PEFT', 'int8, KL to float32', '4 bit'],
  });
  const { prompt, rows } = references();
  for (const [family, reference] of rows) {
    const { base, adapted, kl } = await compareFamily(SHAPES[family]!, reference, prompt);
    failed ||= base > MAX_FLOAT32_DIFFERENCE || adapted > MAX_FLOAT32_DIFFERENCE || kl[0]! > MAX_KL;
    families.push([family, shown(base), shown(adapted), kl[0]!.toFixed(4), kl[1]!.toFixed(3)]);
  }
  console.log(families.toString());
  const converted = await compareConverted();
  if (converted === null)
    console.log('skipped: GGUF as llama.cpp converts, for want of its source and Python (README.md)');
  else {
    failed ||= converted.failed;
    const head = ['GGUF by llama.cpp', 'float32 to PyTorch', 'with LoRA, to PEFT', 'to llama.cpp'];
    const table = new Table({ head });
    table.push(...converted.rows);
    console.log(table.toString());
  }
  const quantizations = new Table({ head: ['ggml type', 'to gguf-py'] });
  for (const blocks of Object.values(
    fixture('ggml-blocks.json') as Record<string, Parameters<typeof compareBlocks>[0]>,
  )) {
    const difference = compareBlocks(blocks);
    failed ||= difference > 1e-6;
    quantizations.push([blockFormat(blocks.type)?.name ?? '', shown(difference)]);
  }
  console.log(quantizations.toString());
  const quantized = await compareQuantized();
  if (quantized === null)
    console.log('skipped: files by llama.cpp’s quantization, for want of it and Python (README.md)');
  else {
    failed ||= quantized.failed;
    console.log(quantized.table);
  }
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
