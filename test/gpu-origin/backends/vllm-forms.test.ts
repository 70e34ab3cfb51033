/** Answers that are held to a form, through the whole origin in front of vLLM. */
import { afterEach, expect, it } from 'vitest';
import { TURN_TOKENS } from '../../../gpu-origin/backends/vllm/vllm-engine.ts';
import { startVllmOrigin, type VllmOrigin } from './vllm-origin.ts';

let origin: VllmOrigin;
afterEach(() => origin.stop());

interface Answer {
  choices: {
    text?: string;
    message?: { content: string | null; tool_calls?: { function: { name: string; arguments: string } }[] };
    finish_reason: string;
  }[];
  error: { code: string; message: string };
}
const ask = async (path: string, body: object) => {
  const response = await fetch(`${origin.url}${path}`, { method: 'POST', body: JSON.stringify(body) });
  return { status: response.status, json: (await response.json()) as Answer };
};
const complete = (more: object) =>
  ask('/v1/completions', { model: 'a0', prompt: 'hello', max_tokens: 600, ...more });
const chat = (more: object) =>
  ask('/v1/chat/completions', {
    ...{ model: 'a0', max_tokens: 400, messages: [{ role: 'user', content: 'Paris?' }] },
    ...more,
  });
/** What the last request was held to, as vLLM got it. */
const form = () => origin.vllm.bodies.at(-1)!['structured_outputs'] as Record<string, unknown>;
const tag = () => (JSON.parse(form()['structural_tag'] as string) as { format: object }).format;

const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] };
const weather = { type: 'function', function: { name: 'weather', parameters: schema } };
const CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>';

it('passes schemas, expressions, choices and grammars on, without end tokens', async () => {
  origin = await startVllmOrigin();
  origin.vllm.says = () => '{"city": "Rome"}';
  const asJson = { response_format: { type: 'json_schema', json_schema: { name: 'x', schema } } };
  const held = await complete({ ...asJson, ignore_eos: true, min_tokens: 40 });
  expect(held.json.choices[0]).toMatchObject({ text: '{"city": "Rome"}', finish_reason: 'stop' });
  expect(tag()).toEqual({ type: 'json_schema', json_schema: schema, max_whitespace_cnt: 1 });
  expect(origin.vllm.bodies.at(-1)).toMatchObject({ ignore_eos: false, min_tokens: 0 });
  const others: [object, object][] = [
    [{ guided_regex: '[ab]+' }, { regex: '[ab]+' }],
    [{ structured_outputs: { choice: ['yes', 'no'] } }, { choice: ['yes', 'no'] }],
    [{ guided_grammar: 'root ::= "ä"' }, { grammar: 'root ::= "ä"' }],
  ];
  for (const [asked, sent] of others) {
    expect((await complete(asked)).status).toBe(200);
    expect(form()).toEqual(sent);
  }
  await complete({ response_format: { type: 'json_object' } });
  expect(tag()).toMatchObject({ type: 'json_schema', json_schema: { type: 'object' } });
  await complete({});
  expect(form()).toBeUndefined();
});

it('calls functions, by a structural tag', async () => {
  // Instructions and schema take more than half of 512 bytes.
  origin = await startVllmOrigin({ vllm: { context: 2_048 } });
  origin.vllm.says = () => CALL;
  const called = await chat({ tools: [weather] });
  expect(called.json.choices[0]).toMatchObject({
    finish_reason: 'tool_calls',
    message: { tool_calls: [{ function: { name: 'weather', arguments: '{"city": "Paris"}' } }] },
  });
  const tags = [
    {
      ...{ type: 'tag', begin: '<tool_call>\n{"name": "weather", "arguments": ', end: '}\n</tool_call>' },
      content: { type: 'json_schema', json_schema: schema, max_whitespace_cnt: 1 },
    },
  ];
  const triggers = ['<tool_call>'];
  const several = { at_least_one: false, stop_after_first: false };
  expect(tag()).toEqual({ type: 'triggered_tags', triggers, tags, ...several });
  await chat({ tools: [weather], tool_choice: 'required', parallel_tool_calls: false });
  const one = { at_least_one: true, stop_after_first: true };
  expect(tag()).toEqual({ type: 'tags_with_separator', tags, separator: '\n', ...one });
  origin.vllm.says = () => 'It rains.';
  const plain = await chat({ tools: [weather] });
  expect(plain.json.choices[0]).toMatchObject({
    finish_reason: 'stop',
    message: { content: 'It rains.' },
  });
});

it('refuses unsupported constraints by name, without asking vLLM', async () => {
  origin = await startVllmOrigin();
  const odd = { type: 'object', patternProperties: { a: {} } };
  const refused = await complete({
    response_format: { type: 'json_schema', json_schema: { name: 'x', schema: odd } },
  });
  expect([refused.status, refused.json.error.code]).toEqual([400, 'unsupported_parameter']);
  expect(refused.json.error.message).toContain('patternProperties');
  expect(origin.vllm.bodies).toEqual([]);
});

it('keeps a constrained answer in its slot, because vLLM restarts the form at each request', async () => {
  origin = await startVllmOrigin({ args: ['--max-loras', '1'], vllm: { context: 2_048 } });
  const long = `"${'a'.repeat(2 * TURN_TOKENS)}"`;
  origin.vllm.says = (body) => (body['structured_outputs'] === undefined ? null : long);
  const [held, other] = await Promise.all([
    complete({ guided_json: { type: 'string' } }),
    complete({ model: 'a1', max_tokens: 4 }),
  ]);
  expect(held.json.choices[0]!.text).toBe(long);
  expect(other.status).toBe(200);
  expect(origin.vllm.bodies.filter((body) => 'structured_outputs' in body)).toHaveLength(1);
});
