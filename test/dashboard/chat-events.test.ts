import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createChatReader, type ChatEvent } from '../../dashboard/model/chat-events.ts';

const delta = (content: string | null): string =>
  `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }], usage: null })}`;
const read = (...pieces: string[]): ChatEvent[] => pieces.flatMap(createChatReader());

it.each<[string, string, ChatEvent[]]>([
  ['text', `${delta('a\n b')}\n\n`, [{ kind: 'text', text: 'a\n b' }]],
  ['no text', `${delta('')}\n\n${delta(null)}\n\ndata: {"choices":[{"delta":{}}]}\n\n`, []],
  ['what is without a space', 'data:[DONE]\n\n', [{ kind: 'done' }]],
  ['one event of two lines', 'data: {"choices":\ndata: []}\n\n', []],
  ['a comment', ': ping\n\n', []],
  ['an event that has not ended', `${delta('a')}\n`, []],
  [
    'usage, which has no choices',
    'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":7,"total_tokens":10}}\n\n',
    [{ kind: 'usage', tokens: 7 }],
  ],
])('reads %s', (_what, text, expected) => {
  expect(read(text)).toEqual(expected);
});

it('reads an error within the stream as a problem', () => {
  const error = { message: 'It is gone.', type: 'server_error', param: null, code: 'adapter_unavailable' };
  expect(read(`${delta('a')}\n\ndata: ${JSON.stringify({ error })}\n\n`)).toMatchObject([
    { kind: 'text', text: 'a' },
    { kind: 'problem', problem: { code: 'adapter_unavailable', message: 'It is gone.' } },
  ]);
  expect(read('data: {\n\n')).toMatchObject([{ kind: 'problem', problem: { code: 'odd_answer' } }]);
});

it('reads the same however the stream is split, with either line ending', () => {
  const texts = fc.array(fc.string({ unit: 'grapheme', minLength: 1 }), { maxLength: 4 });
  const cuts = fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 5 });
  fc.assert(
    fc.property(texts, cuts, fc.constantFrom('\n', '\r\n'), (words, sizes, newline) => {
      const lines = [': ping', ...words.map(delta), 'data: [DONE]'];
      const whole = lines.map((line) => line + newline + newline).join('');
      const pieces: string[] = [];
      for (let at = 0; at < whole.length; at += pieces.at(-1)?.length ?? 0)
        pieces.push(whole.slice(at, at + (sizes[pieces.length % sizes.length] ?? 1)));
      expect(read(...pieces)).toEqual([...words.map((text) => ({ kind: 'text', text })), { kind: 'done' }]);
    }),
  );
});

it('reads log-probabilities, and distinguishes parts of a character by their bytes', () => {
  const top = (bytes: number[] | null, logprob: number) => ({ token: '\ufffd', bytes, logprob });
  const content = [{ ...top([240, 159], -0.5), top_logprobs: [top([240, 159], -0.5), top(null, -2)] }];
  const chunk = { choices: [{ delta: { content: '' }, logprobs: { content, refusal: null } }] };
  expect(read(`data: ${JSON.stringify(chunk)}\n\n`)).toEqual([
    {
      kind: 'scores',
      scores: [
        {
          token: '240 159',
          top: [
            { token: '240 159', logprob: -0.5 },
            { token: '\ufffd', logprob: -2 },
          ],
        },
      ],
    },
  ]);
});
