import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Tokenizer as Library } from '@huggingface/tokenizers';
import fc from 'fast-check';
import { afterAll, describe, expect, it } from 'vitest';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { originalSteps, TokenizerError } from '../../../gpu-origin/model/tokenizer-definition.ts';
import {
  createTokenizer,
  plainEncoder,
  type Tokenizer,
  finish,
  segments,
} from '../../../gpu-origin/model/tokenizer.ts';
import { CHATML, SPECIALS, TINY_KINDS, tinyMetadata, tinyTokenizerJson } from './tiny-tokenizer.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-tokenizer-'));
afterAll(() => rmSync(folder, { recursive: true }));
writeFileSync(join(folder, 'tokenizer.json'), tinyTokenizerJson());
writeFileSync(
  join(folder, 'tokenizer_config.json'),
  JSON.stringify({ bos_token: '<|im_start|>', eos_token: { content: '<|im_end|>' }, chat_template: 'old' }),
);
writeFileSync(join(folder, 'chat_template.jinja'), CHATML);
writeFileSync(join(folder, 'generation_config.json'), JSON.stringify({ eos_token_id: [2, 0] }));

const fromGguf = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
const fromFolder = loadTokenizer({ kind: 'folder', path: folder });

const textOf = (tokenizer: Tokenizer, ids: readonly number[]): string =>
  new TextDecoder('utf-8', { ignoreBOM: true }).decode(
    Uint8Array.from(ids.flatMap((id) => [...(tokenizer.tokenBytes(id) ?? [])])),
  );
const text = fc.string({ unit: 'grapheme', maxLength: 60 });

/** The same cases every time. */
fc.configureGlobal({ seed: 20_261_125 });

