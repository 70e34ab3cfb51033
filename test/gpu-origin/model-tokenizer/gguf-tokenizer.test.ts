import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { checkTokenizer } from '../../../gpu-origin/load-services.ts';
import { createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer, readTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { tinyMetadata } from './tiny-tokenizer.ts';

interface Vocabulary {
  tokens: string[];
  scores: number[];
  types: number[];
  ids: number[][];
}
const reference = JSON.parse(
  readFileSync(new URL('../../fixtures/sentencepiece-reference.json', import.meta.url), 'utf8'),
) as { texts: string[]; llama: Vocabulary; gemma: Vocabulary };

const metadata = (kind: 'llama' | 'gemma', more: Record<string, unknown> = {}): Map<string, unknown> => {
  const { tokens, scores, types } = reference[kind];
  return new Map(
    Object.entries({
      'tokenizer.ggml.model': 'llama',
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.scores': scores,
      'tokenizer.ggml.token_type': types,
      'tokenizer.ggml.bos_token_id': tokens.indexOf('<s>'),
      'tokenizer.ggml.eos_token_id': tokens.indexOf('</s>'),
      'tokenizer.ggml.unknown_token_id': tokens.indexOf('<unk>'),
      ...(kind === 'gemma' ? { 'tokenizer.ggml.add_space_prefix': false } : {}),
      ...more,
    }),
  );
};

describe.each(['llama', 'gemma'] as const)("SentencePiece in GGUF, %s's way", (kind) => {
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: metadata(kind) });

  it.each(reference.texts.map((text, at) => [text, reference[kind].ids[at]!] as const))('%j', (text, ids) =>
    expect(tokenizer.encode(text, { allowSpecial: false })).toEqual(ids),
  );

  it('gives back what it encodes, and begins with the beginning', () => {
    expect(() => checkTokenizer(tokenizer, reference[kind].tokens.length)).not.toThrow();
    expect(tokenizer.prefixIds).toEqual([reference[kind].tokens.indexOf('<s>')]);
    expect(tokenizer.eosIds).toEqual([reference[kind].tokens.indexOf('</s>')]);
    const [end] = tokenizer.eosIds;
    expect(tokenizer.encode('</s>', { allowSpecial: true })).toEqual([end]);
    expect(tokenizer.encode('</s>', { allowSpecial: false })).not.toContain(end);
  });
});

describe("Gemma 4's way in GGUF, with merges and without scores", () => {
  const { merges } = readTokenizer({ kind: 'gguf', metadata: metadata('gemma') }).json.model;
  const tokenizer = loadTokenizer({
    kind: 'gguf',
    metadata: metadata('gemma', {
      'tokenizer.ggml.model': 'gemma4',
      'tokenizer.ggml.merges': merges!.map((merge) => (typeof merge === 'string' ? merge : merge.join(' '))),
      'tokenizer.ggml.scores': reference.gemma.tokens.map(() => -1_000),
      'tokenizer.ggml.add_bos_token': false,
    }),
  });

  it.each(reference.texts.map((text, at) => [text, reference.gemma.ids[at]!] as const))('%j', (text, ids) =>
    expect(tokenizer.encode(text, { allowSpecial: false })).toEqual(ids),
  );

  it('begins with the beginning, whatever the file says', () =>
    expect(tokenizer.prefixIds).toEqual([reference.gemma.tokens.indexOf('<s>')]));
});

describe('control tokens of Phi-3, which its GGUF does not say to take blanks', () => {
  const template =
    "{% for message in messages %}{{ '<|user|>\n' + message.content + '<|end|>\n' }}{% endfor %}{{ '<|assistant|>\n' }}";
  const { tokens, scores, types } = reference.llama;
  const CONTROL = ['<|user|>', '<|end|>', '<|assistant|>'];
  const all = [...tokens, ...CONTROL];
  const idsOf = (architecture: string, content: string): string[] => {
    const tokenizer = loadTokenizer({
      kind: 'gguf',
      metadata: metadata('llama', {
        'general.architecture': architecture,
        'tokenizer.ggml.tokens': all,
        'tokenizer.ggml.scores': [...scores, 0, 0, 0],
        'tokenizer.ggml.token_type': [...types, 3, 3, 3],
        'tokenizer.chat_template': template,
      }),
    });
    return createChatTemplate(tokenizer)!
      .encode([{ role: 'user', content }])
      .map((id) => all[id]!);
  };

  it.each(['', '  ', '\n\u3000'])('between %j and the template', (content) =>
    expect(idsOf('phi3', content)).toEqual(['<|user|>', '<|end|>', '<|assistant|>']),
  );

  it('and in other families they do not', () =>
    expect(idsOf('llama', '')).toEqual(expect.arrayContaining(['<|user|>', '<0x0A>'])));
});

it('is refused without scores, and other kinds by their name', () => {
  const load = (map: Map<string, unknown>) => () => loadTokenizer({ kind: 'gguf', metadata: map });
  expect(load(metadata('llama', { 'tokenizer.ggml.scores': [] }))).toThrow(/lacks tokenizer\.ggml\.scores/);
  expect(load(tinyMetadata({ 'tokenizer.ggml.model': 't5' }))).toThrow(
    'tokenizer "t5" is not supported; supported are gpt2 (byte-level BPE), llama (SentencePiece BPE) and gemma4',
  );
  expect(load(new Map())).toThrow('the GGUF has no tokenizer');
});
