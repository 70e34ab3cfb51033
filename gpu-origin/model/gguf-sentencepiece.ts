/** SentencePiece's byte-pair vocabularies in GGUF (`tokenizer.ggml.model` = llama): Llama 2, Mistral, Gemma. */
import { TokenizerError, type TokenizerJson } from './tokenizer-definition.ts';

/** `llama_token_type` */
const NORMAL = 1;
const UNKNOWN = 2;

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
 * @param params.spacePrefix a space goes before each text and behind each control token (`add_space_prefix`).
 * @throws TokenizerError when the vocabulary lacks scores or types.
 */
export function sentencePieceSteps(params: {
  tokens: readonly string[];
  /** The same tokens to their ids, without a prototype. */
  vocab: Record<string, number>;
  types: readonly unknown[];
  scores: readonly unknown[];
  unknownId: number | null;
  spacePrefix: boolean;
}): Pick<TokenizerJson, 'normalizer' | 'pre_tokenizer' | 'decoder' | 'model'> {
  const { tokens, vocab, types, scores, unknownId, spacePrefix } = params;
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
      merges: mergesOf(vocab, pieces),
      unk_token: unknown ?? null,
      fuse_unk: true,
      byte_fallback: true,
    },
  };
}
