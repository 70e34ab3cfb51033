import { expect, it } from 'vitest';
import { parseChatCompletion } from '../../protocol/completion.ts';

const USER = { role: 'user', content: 'hi' };
const BEGUN = { role: 'assistant', content: 'Well' };
const parse = (fields: object) => parseChatCompletion({ model: 'm', messages: [USER], ...fields });
const nested = (depth: number): unknown => (depth === 0 ? 1 : { a: nested(depth - 1) });

it.each<[object]>([
  [{ chat_template_kwargs: { enable_thinking: false, list: [1, 'a', null] } }],
  [{ chat_template_kwargs: {} }],
  [{ chat_template_kwargs: nested(8) }],
  [{ chat_template_kwargs: { a: 'x'.repeat(8_184) } }],
  [{ add_generation_prompt: false }],
  [{ continue_final_message: true, messages: [USER, BEGUN] }],
  [{ continue_final_message: true, add_generation_prompt: false, messages: [BEGUN] }],
  [{ continue_final_message: false, add_generation_prompt: true }],
])('takes %j', (fields) => {
  expect(parse(fields)).toMatchObject({ ok: true, value: { request: fields, ignored: [] } });
});

it.each<[object, string]>([
  [{ chat_template_kwargs: [] }, 'chat_template_kwargs'],
  [{ chat_template_kwargs: { messages: [] } }, 'chat_template_kwargs.messages'],
  [{ chat_template_kwargs: { bos_token: '' } }, 'chat_template_kwargs.bos_token'],
  [{ chat_template_kwargs: { 'a b': 1 } }, 'chat_template_kwargs.a b'],
  [{ chat_template_kwargs: JSON.parse('{"__proto__": 1, "a b": 1}') as object }, 'chat_template_kwargs.a b'],
  [{ chat_template_kwargs: nested(9) }, 'chat_template_kwargs'],
  [{ chat_template_kwargs: { a: 'x'.repeat(8_200) } }, 'chat_template_kwargs'],
  [{ continue_final_message: true }, 'messages[0].role'],
  [
    { continue_final_message: true, add_generation_prompt: true, messages: [USER, BEGUN] },
    'continue_final_message',
  ],
  [{ add_generation_prompt: 'yes' }, 'add_generation_prompt'],
])('refuses %j', (fields, param) => {
  expect(parse(fields)).toMatchObject({ ok: false, error: { code: 'invalid_request', param } });
});
