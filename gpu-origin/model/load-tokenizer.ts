/** Loads a tokenizer from a base's files. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { createTokenizer, type Tokenizer } from './tokenizer.ts';
import { type TokenizerDefinition, TokenizerError, TokenizerJson } from './tokenizer-definition.ts';

export type TokenizerSource =
  | { kind: 'gguf'; metadata: Map<string, unknown> }
  /** A folder with `tokenizer.json`. */
  | { kind: 'folder'; path: string };

/** @throws TokenizerError when it is missing, corrupted or unsupported. */
export const readTokenizer = (source: TokenizerSource): TokenizerDefinition =>
  source.kind === 'gguf' ? ggufTokenizer(source.metadata) : folderTokenizer(source.path);

/** @throws TokenizerError when the tokenizer is missing, corrupted or unsupported. */
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
/** Models that also see may have it there. */
const ProcessorTemplate = z.looseObject({ chat_template: z.string() });
const eosIds = z.union([z.int().transform((id) => [id]), z.array(z.int())]).nullish();
const ModelConfig = z.looseObject({ eos_token_id: eosIds });

/**
 * Reads `tokenizer.json`, and Hugging Face's other files: `tokenizer_config.json`, `chat_template.jinja`,
 * `chat_template.json`, `generation_config.json`, `config.json` (all optional).
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
  const template =
    config?.chat_template ?? read(folder, 'chat_template.json', ProcessorTemplate)?.chat_template;
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

/** Ids that a `TemplateProcessing` step writes before the text; null without such a step. */
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

/** `llama_token_type` */
const NORMAL = 1;
const UNKNOWN = 2;
const CONTROL = 3;
const USER_DEFINED = 4;

/** Of Phi-3's, as in its tokenizer.json and llama.cpp. */
const KEEPS_BLANKS = new Set(['<unk>', '<s>', '<|endoftext|>']);

const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true };

/** Contractions and words, as the families after GPT-2 split them; they differ in how many digits stay together. */
const splitPattern = (digits: string): string =>
  `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;

const splitThenBytesBy = (pattern: string) => ({
  type: 'Sequence',
  pretokenizers: [
    { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false },
    { ...BYTE_LEVEL, use_regex: false },
  ],
});

interface PreType {
  preTokenizer: unknown;
  normalizer: unknown;
  ignoreMerges: boolean;
  /** If the metadata does not say. */
  addBos: boolean;
}

const GPT2: PreType = {
  preTokenizer: { ...BYTE_LEVEL, use_regex: true },
  normalizer: null,
  ignoreMerges: false,
  addBos: false,
};
const SMOLLM: PreType = {
  ...GPT2,
  preTokenizer: {
    type: 'Sequence',
    pretokenizers: [
      { type: 'Digits', individual_digits: true },
      { ...BYTE_LEVEL, use_regex: true },
    ],
  },
};
const LLAMA3: PreType = {
  preTokenizer: splitThenBytesBy(splitPattern('\\p{N}{1,3}')),
  normalizer: null,
  ignoreMerges: true,
  addBos: true,
};
/** o200k and Tekken split words at capitals; they differ in contractions and in how many digits stay together. */
const splitAtCapitals = (contractions: string, digits: string) =>
  splitThenBytesBy(
    String.raw`[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+${contractions}|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*${contractions}|${digits}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  );
/** Llama 3's split for vocabularies that merge everything: the converter uses it for SmolLM3, and as `dbrx` for OLMo 2 and 3. */
const SMAUG: PreType = { ...LLAMA3, ignoreMerges: false, addBos: false };
/** GLM-4's; llama.cpp's `chatglm-bpe` merges everything. */
const GLM4: PreType = { ...LLAMA3, addBos: false };
/** Mistral NeMo and later ones. */
const TEKKEN: PreType = { ...LLAMA3, preTokenizer: splitAtCapitals('', String.raw`\p{N}`) };
/** Phi-4-mini. */
const GPT4O: PreType = {
  ...GPT2,
  preTokenizer: splitAtCapitals("(?i:'s|'t|'re|'ve|'m|'ll|'d)?", String.raw`\p{N}{1,3}`),
};
const QWEN2: PreType = {
  preTokenizer: splitThenBytesBy(splitPattern('\\p{N}')),
  normalizer: { type: 'NFC' },
  ignoreMerges: false,
  addBos: false,
};

/** Marks are parts of words. */
const QWEN35: PreType = {
  ...QWEN2,
  preTokenizer: splitThenBytesBy(
    String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
  ),
};

