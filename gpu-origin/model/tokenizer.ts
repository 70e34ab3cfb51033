import { Tokenizer as BpeTokenizer } from '@huggingface/tokenizers';
import { ggufTokenizer } from './gguf-tokenizer.ts';
import { type AddedToken, type TokenizerDefinition, TokenizerError } from './tokenizer-definition.ts';
import { tokenBytesOf } from './tokenizer-bytes.ts';
import { folderTokenizer } from './tokenizer-folder.ts';

export { TokenizerError } from './tokenizer-definition.ts';

export type TokenizerSource =
  | { kind: 'gguf'; metadata: Map<string, unknown> }
  /** A folder with `tokenizer.json`. */
  | { kind: 'folder'; path: string };

export interface Tokenizer {
  /**
   * @param allowSpecial true: special strings in the text become their ids; false: they are text like any other.
   * @param limit encoding stops soon after this many tokens, so that a hostile text cannot hold the thread for long.
   */
  encode(text: string, options: { allowSpecial: boolean; limit?: number }): number[];
  /** Bytes that a token adds to the output, or null when there is no such token. The caller must not change them. */
  tokenBytes(id: number): Uint8Array<ArrayBuffer> | null;
  /** Control tokens: they steer the model and are not part of its text. */
  isSpecial(id: number): boolean;
  /** Text of each control token to its id. */
  readonly specialTokens: ReadonlyMap<string, number>;
  readonly bosId: number | null;
  /** Tokens that end a generation. */
  readonly eosIds: readonly number[];
  /** Ids that go before a raw text prompt. */
  readonly prefixIds: readonly number[];
  /** Jinja source of the base's chat template. */
  readonly chatTemplate: string | null;
  /** Ids are below this. */
  readonly size: number;
}

/**
 * Some bases list control tokens such as `<|fim_prefix|>` as ordinary added tokens. Their form gives them away, and
 * a user's text must not produce them either.
 */
const isControl = (token: AddedToken): boolean =>
  token.special === true || /^<\|[^|]+\|>$/.test(token.content);

/** @throws TokenizerError when the tokenizer is missing, damaged or of a kind that is not supported. */
export function loadTokenizer(source: TokenizerSource): Tokenizer {
  return createTokenizer(
    source.kind === 'gguf' ? ggufTokenizer(source.metadata) : folderTokenizer(source.path),
  );
}

/** @throws TokenizerError */
export function createTokenizer(definition: TokenizerDefinition): Tokenizer {
  const { json } = definition;
  const control = json.added_tokens.filter(isControl);
  const specialTokens = new Map(control.map((token) => [token.content, token.id]));
  const special = new Map(control.map((token) => [token.content, token]));
  const specialIds = new Set(specialTokens.values());
  // The library is given a vocabulary without control tokens, so that no text whatsoever can yield one.
  const vocab = Object.fromEntries(Object.entries(json.model.vocab).filter(([text]) => !special.has(text)));
  const plain = buildPlain({
    ...json,
    added_tokens: json.added_tokens.filter((token) => !isControl(token)),
    post_processor: null,
    model: { ...json.model, type: 'BPE', vocab },
  });
  const size =
    1 +
    [...Object.values(json.model.vocab), ...json.added_tokens.map((token) => token.id)].reduce(
      (a, b) => Math.max(a, b),
      -1,
    );
  const bytes = tokenBytesOf(json, size);
  const splitter = specialSplitter([...specialTokens.keys()]);
  // SentencePiece writes a space before each text, so only byte-level texts may be cut.
  const cut = JSON.stringify(json.decoder).includes('"ByteLevel"') ? segments : (text: string) => [text];
  const encodePlain = (text: string, limit: number): number[] => {
    const ids: number[] = [];
    for (const segment of cut(text)) {
      for (const id of plain.encode(segment, { add_special_tokens: false }).ids) ids.push(id);
      if (ids.length > limit) break;
    }
    return ids;
  };

  return {
    encode(text, { allowSpecial, limit = Infinity }) {
      if (!allowSpecial) return encodePlain(text, limit);
      const ids: number[] = [];
      const pieces = splitter(text);
      for (const [index, piece] of pieces.entries()) {
        const token = special.get(piece);
        if (token !== undefined) ids.push(token.id);
        else {
          const start = special.get(pieces[index - 1] ?? '')?.rstrip ? piece.trimStart() : piece;
          const whole = special.get(pieces[index + 1] ?? '')?.lstrip ? start.trimEnd() : start;
          for (const id of encodePlain(whole, limit - ids.length)) ids.push(id);
        }
        if (ids.length > limit) break;
      }
      return ids;
    },
    tokenBytes: (id) => bytes[id] ?? null,
    isSpecial: (id) => specialIds.has(id),
    specialTokens,
    bosId: definition.bosId,
    eosIds: definition.eosIds,
    prefixIds: definition.prefixIds,
    chatTemplate: definition.chatTemplate,
    size,
  };
}

function buildPlain(json: object): BpeTokenizer {
  try {
    return new BpeTokenizer(json, { clean_up_tokenization_spaces: false });
  } catch (error) {
    throw new TokenizerError(`the tokenizer cannot be built: ${(error as Error).message}`);
  }
}

/** @returns a function that cuts a text at special strings, longest first; the special strings are pieces too. */
export function specialSplitter(specials: readonly string[]): (text: string) => string[] {
  if (specials.length === 0) return (text) => [text];
  const pattern = new RegExp(
    `(${[...specials]
      .sort((a, b) => b.length - a.length)
      .map((text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'))
      .join('|')})`,
  );
  return (text) => text.split(pattern).filter((piece) => piece !== '');
}

/** Characters encoded at once: about 50 ms of the slowest text. */
const SEGMENT = 8_192;

/**
 * Cuts a long text where every byte-level pre-tokenizer cuts too (between a letter and a space before a letter), so
 * that the tokens stay the same. A text without such a place in `size` characters is cut there all the same.
 */
export function* segments(text: string, size: number = SEGMENT): Generator<string> {
  let start = 0;
  while (text.length - start > 2 * size) {
    const window = text.slice(start, start + 2 * size);
    const near = window.slice(size).search(/(?<=\p{L}) (?=\p{L})/u);
    let end = start + (near === -1 ? 2 * size : size + near);
    if (near === -1 && /[\ud800-\udbff]/.test(text.charAt(end - 1))) end -= 1;
    yield text.slice(start, end);
    start = end;
  }
  if (start < text.length) yield text.slice(start);
}