describe('loadTokenizer', () => {
  it('reads the same from a folder and from GGUF metadata', () => {
    fc.assert(
      fc.property(text, fc.boolean(), (value, allowSpecial) => {
        expect(fromFolder.encode(value, { allowSpecial })).toEqual(fromGguf.encode(value, { allowSpecial }));
      }),
    );
    expect([fromFolder.bosId, fromGguf.bosId]).toEqual([1, 1]);
    expect(fromGguf.eosIds).toEqual([2]);
    expect(fromFolder.eosIds).toEqual([2, 0]);
    expect(fromFolder.chatTemplate).toBe(CHATML);
    expect(fromGguf.size).toBe(271);
  });

  it('gives back every text', () => {
    fc.assert(
      fc.property(text, (value) => {
        expect(textOf(fromGguf, fromGguf.encode(value, { allowSpecial: false }))).toBe(value);
      }),
    );
  });

  it('merges as trained, digits alone', () => {
    const tokens = fromGguf
      .encode('hello world  hello 12', { allowSpecial: false })
      .map((id) => textOf(fromGguf, [id]));
    expect(tokens).toEqual(['hello', ' world', ' ', ' hello', ' ', '1', '2']);
  });

  it('yields special ids only when that is asked for', () => {
    for (const [id, special] of SPECIALS.entries()) {
      const around = `a${special}b`;
      expect(fromGguf.encode(around, { allowSpecial: true })).toContain(id);
      const plain = fromGguf.encode(around, { allowSpecial: false });
      expect(plain.some((token) => fromGguf.isSpecial(token))).toBe(false);
      expect(textOf(fromGguf, plain)).toBe(around);
    }
  });

  it('never yields a control token where a whole word is looked up before merging', () => {
    // ignore_merges (Llama 3) looks a pre-token up as it is; a control token of letters alone would be found.
    const metadata = tinyMetadata({ 'tokenizer.ggml.pre': 'llama-bpe' });
    const tokens = [...(metadata.get('tokenizer.ggml.tokens') as string[]), 'CONTROL'];
    metadata.set('tokenizer.ggml.tokens', tokens);
    metadata.set(
      'tokenizer.ggml.token_type',
      tokens.map((_t, id) => (id < 3 || id === tokens.length - 1 ? 3 : 1)),
    );
    const tokenizer = loadTokenizer({ kind: 'gguf', metadata });
    expect(tokenizer.encode('CONTROL', { allowSpecial: false })).not.toContain(tokens.length - 1);
    expect(tokenizer.encode('CONTROL', { allowSpecial: true })).toEqual([tokens.length - 1]);
  });

  // The pieces are the originals' (tokenizers 0.23, with the models' own tokenizer.json); what merges shows them.
  it.each([
    ['tekken', 'aBa', ['a', 'Ba']],
    ['gpt-4o', 'aBa', ['a', 'Ba']],
    ['llama-bpe', 'aBa', ['aBa']],
    ['smaug-bpe', 'aBa', ['aBa']],
    ['dbrx', 'aBa', ['aBa']],
    ['glm4', 'aBa', ['aBa']],
    ['tekken', "a's", ['a', "'s"]],
    ['gpt-4o', "a's", ["a's"]],
    ['llama-bpe', "a's", ['a', "'s"]],
    ['tekken', '1212', ['1', '2', '1', '2']],
    ['gpt-4o', '1212', ['121', '2']],
    ['smaug-bpe', '1212', ['121', '2']],
    ['chatglm-bpe', '1212', ['121', '2']],
    // An x and a mark above it, which is no letter.
    ['qwen2', 'x\u0301', ['x', 'Ì', 'ģ']],
    ['qwen35', 'x\u0301', ['xÌ', 'ģ']],
  ])('splits words as %s does: %s', (pre, text, pieces) => {
    const made = [...new Set(['aB', 'Ba', 'aBa', "a'", "'s", "a's", '12', '121', '1212', 'xÌ'])];
    const merges = ['a B', 'B a', 'aB a', "a '", "' s", "a' s", '1 2', '12 1', '121 2', 'x Ì'];
    const [own, types] = ['tokens', 'token_type'].map(
      (key) => tinyMetadata().get(`tokenizer.ggml.${key}`) as unknown[],
    );
    const tokens = [...own!, ...made.filter((token) => !own!.includes(token))] as string[];
    const metadata = tinyMetadata({
      'tokenizer.ggml.pre': pre,
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.token_type': tokens.map((_, id) => types![id] ?? 1),
      'tokenizer.ggml.merges': merges,
    });
    const ids = loadTokenizer({ kind: 'gguf', metadata }).encode(text, { allowSpecial: false });
    expect(ids.map((id) => tokens[id])).toEqual(pieces);
  });

  it.each(['llama-bpe', 'qwen2', 'gpt-2', 'smollm'])('splits text as %s does, and gives it back', (pre) => {
    const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata({ 'tokenizer.ggml.pre': pre }) });
    for (const value of ["I'LL we'll 1234567", 'a\n\n  b\t\r\n', 'naïve 你好 👍🏽'])
      expect(textOf(tokenizer, tokenizer.encode(value, { allowSpecial: false }))).toBe(value);
  });

  it('writes the bos token before raw prompts where the base wants it', () => {
    const prefixOf = (overrides: Record<string, unknown>) =>
      loadTokenizer({ kind: 'gguf', metadata: tinyMetadata(overrides) }).prefixIds;
    expect(prefixOf({})).toEqual([]);
    expect(prefixOf({ 'tokenizer.ggml.add_bos_token': true })).toEqual([1]);
    expect(
      prefixOf({ 'tokenizer.ggml.pre': 'llama-bpe', 'tokenizer.ggml.add_bos_token': undefined }),
    ).toEqual([1]);
  });

  it('stops soon after the limit', () => {
    const long = 'a b '.repeat(12_000);
    const ids = finish(fromGguf.encodeChunked(long, { allowSpecial: false, limit: 10_900 }));
    expect(ids!.length).toBeGreaterThan(10_900);
    expect(ids!.length).toBeLessThan(15_000);
  });

  it.each([
    ['another model', { 'tokenizer.ggml.model': 't5' }, /"t5"/],
    ['an unknown pre-tokenizer', { 'tokenizer.ggml.pre': 'chameleon' }, /"chameleon"/],
    ['no merges', { 'tokenizer.ggml.merges': undefined }, /merges/],
    ['tokens that are no strings', { 'tokenizer.ggml.tokens': [1] }, /tokens/],
  ])('refuses %s', (_what, overrides, message) => {
    const load = () => loadTokenizer({ kind: 'gguf', metadata: tinyMetadata(overrides) });
    expect(load).toThrow(TokenizerError);
    expect(load).toThrow(message);
  });

  it('refuses a folder without tokenizer.json, or with a damaged one', () => {
    expect(() => loadTokenizer({ kind: 'folder', path: join(folder, 'none') })).toThrow(/no tokenizer.json/);
    const bad = mkdtempSync(join(folder, 'bad-'));
    writeFileSync(join(bad, 'tokenizer.json'), '{"model":{"type":"Unigram"}}');
    expect(() => loadTokenizer({ kind: 'folder', path: bad })).toThrow(TokenizerError);
    writeFileSync(join(bad, 'tokenizer.json'), '{');
    expect(() => loadTokenizer({ kind: 'folder', path: bad })).toThrow(/is not JSON/);
  });
});

