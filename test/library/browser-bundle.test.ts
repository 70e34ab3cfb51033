/** What a page loads of graft-lora/browser, but for ONNX Runtime's own files. */
import { readFileSync, rmSync } from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { buildBrowser } from '../../bin/build-browser.mjs';

const MOST_GZIPPED = 158_000;

let folder: string;
let texts: string[];
let inputs: string[];
beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'graft-bundle-'));
  const { outputs } = await buildBrowser(folder, { page: true, runtime: false });
  texts = ['index.js', 'worker.js'].map((name) => readFileSync(path.join(folder, name), 'utf8'));
  const first = Object.entries(outputs).filter(([file]) => /(index|worker)\.js$/.test(file));
  inputs = first.flatMap(([, output]) =>
    Object.entries(output.inputs)
      .filter(([, { bytesInOutput }]) => bytesInOutput > 0)
      .map(([file]) => file),
  );
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

it('is at most 158 KB gzipped', () => {
  expect(texts.reduce((sum, text) => sum + gzipSync(text).length, 0)).toBeLessThan(MOST_GZIPPED);
});

it('needs nothing of Node, and compiles no text to code', () => {
  for (const text of texts) {
    expect(text).not.toMatch(/(from|import)\s*\(?["']node:/);
    expect(text).not.toMatch(/\bBuffer\.|\bprocess\.|\beval\(/);
  }
});

it('is made of the engine’s own rooms, with a writer of graphs and no compiler', () => {
  for (const own of ['engine/engine', 'generation/sampler', 'model/chat-template', 'runtime/ort-runner'])
    expect(inputs).toContain(`gpu-origin/${own}.ts`);
  expect(inputs.filter((file) => /protobufjs|koffi|web-xgrammar/.test(file))).toEqual([]);
  // Pages that train fetch the trainer.
  expect(inputs.filter((file) => file.startsWith('gpu-origin/training/'))).toEqual([]);
});
