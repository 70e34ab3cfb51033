import { Model } from '@huggingface/tokenizers';
import { MergeTable } from './merge-table.ts';
import { PairMerger } from './pair-merger.ts';
import { TokenizerError, type TokenizerJson } from './tokenizer-definition.ts';

const utf8 = new TextEncoder();

/**
 * Byte-pair encoding in place of the library's own, which makes several objects and strings a merge: a run of one
 * character, all of which merges, took it 8 microseconds a character.
 */
export class BytePairModel extends Model {
  readonly #merger: PairMerger;
  readonly #idOfCodePoint = new Map<number, number>();
  readonly #ignoreMerges: boolean;
  readonly #byteFallback: boolean;

  /** @throws TokenizerError for affixes of words and their parts, which byte-level and SentencePiece tokenizers lack. */
  constructor(config: TokenizerJson['model'], vocabulary: ReadonlyMap<string, number>) {
    super({ type: 'BPE', vocab: {}, fuse_unk: config['fuse_unk'] === true } as never);
    for (const key of ['end_of_word_suffix', 'continuing_subword_prefix', 'continuing_subword_suffix'])
      if (config[key] != null && config[key] !== '')
        throw new TokenizerError(`the tokenizer's ${key} is not supported`);
    this.#ignoreMerges = config['ignore_merges'] === true;
    this.#byteFallback = config['byte_fallback'] === true;
    for (const [text, id] of vocabulary) {
      this.tokens_to_ids.set(text, id);
      this.vocab[id] = text;
      const point = text.codePointAt(0);
      if (point !== undefined && text === String.fromCodePoint(point)) this.#idOfCodePoint.set(point, id);
    }
    const unknown = config['unk_token'];
    if (typeof unknown === 'string') {
      this.unk_token = unknown;
      const id = this.tokens_to_ids.get(unknown);
      if (id !== undefined) this.unk_token_id = id;
    }
    const merges = config.merges.map((merge) =>
      typeof merge === 'string' ? (merge.split(' ', 2) as [string, string]) : merge,
    );
    this.#merger = new PairMerger(new MergeTable(merges, (text) => this.tokens_to_ids.get(text)));
  }

  override encode(preTokens: string[]): string[] {
    const tokens: string[] = [];
    for (const preToken of preTokens) {
      if (this.#ignoreMerges && this.tokens_to_ids.has(preToken)) {
        tokens.push(preToken);
        continue;
      }
      const ids = this.#merger.places(preToken.length);
      const count = this.#merger.join(this.#read(preToken, ids));
      for (let at = 0; at < count; at += 1) {
        const id = ids[at]!;
        if (id >= 0) tokens.push(this.vocab[id]!);
        else this.#pushUnknown(String.fromCodePoint(~id), tokens);
      }
    }
    return tokens;
  }

  /** Writes each character's id, or the complement of its code point where it has none. @returns how many. */
  #read(preToken: string, ids: Int32Array): number {
    const known = this.#idOfCodePoint;
    let count = 0;
    for (let at = 0; at < preToken.length; at += 1) {
      const point = preToken.codePointAt(at)!;
      if (point > 0xffff) at += 1;
      ids[count] = known.get(point) ?? ~point;
      count += 1;
    }
    return count;
  }

  #pushUnknown(character: string, tokens: string[]): void {
    if (this.#byteFallback) {
      const bytes = [...utf8.encode(character)].map(
        (byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
      );
      if (bytes.every((byte) => this.tokens_to_ids.has(byte))) {
        tokens.push(...bytes);
        return;
      }
    }
    if (this.unk_token !== undefined) tokens.push(this.unk_token);
  }
}