const PRE_TYPES = new Map<string, PreType>([
  ['gpt-2', GPT2],
  ['smollm', SMOLLM],
  ['llama-bpe', LLAMA3],
  ['llama3', LLAMA3],
  ['llama-v3', LLAMA3],
  ['smaug-bpe', SMAUG],
  ['dbrx', SMAUG],
  ['glm4', GLM4],
  ['chatglm-bpe', SMAUG],
  ['tekken', TEKKEN],
  ['gpt-4o', GPT4O],
  ['qwen2', QWEN2],
  ['qwen35', QWEN35],
  ['deepseek-r1-qwen', QWEN2],
]);

type Steps = Pick<TokenizerJson, 'normalizer' | 'pre_tokenizer' | 'decoder' | 'model'> & {
  /** If the metadata does not say. */
  addBos: boolean;
};

function byteLevelSteps(metadata: ReadonlyMap<string, unknown>, vocab: Record<string, number>): Steps {
  const preName = metadata.get('tokenizer.ggml.pre');
  const pre = PRE_TYPES.get(String(preName));
  if (pre === undefined)
    throw new TokenizerError(
      `the GGUF's pre-tokenizer "${String(preName)}" is not supported; supported are ` +
        `${[...PRE_TYPES.keys()].join(', ')}`,
    );
  const merges = strings(metadata, 'tokenizer.ggml.merges');
  return {
    normalizer: pre.normalizer,
    pre_tokenizer: pre.preTokenizer,
    decoder: { ...BYTE_LEVEL, use_regex: true },
    model: { type: 'BPE', vocab, merges, ignore_merges: pre.ignoreMerges },
    addBos: pre.addBos,
  };
}

/**
 * The `tokenizer.json` equivalent to a GGUF's metadata. Pre-tokenizers by `tokenizer.ggml.pre`, as in
 * llama.cpp's `llama-vocab.cpp`; an unknown one is refused, because a wrong split silently degrades the model.
 * @throws TokenizerError when the metadata is incomplete or names an unsupported tokenizer.
 */
export function ggufTokenizer(metadata: ReadonlyMap<string, unknown>): TokenizerDefinition {
  const model = metadata.get('tokenizer.ggml.model');
  if (model === undefined) throw new TokenizerError('the GGUF has no tokenizer (tokenizer.ggml.model)');
  if (model !== 'gpt2' && model !== 'llama' && model !== 'gemma4')
    throw new TokenizerError(
      `the GGUF's tokenizer "${String(model)}" is not supported; supported are gpt2 (byte-level BPE), ` +
        'llama (SentencePiece BPE) and gemma4',
    );
  const tokens = strings(metadata, 'tokenizer.ggml.tokens');
  const given = metadata.get('tokenizer.ggml.token_type');
  const types: unknown[] = Array.isArray(given) ? given : tokens.map(() => 1);
  const id = (name: string): number | null => {
    const value = metadata.get(`tokenizer.ggml.${name}_token_id`);
    return typeof value === 'number' && value >= 0 && value < tokens.length ? value : null;
  };
  // GGUF does not record that Phi-3's control tokens absorb the white space after them, which its template
  // writes there.
  const takesBlanks = model === 'llama' && metadata.get('general.architecture') === 'phi3';
  const vocab: Record<string, number> = Object.create(null) as Record<string, number>;
  const added: TokenizerJson['added_tokens'] = [];
  tokens.forEach((content, index) => {
    vocab[content] = index;
    const special = types[index] === CONTROL || types[index] === UNKNOWN;
    // An unused piece may be empty.
    if ((special || types[index] === USER_DEFINED) && content !== '')
      added.push({
        ...{ id: index, content, special, normalized: false },
        ...(takesBlanks && !KEEPS_BLANKS.has(content) ? { rstrip: true } : {}),
      });
  });
  const { addBos, ...steps }: Steps =
    model === 'gpt2'
      ? byteLevelSteps(metadata, vocab)
      : {
          ...sentencePieceSteps({
            tokens,
            vocab,
            types,
            scores: (metadata.get('tokenizer.ggml.scores') ?? []) as unknown[],
            merges: model === 'gemma4' ? strings(metadata, 'tokenizer.ggml.merges') : null,
            unknownId: id('unknown'),
            spacePrefix: metadata.get('tokenizer.ggml.add_space_prefix') !== false,
          }),
          addBos: true,
        };
  const bosId = id('bos');
  // llama.cpp does so for Gemma 4, whatever its file says.
  const adds = model === 'gemma4' || (metadata.get('tokenizer.ggml.add_bos_token') ?? addBos);
  const template = metadata.get('tokenizer.chat_template');
  return {
    json: { added_tokens: added, ...steps, post_processor: null },
    bosId,
    eosIds: [...new Set([id('eos'), id('eot')].filter((value) => value !== null))],
    prefixIds: adds === true && bosId !== null ? [bosId] : [],
    chatTemplate: typeof template === 'string' ? template : null,
  };
}

