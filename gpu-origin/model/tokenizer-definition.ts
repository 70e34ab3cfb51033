/**
 * The common form of every tokenizer source (a folder's files, a GGUF's metadata): its steps for the library,
 * and the bytes of tokens.
 */
import { z } from 'zod';

/** The base's tokenizer cannot be used; the message names the unsupported part. */
export class TokenizerError extends Error {
  override readonly name = 'TokenizerError';
}

export const AddedToken = z.looseObject({
  id: z.int().min(0),
  content: z.string().min(1),
  special: z.boolean().optional(),
  lstrip: z.boolean().optional(),
  rstrip: z.boolean().optional(),
});
export type AddedToken = z.infer<typeof AddedToken>;

/** The used part of Hugging Face's `tokenizer.json`; the rest goes to the tokenizer library unchanged. */
export const TokenizerJson = z.looseObject({
  added_tokens: z.array(AddedToken),
  normalizer: z.unknown(),
  pre_tokenizer: z.unknown(),
  post_processor: z.unknown(),
  decoder: z.looseObject({ type: z.string() }).nullish(),
  model: z.looseObject({
    type: z.literal('BPE', 'only BPE tokenizers are supported').optional(),
    vocab: z.record(z.string(), z.int().min(0)),
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
  }),
});
export type TokenizerJson = z.infer<typeof TokenizerJson>;

export interface TokenizerDefinition {
  json: TokenizerJson;
  /** The token that chat templates call `bos_token`. */
  bosId: number | null;
  /** Tokens that end a generation. */
  eosIds: readonly number[];
  /** Prepended to a raw text prompt (usually the bos token, or nothing). A chat template writes its own. */
  prefixIds: readonly number[];
  /** Jinja source. */
  chatTemplate: string | null;
}

/** A definition as a file, for encoding elsewhere. */
export const TokenizerDefinitionJson = z.strictObject({
  json: TokenizerJson,
  bosId: z.int().nullable(),
  eosIds: z.array(z.int()),
  prefixIds: z.array(z.int()),
  chatTemplate: z.string().nullable(),
}) satisfies z.ZodType<TokenizerDefinition>;

/**
 * Pre-tokenizer steps whose character classes differ between the JavaScript library and Hugging Face's
 * `tokenizers`, with which models were trained, rewritten as splits at the original regexes: JavaScript's `\d`
 * knows ASCII only, and its `\s` has U+FEFF and lacks U+0085. The library translates regexes of `Split` itself.
 */
interface Step {
  type?: string;
  pretokenizers?: unknown[];
  individual_digits?: boolean;
  add_prefix_space?: boolean;
  use_regex?: boolean;
  prepend_scheme?: string;
  replacement?: string;
  split?: boolean;
}

/** `pre_tokenizers/byte_level.rs`: GPT-2's words. */
const GPT2_WORDS = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;

const splitAt = (regex: string) => ({
  type: 'Split',
  pattern: { Regex: regex },
  behavior: 'Isolated',
  invert: false,
});

/**
 * @param step a `pre_tokenizer` of `tokenizer.json`. @returns one that splits in the library as in the
 * original.
 */
