import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MAX_KEPT_TEXT } from '../../../protocol/admin-api/prompts.ts';
import { promptTurns, AnswerGatherer } from '../../../worker/prompts/keep-prompts.ts';
import { MAX_HEARD_BYTES, MAX_HEARD_LINE } from '../../../worker/prompts/limits.ts';

const of = (request: object) => promptTurns(request).prompt.map(({ role, text }) => `${role}: ${text}`);

describe('promptTurns', () => {
  it.each([
    ['a prompt', { prompt: 'once' }, ['user: once']],
    ['several prompts', { prompt: ['a', 'b'] }, ['user: a', 'user: b']],
    ['tokens', { prompt: [1, 2] }, ['user: [1,2]']],
    ['inputs of embeddings', { input: ['a', 'b'] }, ['user: a', 'user: b']],
    ['pairs', { text_1: ['a'], text_2: ['b', 'c'] }, ['query: a', 'document: b', 'document: c']],
    ['documents', { query: 'a', documents: ['b', 'c'] }, ['query: a', 'document: b', 'document: c']],
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

it('promptTurns keeps the query and the first documents, and the first texts, as answers name them', () => {
  const half = 'z'.repeat(MAX_KEPT_TEXT / 2);
  const reranked = promptTurns({ query: 'first', documents: [half, half, 'last'] });
  expect(reranked.prompt.map(({ role, text }) => [role, text.length])).toEqual([
    ['query', 5],
    ['document', half.length],
    ['document', half.length - 5],
  ]);
  const classified = promptTurns({ input: [half, half, 'last'] });
  expect([reranked.prompt_cut, classified.prompt_cut, classified.prompt.length]).toEqual([true, true, 2]);
});

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const frame = (payload: unknown): string => `data: ${JSON.stringify(payload)}\n\n`;
const text = (content: string, index = 0) => ({ choices: [{ index, delta: { content } }] });

function heard(stream: boolean, ...chunks: (string | Uint8Array)[]) {
  const gatherer = new AnswerGatherer(stream);
  for (const chunk of chunks) gatherer.push(typeof chunk === 'string' ? bytes(chunk) : chunk);
  return gatherer.answer();
}

describe('AnswerGatherer', () => {
  it.each([
    [
      'classes',
      {
        data: [
          { index: 1, label: 'no', probs: [0.75, 0.25], num_classes: 2 },
          { index: 0, label: 'yes', probs: [0.1, 0.90001], num_classes: 2 },
        ],
      },
      ['yes 0.9', 'no 0.75'],
    ],
    ['scores', { object: 'list', data: [{ index: 0, object: 'score', score: -4.56789 }] }, ['-4.568']],
    [
      'documents, the most relevant first',
      {
        results: [
          { index: 2, relevance_score: 0.9, document: { text: 'c' } },
          { index: 0, relevance_score: 0.1 },
        ],
      },
      ['document 3: 0.9', 'document 1: 0.1'],
    ],
  ])('reads %s, and marks them', (_, answer, answers) => {
    expect(heard(false, JSON.stringify(answer))).toEqual({ answers, answers_cut: false, classes: true });
  });

  it('finds the same however a stream is cut into chunks', () => {
    const whole = bytes(
      ['é', '🐟', 'a', 'data: no', '\n'].map((one) => frame(text(one))).join('') + 'data: [DONE]\n\n',
    );
    fc.assert(
      fc.property(fc.array(fc.nat(whole.length), { maxLength: 8 }), (cuts) => {
        const places = [0, ...cuts.sort((a, b) => a - b), whole.length];
        const chunks = places.slice(1).map((end, i) => whole.subarray(places[i], end));
        expect(heard(true, ...chunks)).toEqual({ answers: ['é🐟adata: no\n'], answers_cut: false });
      }),
    );
  });

  it('keeps choices apart, and calls on lines of their own', () => {
    const call = (name: string | undefined, given: string) => ({
      choices: [{ index: 1, delta: { tool_calls: [{ index: 0, function: { name, arguments: given } }] } }],
    });
    expect(
      heard(
        true,
        frame(text('b', 1)),
        frame(text('a')),
        frame(call('look', '{"a"')),
        frame(call(undefined, ':1}')),
      ),
    ).toEqual({ answers: ['a', 'b\nlook {"a":1}'], answers_cut: false });
  });

  it.each([
    ['text', { choices: [{ index: 0, text: 'said' }] }, ['said']],
    [
      'a call',
      {
        choices: [
          {
            index: 0,
            message: { content: null, tool_calls: [{ function: { name: 'f', arguments: '{}' } }] },
          },
        ],
      },
      ['f {}'],
    ],
    [
      'a message',
      { type: 'message', content: [{ type: 'tool_use', id: 'x', name: 'f', input: { a: 1 } }] },
      ['f {"a":1}'],
    ],
    ['a response', { output: [{ content: [{ text: 'x' }] }, { name: 'f', arguments: '{}' }] }, ['x\nf {}']],
    ['nothing', { object: 'list' }, null],
  ])('reads %s that came whole', (_, body, answers) => {
    expect(heard(false, JSON.stringify(body)).answers).toEqual(answers);
  });

  it('cuts what is long, not in the middle of a character, and says so', () => {
    const exact = 'x'.repeat(MAX_KEPT_TEXT - 1);
    expect(heard(true, frame(text(exact)), frame(text('y')))).toMatchObject({ answers_cut: false });
    expect(heard(true, frame(text(exact)), frame(text('🐟')), frame(text('z')))).toEqual({
      answers: [exact],
      answers_cut: true,
    });
  });

  it('holds no more than a line of a stream, and nothing of an answer that is too long', () => {
    const echo = `data: ${'x'.repeat(MAX_HEARD_LINE + 1)}`;
    expect(heard(true, echo, 'yy', '\n\n', frame(text('after')))).toEqual({
      answers: ['after'],
      answers_cut: false,
    });
    expect(heard(false, '{"choices":[', 'x'.repeat(MAX_HEARD_BYTES))).toEqual({
      answers: null,
      answers_cut: true,
    });
  });
});
