import { Tokenizer as Library } from '@huggingface/tokenizers';
import { expect, it } from 'vitest';
import { createOutput } from '../../cli/output.ts';
import { cacheFolder, ensurePinnedBase } from '../../cli/local/find-base.ts';
import { readGguf } from '../../gpu-origin/model/gguf.ts';
import { ggufTokenizer } from '../../gpu-origin/model/load-tokenizer.ts';
import { createTokenizer, finish } from '../../gpu-origin/model/tokenizer.ts';
import { taskRows } from './real-base.ts';

const basePath = await ensurePinnedBase({
  cache: cacheFolder(process.env),
  output: createOutput({ json: false }),
});
const { metadata } = readGguf(basePath);

it.each(['smollm', 'gpt-2', 'llama-bpe', 'qwen2', 'tekken', 'gpt-4o'])(
  "a real vocabulary under %s's rules gives the library's own tokens, runs of one character too",
  (pre) => {
    const definition = ggufTokenizer(new Map(metadata).set('tokenizer.ggml.pre', pre));
    const tokenizer = createTokenizer(definition);
    const vocab = Object.fromEntries(
      Object.entries(definition.json.model.vocab).filter(([text]) => !tokenizer.controlTokens.has(text)),
    );
    const model = { ...definition.json.model, vocab };
    const library = new Library({ ...definition.json, added_tokens: [], model }, {});
    const rows = taskRows('medicine').flatMap(({ user, expected }) => [user, expected]);
    const texts = [
      ...rows,
      // Long enough to be cut into pieces.
      rows.join(' '),
      rows.join('\n'),
      ...[' ', '\t', '-', '=', '#', '.', 'a', '1', 'é', '你', '👩‍👩‍👧', '\ufeff'].map((unit) =>
        unit.repeat(1_000),
      ),
    ];
    for (const text of texts)
      expect(tokenizer.encode(text, { allowSpecial: false })).toEqual(
        library.encode(text, { add_special_tokens: false }).ids,
      );
  },
);

it('refuses a text whose bytes cannot fit, without encoding it', () => {
  const tokenizer = createTokenizer(ggufTokenizer(metadata));
  const steps = tokenizer.encodeChunked(' '.repeat(990_000), { allowSpecial: false, limit: 8_192 });
  expect(finish(steps)).toBeNull();
});