export function originalSteps(step: unknown): unknown {
  if (typeof step !== 'object' || step === null) return step;
  const { type, individual_digits, add_prefix_space, use_regex } = step as Step;
  if (type === 'Sequence')
    return { type, pretokenizers: ((step as Step).pretokenizers ?? []).map(originalSteps) };
  if (type === 'Metaspace') return metaspace(step);
  // `pre_tokenizers/digits.rs`: `char::is_numeric`, which is Unicode's Nd, Nl and No.
  if (type === 'Digits') return splitAt(individual_digits === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
  if (type !== 'ByteLevel' || use_regex === false) return step;
  const prefix = { type: 'Replace', pattern: { Regex: String.raw`\A(?! )` }, content: ' ' };
  return {
    type: 'Sequence',
    pretokenizers: [
      ...(add_prefix_space === true ? [prefix] : []),
      splitAt(GPT2_WORDS),
      { ...step, add_prefix_space: false, use_regex: false },
    ],
  };
}

/**
 * `pre_tokenizers/metaspace.rs`: also cuts before each space unless configured otherwise; the library never
 * does.
 */
function metaspace(step: Step): unknown {
  const { add_prefix_space, replacement = '▁', prepend_scheme = 'always' } = step;
  const written = { ...step, prepend_scheme: add_prefix_space === false ? 'never' : prepend_scheme };
  if (step.split === false) return written;
  const space = [...replacement]
    .map((character) => `\\x{${character.codePointAt(0)!.toString(16)}}`)
    .join('');
  return { type: 'Sequence', pretokenizers: [written, splitAt(`(?:${space})?[^${space}]+|${space}`)] };
}

/**
 * GPT-2's byte alphabet (`bytes_to_unicode`): printable bytes stand for themselves, the other 68 for U+0100 onwards,
 * so that every byte is a visible character.
 */
export const BYTE_CHARACTERS: readonly string[] = (() => {
  const characters: string[] = [];
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    characters.push(String.fromCharCode(printable ? byte : next++));
  }
  return characters;
})();

/** Bytes of tokens, one behind the other: an array for each would be looked at in every collection of garbage. */
export class TokenTable {
  private readonly bytes: Uint8Array<ArrayBuffer>;
  private readonly begins: Int32Array;

  /** @param tokens by id; `undefined` where there is none. */
  constructor(tokens: readonly (Uint8Array | undefined)[]) {
    this.begins = new Int32Array(tokens.length + 1);
    let end = 0;
    for (const [id, token] of tokens.entries()) {
      // One more byte tells an empty token from none.
      end += token === undefined ? 0 : token.length + 1;
      this.begins[id + 1] = end;
    }
    this.bytes = new Uint8Array(end);
    for (const [id, token] of tokens.entries())
      if (token !== undefined) this.bytes.set(token, this.begins[id]);
  }

  get size(): number {
    return this.begins.length - 1;
  }

  /** @returns a view, not to be written to; null where there is no such token. */
  get(id: number): Uint8Array<ArrayBuffer> | null {
    const [begin = 0, end = 0] = [this.begins[id], this.begins[id + 1]];
    return end > begin ? this.bytes.subarray(begin, end - 1) : null;
  }
}

/**
 * The bytes of every token, by id.
 * @throws TokenizerError when the decoder is neither byte-level nor SentencePiece's with byte fallback.
 */
export function tokenBytesOf(json: TokenizerJson, size: number): TokenTable {
  const kinds = JSON.stringify(json.decoder ?? null);
  const toBytes = kinds.includes('"ByteLevel"')
    ? byteLevel()
    : kinds.includes('"ByteFallback"') || kinds.includes('"Metaspace"')
      ? sentencePiece
      : null;
  if (toBytes === null)
    throw new TokenizerError(`the tokenizer's decoder ${json.decoder?.type ?? 'null'} is not supported`);
  const bytes = new Array<Uint8Array<ArrayBuffer> | undefined>(size);
  for (const [text, id] of Object.entries(json.model.vocab)) bytes[id] = toBytes(text);
  for (const token of json.added_tokens) bytes[token.id] = new TextEncoder().encode(token.content);
  return new TokenTable(bytes);
}

function byteLevel(): (text: string) => Uint8Array<ArrayBuffer> {
  const values = new Map(BYTE_CHARACTERS.map((character, byte) => [character, byte]));
  const encoder = new TextEncoder();
  return (text) => {
    const bytes = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) {
      const value = values.get(text.charAt(i));
      if (value === undefined) return encoder.encode(text);
      bytes[i] = value;
    }
    return bytes;
  };
}

function sentencePiece(text: string): Uint8Array<ArrayBuffer> {
  const byte = /^<0x([0-9A-F]{2})>$/.exec(text)?.[1];
  if (byte !== undefined) return Uint8Array.of(parseInt(byte, 16));
  return new TextEncoder().encode(text.replaceAll('\u2581', ' '));
}