function strings(metadata: ReadonlyMap<string, unknown>, key: string): string[] {
  const value = metadata.get(key);
  if (!Array.isArray(value) || value.length === 0 || !value.every((item) => typeof item === 'string'))
    throw new TokenizerError(`the GGUF's metadata lacks ${key}`);
  return value;
}

interface Piece {
  text: string;
  score: number;
}

interface Split {
  left: string;
  right: string;
  /** By the ids of both parts, for one piece. */
  order: number;
  /** Characters of the left part, then of the right. */
  lengths: number;
}

/** Every split of a piece into two pieces, by their ids. */
function splitsOf(text: string, vocab: Readonly<Record<string, number>>): Split[] {
  const splits: Split[] = [];
  const characters = text.length < 2 ? 1 : [...text].length;
  let at = 0;
  for (let count = 1; count < characters; count++) {
    at += text.codePointAt(at)! > 0xffff ? 2 : 1;
    const left = text.slice(0, at);
    const first = vocab[left];
    if (first === undefined) continue;
    const right = text.slice(at);
    const second = vocab[right];
    if (second === undefined) continue;
    const lengths = count * 2 ** 16 + characters - count;
    splits.push({ left, right, order: first * 2 ** 24 + second, lengths });
  }
  return splits.length < 2 ? splits : splits.sort((a, b) => a.order - b.order);
}

/**
 * The merges that a vocabulary stands for, best first: every split of a piece into two pieces, by the piece's score.
 * The order is that of transformers' `generate_merges`, so that the tokens are those of its converted `tokenizer.json`.
 * Pieces are sorted and not their merges: those are twice as many, and nearly every piece has a score of its own.
 */
function mergesOf(vocab: Readonly<Record<string, number>>, pieces: Piece[]): [string, string][] {
  pieces.sort((a, b) => b.score - a.score);
  const merges: [string, string][] = [];
  for (let from = 0, to = 0; from < pieces.length; from = to) {
    const equal: Split[] = [];
    for (; to < pieces.length && pieces[to]!.score === pieces[from]!.score; to++)
      for (const split of splitsOf(pieces[to]!.text, vocab)) equal.push(split);
    if (equal.length > 1) equal.sort((a, b) => b.lengths - a.lengths);
    for (const { left, right } of equal) merges.push([left, right]);
  }
  return merges;
}

/**
 * SentencePiece's byte-pair vocabularies in GGUF (`tokenizer.ggml.model` = llama): Llama 2, Mistral, Gemma.
 * @param params.spacePrefix a space goes before each text and behind each control token (`add_space_prefix`).
 * @throws TokenizerError when the vocabulary lacks scores or types.
 */
function sentencePieceSteps(params: {
  tokens: readonly string[];
  /** The same tokens to their ids, without a prototype. */
  vocab: Record<string, number>;
  types: readonly unknown[];
  scores: readonly unknown[];
  /** In the order in which they are tried; null = they follow from the scores. */
  merges: string[] | null;
  unknownId: number | null;
  spacePrefix: boolean;
}): Pick<TokenizerJson, 'normalizer' | 'pre_tokenizer' | 'decoder' | 'model'> {
  const { tokens, vocab, types, scores, merges, unknownId, spacePrefix } = params;
  if (scores.length !== tokens.length || types.length !== tokens.length)
    throw new TokenizerError("the GGUF's metadata lacks tokenizer.ggml.scores or token_type for each token");
  const pieces = tokens.flatMap((text, id) =>
    types[id] === NORMAL ? [{ text, score: Number(scores[id]) }] : [],
  );
  const unknown = tokens[unknownId ?? types.indexOf(UNKNOWN)];
  return {
    normalizer: {
      type: 'Sequence',
      normalizers: [
        ...(spacePrefix ? [{ type: 'Prepend', prepend: '▁' }] : []),
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
      ],
    },
    model: {
      type: 'BPE',
      vocab,
      merges: merges ?? mergesOf(vocab, pieces),
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
    },
  };
}