describe.each(Object.entries(TINY_KINDS))('merges and cuts of %s', (_kind, definitionOf) => {
  const definition = definitionOf();
  const { json } = definition;
  const control = new Map(json.added_tokens.map(({ content, id }) => [content, id]));
  const tokenizer = createTokenizer(definition);
  const library = new Library(
    {
      ...json,
      pre_tokenizer: originalSteps(json.pre_tokenizer),
      added_tokens: [],
      post_processor: null,
      model: {
        ...json.model,
        vocab: Object.fromEntries(Object.entries(json.model.vocab).filter(([text]) => !control.has(text))),
      },
    },
    { clean_up_tokenization_spaces: false },
  );
  const pieces = [
    'hello',
    ' world',
    ' ',
    '  ',
    '\n',
    '12',
    "'s",
    'é',
    '👍',
    '👩‍👩‍👧',
    '.',
    'a b',
    '---',
    '你好',
    '，好',
    '\ufeff',
  ];
  const value = fc
    .array(fc.oneof(fc.constantFrom(...pieces), fc.string({ unit: 'grapheme', maxLength: 3 })), {
      maxLength: 80,
    })
    .map((parts) => parts.join(''));

  it("gives the library's own tokens", () => {
    fc.assert(
      fc.property(value, (text) => {
        expect(tokenizer.encode(text, { allowSpecial: false })).toEqual(
          library.encode(text, { add_special_tokens: false }).ids,
        );
      }),
      { numRuns: 200 },
    );
  });

  it.each([' ', '=', 'a', 'hel', '1', '你', '👍'])('and of a run of %j too', (unit) => {
    for (const length of [1, 2, 3, 63, 64, 65, 500]) {
      const text = unit.repeat(length);
      expect(tokenizer.encode(text, { allowSpecial: false })).toEqual(
        library.encode(text, { add_special_tokens: false }).ids,
      );
    }
  });

  it('loses nothing, and leaves the tokens as they are when there is a good place', () => {
    const encode = plainEncoder(json, control);
    fc.assert(
      fc.property(value, fc.integer({ min: 8, max: 20 }), (text, size) => {
        const cut = [...segments(text, size)];
        expect(cut.map((segment) => segment.text).join('')).toBe(text);
        for (const segment of cut) expect(segment.text.length).toBeLessThanOrEqual(2 * size);
        // Cuts other than the last resort change no token.
        if (cut.some((segment) => segment.text.length >= 2 * size - 1)) return;
        expect(cut.flatMap((segment) => encode(segment.text, segment.begins ? 'text' : 'inside'))).toEqual(
          encode(text, 'text'),
        );
      }),
      { numRuns: 300 },
    );
  });
});

describe('segments', () => {
  it('does not cut a surrogate pair', () => {
    for (const { text: piece } of segments('👍'.repeat(50), 7)) expect(piece).not.toMatch(/\p{Surrogate}/u);
  });

  it('finds places in text without spaces', () => {
    const text = '天气很好，我们去公园。'.repeat(20);
    for (const segment of [...segments(text, 20)].slice(1)) expect(segment.text).toMatch(/^[，。]/);
  });
});
