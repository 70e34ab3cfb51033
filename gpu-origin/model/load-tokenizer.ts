/** A tokenizer from where a base keeps it. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { createTokenizer, type Tokenizer } from './tokenizer.ts';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { type TokenizerDefinition, TokenizerError, TokenizerJson } from './tokenizer-definition.ts';

export type TokenizerSource =
  | { kind: 'gguf'; metadata: Map<string, unknown> }
  /** A folder with `tokenizer.json`. */
  | { kind: 'folder'; path: string };

/** @throws TokenizerError when it is missing, damaged or of a kind that is not supported. */
export const readTokenizer = (source: TokenizerSource): TokenizerDefinition =>
  source.kind === 'gguf' ? ggufTokenizer(source.metadata) : folderTokenizer(source.path);

/** @throws TokenizerError when the tokenizer is missing, damaged or of a kind that is not supported. */
export function loadTokenizer(source: TokenizerSource): Tokenizer {
  return createTokenizer(readTokenizer(source));
}

const tokenText = z.union([z.string(), z.looseObject({ content: z.string() }).transform((t) => t.content)]);

const TokenizerConfig = z.looseObject({
  bos_token: tokenText.nullish(),
  eos_token: tokenText.nullish(),
  add_bos_token: z.boolean().nullish(),
  chat_template: z
    .union([z.string(), z.array(z.looseObject({ name: z.string(), template: z.string() }))])
    .nullish(),
});
const eosIds = z.union([z.int().transform((id) => [id]), z.array(z.int())]).nullish();
const ModelConfig = z.looseObject({ eos_token_id: eosIds });

/**
 * Reads `tokenizer.json`, and what else Hugging Face keeps beside it: `tokenizer_config.json`, `chat_template.jinja`,
 * `generation_config.json`, `config.json` (all optional).
 * @throws TokenizerError
 */
function folderTokenizer(folder: string): TokenizerDefinition {
  const json = read(folder, 'tokenizer.json', TokenizerJson);
  if (json === null) throw new TokenizerError(`${folder} has no tokenizer.json`);
  const config = read(folder, 'tokenizer_config.json', TokenizerConfig);
  const idOf = (text: string | null | undefined): number | null =>
    text == null
      ? null
      : (json.added_tokens.find((token) => token.content === text)?.id ?? json.model.vocab[text] ?? null);
  const bosId = idOf(config?.bos_token);
  const eos = idOf(config?.eos_token);
  const ends =
    read(folder, 'generation_config.json', ModelConfig)?.eos_token_id ??
    read(folder, 'config.json', ModelConfig)?.eos_token_id ??
    [];
  const template = config?.chat_template;
  return {
    json,
    bosId,
    eosIds: [...new Set([...ends, ...(eos === null ? [] : [eos])])],
    prefixIds: prefixOf(json.post_processor) ?? (config?.add_bos_token && bosId !== null ? [bosId] : []),
    chatTemplate:
      readText(folder, 'chat_template.jinja') ??
      (Array.isArray(template)
        ? (template.find((entry) => entry.name === 'default')?.template ?? null)
        : (template ?? null)),
  };
}

const Processor = z.looseObject({
  type: z.string(),
  processors: z.array(z.unknown()).optional(),
  single: z.array(z.looseObject({ SpecialToken: z.looseObject({ id: z.string() }).optional() })).optional(),
  special_tokens: z.record(z.string(), z.looseObject({ ids: z.array(z.int()) })).optional(),
});

/** Ids that a `TemplateProcessing` step writes before the text; null when there is no such step. */
function prefixOf(processor: unknown): number[] | null {
  const parsed = Processor.safeParse(processor);
  if (!parsed.success) return null;
  for (const step of parsed.data.processors ?? []) {
    const ids = prefixOf(step);
    if (ids !== null) return ids;
  }
  if (parsed.data.type !== 'TemplateProcessing') return null;
  const ids: number[] = [];
  for (const { SpecialToken } of parsed.data.single ?? []) {
    if (SpecialToken === undefined) break;
    ids.push(...(parsed.data.special_tokens?.[SpecialToken.id]?.ids ?? []));
  }
  return ids;
}

function readText(folder: string, name: string): string | null {
  try {
    return readFileSync(join(folder, name), 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new TokenizerError(`${name} cannot be read: ${(error as Error).message}`);
  }
}

function read<T>(folder: string, name: string, schema: z.ZodType<T>): T | null {
  const text = readText(folder, name);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new TokenizerError(`${join(folder, name)} is not JSON`);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  throw new TokenizerError(`${join(folder, name)}: ${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`);
}
