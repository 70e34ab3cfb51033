import { ggufTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { BYTE_CHARACTERS, type TokenizerDefinition } from '../../../gpu-origin/model/tokenizer-definition.ts';

export const CHATML =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}" +
  "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

export const SPECIALS = ['<|endoftext|>', '<|im_start|>', '<|im_end|>'];

/** "Ġ" is the space in the byte alphabet. */
const MERGES = [
  'h e',
  'l l',
  'he ll',
  'hell o',
  'Ġ w',
  'o r',
  'Ġw or',
  'Ġwor l',
  'Ġworl d',
  'Ġ Ġ',
  'Ġ hello',
  '1 2',
];

export interface TinyVocabulary {
  tokens: string[];
  types: number[];
  merges: string[];
}

/** Specials first (as SmolLM2's), then 256 bytes, then what the merges make: 271 tokens. */
export function tinyVocabulary(specials: readonly string[] = SPECIALS): TinyVocabulary {
  const tokens = [...specials, ...BYTE_CHARACTERS, ...MERGES.map((merge) => merge.replace(' ', ''))];
  return { tokens, types: tokens.map((_token, id) => (id < specials.length ? 3 : 1)), merges: MERGES };
}

/** A GGUF's metadata as llama.cpp writes it. */
export function tinyMetadata(overrides: Record<string, unknown> = {}): Map<string, unknown> {
  const { tokens, types, merges } = tinyVocabulary();
  return new Map<string, unknown>(
    Object.entries({
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'smollm',
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.token_type': types,
      'tokenizer.ggml.merges': merges,
      'tokenizer.ggml.bos_token_id': 1,
      'tokenizer.ggml.eos_token_id': 2,
      'tokenizer.ggml.add_bos_token': false,
      'tokenizer.chat_template': CHATML,
      ...overrides,
    }),
  );
}

/** Text of `tokenizer.json`. */
export function tinyTokenizerJson(specials: readonly string[] = SPECIALS): string {
  const { tokens, merges } = tinyVocabulary(specials);
  return JSON.stringify({
    version: '1.0',
    added_tokens: specials.map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Digits', individual_digits: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
  });
}

/** The shape of Llama 2's and Mistral's `tokenizer.json`: "▁" for spaces, one before each text, bytes for the unknown. */
export function tinySentencePiece(): TokenizerDefinition {
  const bytes = Array.from(
    { length: 256 },
    (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`,
  );
  const merges = ['▁ ▁', '▁▁ ▁▁', 'h e', 'l l', 'he ll', 'hell o', '▁ hello', '- -', '1 2'];
  const letters = [...new Set([...'▁helo-12abcdnrstuwy'])];
  const texts = [
    '<unk>',
    '<s>',
    '</s>',
    ...bytes,
    ...letters,
    ...merges.map((merge) => merge.replace(' ', '')),
  ];
  return {
    json: {
      added_tokens: ['<unk>', '<s>', '</s>'].map((content, id) => ({ id, content, special: true })),
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'Prepend', prepend: '▁' },
          { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
        ],
      },
      pre_tokenizer: null,
      post_processor: null,
      decoder: { type: 'Sequence', decoders: [{ type: 'ByteFallback' }] },
      model: {
        type: 'BPE',
        vocab: Object.fromEntries(texts.map((text, id) => [text, id])),
        merges,
        unk_token: '<unk>',
        fuse_unk: true,
        byte_fallback: true,
      },
    },
    bosId: 1,
    eosIds: [2],
    prefixIds: [1],
    chatTemplate: "{% for message in messages %}{{ message['content'] + '</s>' }}{% endfor %}",
  };
}

/** Each kind of tokenizer that is supported. */
export const TINY_KINDS: Record<string, () => TokenizerDefinition> = {
  ...Object.fromEntries(
    ['gpt-2', 'smollm', 'llama-bpe', 'qwen2'].map((pre) => [
      pre,
      () => ggufTokenizer(tinyMetadata({ 'tokenizer.ggml.pre': pre })),
    ]),
  ),
  sentencepiece: tinySentencePiece,
};
