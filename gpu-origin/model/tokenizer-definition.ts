/** What every source (a folder's files, a GGUF's metadata) is turned into before a tokenizer is built from it. */
import { z } from 'zod';

/** The base's tokenizer cannot be used; the message names what is not supported. */
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

/** Hugging Face's `tokenizer.json`, as far as it is looked at here; the rest goes to the tokenizer library as it is. */
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
  /** The token that chat templates know as `bos_token`. */
  bosId: number | null;
  /** Tokens that end a generation. */
  eosIds: readonly number[];
  /** Put before a raw text prompt (usually the bos token, or nothing). A chat template writes its own. */
  prefixIds: readonly number[];
  /** Jinja source. */
  chatTemplate: string | null;
}

/** A definition as a file, for who encodes prompts elsewhere. */
export const TokenizerDefinitionJson = z.strictObject({
  json: TokenizerJson,
  bosId: z.int().nullable(),
  eosIds: z.array(z.int()),
  prefixIds: z.array(z.int()),
  chatTemplate: z.string().nullable(),
}) satisfies z.ZodType<TokenizerDefinition>;
