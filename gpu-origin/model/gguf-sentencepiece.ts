/** SentencePiece's byte-pair vocabularies in GGUF (`tokenizer.ggml.model` = llama): Llama 2, Mistral, Gemma. */
import { TokenizerError, type TokenizerJson } from './tokenizer-definition.ts';

/** `llama_token_type` */
const NORMAL = 1;
const UNKNOWN = 2;

/**
 * The merges that a vocabulary stands for, best first: every split of a piece into two pieces, by the piece's score.
 * The order is that of transformers' `generate_merges`, so that the tokens are those of its converted `tokenizer.json`.
 */
function mergesOf(
  vocab: Readonly<Record<string, number>>,
  pieces: readonly { text: string; score: number }[],
): [string, string][] {
  const merges: { left: string; right: string; score: number; lengths: number }[] = [];
  for (const { text, score } of pieces) {
    const own: { left: string; right: string; order: number; lengths: number }[] = [];
    const characters = [...text];
    let at = 0;
    for (let count = 1; count < characters.length; count++) {
      at += characters[count - 1]!.length;
      const [left, right] = [text.slice(0, at), text.slice(at)];
      const first = vocab[left];
      const second = first === undefined ? undefined : vocab[right];
      if (first === undefined || second === undefined) continue;
      own.push({
        left,
        right,
        order: first * 2 ** 24 + second,
        lengths: count * 2 ** 16 + characters.length - count,
      });
    }
    own.sort((a, b) => a.order - b.order);
    for (const { left, right, lengths } of own) merges.push({ left, right, score, lengths });
  }
  return merges
    .sort((a, b) => b.score - a.score || b.lengths - a.lengths)
    .map(({ left, right }) => [left, right]);
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
