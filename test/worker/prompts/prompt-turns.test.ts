import { describe, expect, it } from 'vitest';
import { MAX_KEPT_TEXT } from '../../../protocol/index.ts';
import { promptTurns } from '../../../worker/prompts/prompt-turns.ts';

const of = (request: object) => promptTurns(request).prompt.map(({ role, text }) => `${role}: ${text}`);

describe('promptTurns', () => {
  it.each([
    ['a prompt', { prompt: 'once' }, ['user: once']],
    ['several prompts', { prompt: ['a', 'b'] }, ['user: a', 'user: b']],
    ['tokens', { prompt: [1, 2] }, ['user: [1,2]']],
    ['inputs of embeddings', { input: ['a', 'b'] }, ['user: a', 'user: b']],
    [
      'a chat with calls',
      {
        tools: [{ type: 'function', function: { name: 'f' } }],
        messages: [
          {
            role: 'user',
            content: [
              { type: 'text', text: 'hi' },
              { type: 'image_url', image_url: { url: 'u' } },
            ],
          },
          {
            role: 'assistant',
            content: null,
            tool_calls: [{ id: '1', function: { name: 'f', arguments: '{}' } }],
          },
          { role: 'tool', tool_call_id: '1', content: 'done' },
        ],
      },
      [
        'tools: [{"type":"function","function":{"name":"f"}}]',
        'user: hi\n{"type":"image_url","image_url":{"url":"u"}}',
        'assistant: f {}',
        'tool: done',
      ],
    ],
    [
      'messages',
      {
        system: [{ type: 'text', text: 'S' }],
        messages: [
          { role: 'assistant', content: [{ type: 'tool_use', id: '1', name: 'f', input: { a: 1 } }] },
          { role: 'user', content: [{ type: 'tool_result', tool_use_id: '1', content: 'done' }] },
        ],
      },
      ['system: S', 'assistant: f {"a":1}', 'user: done'],
    ],
    [
      'a response',
      {
        instructions: 'I',
        input: [
          { role: 'user', content: [{ type: 'input_text', text: 'hi' }] },
          { type: 'function_call', call_id: '1', name: 'f', arguments: '{}' },
          { type: 'function_call_output', call_id: '1', output: 'done' },
        ],
      },
      ['system: I', 'user: hi', 'assistant: f {}', 'tool: done'],
    ],
  ])('reads %s', (_, request, turns) => {
    expect(of(request)).toEqual(turns);
  });

  it('keeps the last messages of a long prompt, and says that it is cut', () => {
    const message = (content: string) => ({ role: 'user', content });
    const last = 'z'.repeat(MAX_KEPT_TEXT - 4);
    const { prompt, prompt_cut: cut } = promptTurns({
      messages: [message('first'), message('second'), message(last)],
    });
    expect([prompt.map(({ text }) => text), cut]).toEqual([['seco', last], true]);
    const exact = promptTurns({ messages: [message('1234'), message(last)] });
    expect([exact.prompt.length, exact.prompt_cut]).toEqual([2, false]);
    expect(promptTurns({ prompt: 'x'.repeat(MAX_KEPT_TEXT + 1) }).prompt[0]?.text).toHaveLength(
      MAX_KEPT_TEXT,
    );
  });
});
