import type OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ADAPTER, clientOf, startConformanceStack, type ConformanceStack } from './stack.ts';

/** Logits whatever came before; the other tokens have -20. Each has a penalty once it was said: `abcd…`. */
const LOGITS = { a: 8, b: 7, c: 6, d: 5 };
const IN_TURN = { presence_penalty: 2, frequency_penalty: 2, temperature: 0 };

type Fields = Record<string, unknown>;
interface Said {
  text: string;
  reason: string | null | undefined;
}

/** vLLM's fields, through the edge and the origin behind it, in all three APIs. */
describe('fields of vLLM', () => {
  let stack: ConformanceStack;
  let client: OpenAI;
  const ids: Record<string, number> = {};
  let end = 0;
  beforeAll(async () => {
    const known = new Map<number, number>();
    stack = await startConformanceStack({ runner: { logit: (id) => known.get(id) ?? -20 } });
    const { tokenizer } = stack.origin;
    for (const [text, logit] of Object.entries(LOGITS)) {
      ids[text] = tokenizer.encode(text, { allowSpecial: false })[0]!;
      known.set(ids[text], logit);
    }
    end = tokenizer.eosIds[0]!;
    known.set(end, 5.5);
    client = clientOf(stack);
  });
  afterAll(() => stack.stop());

  const common = { model: ADAPTER, ...IN_TURN };
  const messages = [{ role: 'user' as const, content: 'x' }];
  const asked: Record<string, (fields: Fields) => Promise<Said>> = {
    async text(fields) {
      const body = { ...common, prompt: 'x', max_tokens: 6, ...fields };
      const [choice] = (await client.completions.create(body)).choices;
      return { text: choice!.text, reason: choice!.finish_reason };
    },
    async chat(fields) {
      const body = { ...common, messages, max_tokens: 6, ...fields };
      const [choice] = (await client.chat.completions.create(body)).choices;
      return { text: choice!.message.content ?? '', reason: choice!.finish_reason };
    },
    async stream(fields) {
      const body = { ...common, messages, max_tokens: 6, ...fields };
      const [choice] = (await client.chat.completions.stream(body).finalChatCompletion()).choices;
      return { text: choice!.message.content ?? '', reason: choice!.finish_reason };
    },
    async responses(fields) {
      const body = { ...common, input: 'x', max_output_tokens: 6, ...fields };
      const { output_text: text, status } = await client.responses.create(body);
      return { text, reason: status === 'incomplete' ? 'length' : 'stop' };
    },
  };

  describe.each(Object.keys(asked))('%s', (api) => {
    it.each<[string, () => Fields, Said]>([
      ['nothing: ends by itself', () => ({}), { text: 'abc', reason: 'stop' }],
      ['stop_token_ids', () => ({ stop_token_ids: [ids['c'], 4] }), { text: 'ab', reason: 'stop' }],
      [
        'include_stop_str_in_output, of a token',
        () => ({ stop_token_ids: [ids['b']], include_stop_str_in_output: true }),
        { text: 'ab', reason: 'stop' },
      ],
      [
        'include_stop_str_in_output, of a text',
        () => ({ stop: 'bc', include_stop_str_in_output: true }),
        { text: 'abc', reason: 'stop' },
      ],
      ['a stop text that is left out', () => ({ stop: 'bc' }), { text: 'a', reason: 'stop' }],
      ['min_tokens: not before', () => ({ min_tokens: 6 }), { text: 'abcdab', reason: 'length' }],
      [
        'min_tokens: stop tokens and texts too',
        () => ({ min_tokens: 2, stop_token_ids: [ids['b']], stop: ['a'] }),
        { text: 'ac', reason: 'stop' },
      ],
    ])('%s', async (_what, fields, said) => {
      expect(await asked[api]!(fields())).toEqual(said);
    });

    it('skip_special_tokens: false shows what is no text otherwise', async () => {
      const special = stack.origin.tokenizer.eosIds[0]!;
      const forced = { logit_bias: { [special]: 100 }, ignore_eos: true };
      expect((await asked[api]!(forced)).text).toBe('');
      const shown = await asked[api]!({ ...forced, skip_special_tokens: false });
      const text = new TextDecoder().decode(stack.origin.tokenizer.tokenBytes(special)!);
      expect(text).not.toBe('');
      expect(shown).toEqual({ text: text.repeat(6), reason: 'length' });
    });

    it.each<[Fields, string]>([
      [{ min_tokens: 7 }, 'min_tokens'],
      [{ min_tokens: -1 }, 'min_tokens'],
      [{ stop_token_ids: [1.5] }, 'stop_token_ids[0]'],
      [{ stop_token_ids: Array(129).fill(1) }, 'stop_token_ids'],
      [{ skip_special_tokens: 'no' }, 'skip_special_tokens'],
    ])('refuses %j', async (fields, param) => {
      await expect(asked[api]!(fields)).rejects.toMatchObject({
        status: 400,
        code: 'invalid_request',
        param,
      });
    });
  });

  it('continue_final_message goes on where the assistant ended', async () => {
    const { tokenizer } = stack.origin;
    const promptOf = async (fields: Fields) => {
      const response = await fetch(`${stack.baseURL.replace('/v1', '')}/tokenize`, {
        method: 'POST',
        headers: { authorization: `Bearer ${stack.apiKey}` },
        body: JSON.stringify({ messages: [...messages, { role: 'assistant', content: 'ab' }], ...fields }),
      });
      const { tokens } = (await response.json()) as { tokens: number[] };
      const decoder = new TextDecoder();
      return tokens.map((id) => decoder.decode(tokenizer.tokenBytes(id)!)).join('');
    };
    expect(await promptOf({ continue_final_message: true })).toMatch(/assistant\nab$/);
    expect(await promptOf({ add_generation_prompt: false })).toMatch(/assistant\nab<\|im_end\|>\n$/);
    expect(await promptOf({})).toMatch(/ab<\|im_end\|>\n<\|im_start\|>assistant\n$/);

    const begun = [...messages, { role: 'assistant' as const, content: 'ab' }];
    const usage = async (fields: Fields) => {
      const body = { ...common, messages: begun, max_tokens: 2, ...fields };
      return (await client.chat.completions.create(body)).usage!.prompt_tokens;
    };
    expect(await usage({ continue_final_message: true })).toBeLessThan(await usage({}));
    await expect(asked['chat']!({ continue_final_message: true })).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'messages[0].role',
    });
  });
});
