import { expect, it } from 'vitest';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { promptOf, PromptQueue, type PromptServices } from '../../../gpu-origin/prompts/prompt.ts';
import { FakeRunner } from '../fake-runner.ts';
import { tinyMetadata } from '../model-tokenizer/tiny-tokenizer.ts';

const tokenizer = loadTokenizer({
  kind: 'gguf',
  metadata: tinyMetadata({ 'tokenizer.ggml.add_bos_token': true }),
});
const services: PromptServices = {
  base: new FakeRunner({ slots: 1, context: 64 }).base,
  tokenizer,
  chatTemplate: null,
  prompts: new PromptQueue({ now: () => 0, yield: () => Promise.resolve() }),
};
const idsOf = async (fields: { prompt: string; add_special_tokens?: boolean }) => {
  const caller = { tenant: 't', signal: new AbortController().signal };
  const prompt = await promptOf({ model: 'm', ...fields }, services, caller);
  return prompt.ok ? prompt.value.ids : prompt.error;
};

it('add_special_tokens: false leaves out what the base has before every text', async () => {
  const bare = tokenizer.encode('hello', { allowSpecial: true });
  expect(await idsOf({ prompt: 'hello' })).toEqual([...tokenizer.prefixIds, ...bare]);
  expect(await idsOf({ prompt: 'hello', add_special_tokens: true })).toEqual([
    ...tokenizer.prefixIds,
    ...bare,
  ]);
  expect(await idsOf({ prompt: 'hello', add_special_tokens: false })).toEqual(bare);
  expect(await idsOf({ prompt: '' })).toEqual(tokenizer.prefixIds);
  expect(await idsOf({ prompt: '', add_special_tokens: false })).toMatchObject({ code: 'invalid_request' });
});
