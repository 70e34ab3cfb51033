/** One tiny base in every kind of GGUF file that llama.cpp writes and graft reads. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import Table from 'cli-table3';
import {
  TINY_ADAPTERS,
  TINY_LLAMA,
  type TinyShape,
  writeTinyAdapter,
  writeTinyBase,
} from '../../fixtures/tiny-base.ts';
import { logProbabilities, makeTinyRunner } from '../../fixtures/tiny-runner.ts';
import { buildTool, runTool } from '../llama-tool.ts';
import { findPeers } from '../peers.ts';
import { COARSE, klOf, logitsOf } from './measures.ts';

/** Rows of 256 numbers, which the K-quants need. */
const SHAPE: TinyShape = { ...TINY_LLAMA, hidden: 256, heads: 4, kvHeads: 2, headDim: 64, ffn: 512 };

/** `llama_ftype` of llama.h. */
const FILE_TYPES = {
  ...{
    F16: 1,
    BF16: 32,
    Q8_0: 7,
    Q6_K: 18,
    Q5_K_M: 17,
    Q5_K_S: 16,
    Q5_1: 9,
    Q5_0: 8,
    Q4_K_M: 15,
    Q4_K_S: 14,
  },
  ...{ Q4_1: 3, Q4_0: 2, IQ4_NL: 25, IQ4_XS: 30, Q3_K_L: 13, Q3_K_M: 12, Q3_K_S: 11, Q2_K: 10 },
};

const PROMPT = Array.from({ length: 64 }, (_, at) => 3 + ((at * 37) % 256));
const CHAINS = [[], [Object.keys(TINY_ADAPTERS)[0]!], Object.keys(TINY_ADAPTERS).slice(0, 2)];
/** The same float32 numbers by two ways: nothing is rounded otherwise. */
const MAX_DIFFERENCE = 1e-5;

const script = (name: string): string => fileURLToPath(new URL(name, import.meta.url));

type Logits = Float32Array[][];

async function logitsOfFile(basePath: string, weights: 'f32' | 'int8' | 'int4'): Promise<Logits> {
  const tiny = await makeTinyRunner({ shape: SHAPE, weights, basePath, baseId: 'tiny-base' });
  try {
    const logits: Logits = [];
    for (const chain of CHAINS) logits.push(await logitsOf(tiny, chain, PROMPT));
    return logits;
  } finally {
    await tiny.close();
  }
}

/** @returns the largest difference of a log-probability. */
function differenceOf(one: Logits, other: Logits): number {
  let most = 0;
  for (const [at, rows] of one.entries())
    for (const [position, row] of rows.entries()) {
      const expected = logProbabilities(other[at]![position]!);
      logProbabilities(row).forEach(
        (value, token) => (most = Math.max(most, Math.abs(value - expected[token]!))),
      );
    }
  return most;
}

/** @returns a table, and whether something is further off than it may be; null without the tools. */
export async function compareQuantized(): Promise<{ table: string; failed: boolean } | null> {
  const { python, llamaSource } = findPeers(process.env);
  if (python === null || llamaSource === null) return null;
  const folder = mkdtempSync(path.join(tmpdir(), 'graft-quantized-'));
  const file = (name: string): string => path.join(folder, name);
  const table = new Table({
    head: ['GGUF file', 'blocks', 'float32, to gguf-py', ...COARSE.map((name) => `${name}, KL`)],
  });
  let failed = false;
  try {
    writeTinyBase(file('own/base'), SHAPE);
    for (const [name, adapter] of Object.entries(TINY_ADAPTERS))
      writeTinyAdapter(file(`own/${name}`), adapter, SHAPE);
    runTool(python, [script('convert_tiny.py'), llamaSource, folder, 'own']);
    const quantize = buildTool(llamaSource, script('quantize.c'), file('quantize'));
    for (const [name, type] of Object.entries(FILE_TYPES)) {
      runTool(quantize, [file('own.gguf'), file('quantized.gguf'), String(type)]);
      const gguf = path.join(llamaSource, 'gguf-py');
      const blocks = runTool(python, [
        script('dequantize.py'),
        gguf,
        file('quantized.gguf'),
        file('plain.gguf'),
      ]);
      const exact = await logitsOfFile(file('quantized.gguf'), 'f32');
      const difference = differenceOf(exact, await logitsOfFile(file('plain.gguf'), 'f32'));
      const kls: number[] = [];
      for (const weights of COARSE) {
        const coarse = await logitsOfFile(file('quantized.gguf'), weights);
        kls.push(Math.max(...exact.map((rows, at) => klOf(rows, coarse[at]!))));
      }
      failed ||= difference > MAX_DIFFERENCE;
      table.push([name, blocks.trim(), difference.toExponential(1), ...kls.map((kl) => kl.toFixed(4))]);
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
  return { table: table.toString(), failed };
}
