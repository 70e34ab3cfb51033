import { describe, expect, it } from 'vitest';
import { AnswerCopy, answerTexts } from '../../../worker/experiments/run-shadow.ts';

const stream = (...events: unknown[]): string =>
  `: alive\n\n${events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('')}data: [DONE]\n\n`;
const chunk = (index: number, delta: object) => ({ choices: [{ index, delta, finish_reason: null }] });
const response = (text: string) => ({
  object: 'response',
  output: [{ type: 'message', content: [{ type: 'output_text', text, annotations: [] }] }],
});

describe('the texts of an answer', () => {
  it('are found in every kind of whole answer', () => {
    const message = (index: number, content: string) => ({ index, message: { role: 'assistant', content } });
    const whole = (value: unknown) => answerTexts(JSON.stringify(value), false);
    expect(whole({ choices: [message(1, 'b'), message(0, 'a')] })).toEqual(['a', 'b']);
    expect(whole({ choices: [{ index: 0, text: 'once' }] })).toEqual(['once']);
    expect(whole(response('hello'))).toEqual(['hello']);
    const content = [
      { type: 'text', text: 'so' },
      { type: 'tool_use', name: 'f' },
      { type: 'text', text: '.' },
    ];
    expect(whole({ type: 'message', role: 'assistant', content })).toEqual(['so.']);
  });

  it('are put together of every kind of events', () => {
    const chat = [
      chunk(0, { role: 'assistant', content: '' }),
      chunk(1, { content: 'c' }),
      chunk(0, { content: 'a ' }),
      chunk(0, { content: 'b' }),
      chunk(0, {}),
      { choices: [], usage: { total_tokens: 3 } },
    ];
    expect(answerTexts(stream(...chat), true)).toEqual(['a b', 'c']);
    const text = (piece: string) => ({ choices: [{ index: 0, text: piece }] });
    expect(answerTexts(stream(text('on'), text('ce')), true)).toEqual(['once']);
    const block = (delta: object) => ({ type: 'content_block_delta', index: 0, delta });
    const message = [
      { type: 'message_start', message: { type: 'message', content: [] } },
      block({ type: 'text_delta', text: 'on' }),
      block({ type: 'input_json_delta', partial_json: '{' }),
      block({ type: 'text_delta', text: 'ce' }),
      { type: 'message_stop' },
    ];
    expect(answerTexts(stream(...message), true)).toEqual(['once']);
    for (const type of ['response.completed', 'response.incomplete'])
      expect(
        answerTexts(
          stream(
            { type: 'response.created', response: { ...response(''), output: [] } },
            { type: 'response.output_text.delta', delta: 'hel' },
            { type, response: response('hello') },
          ),
          true,
        ),
      ).toEqual(['hello']);
  });

  it('may be empty, which is not the same as none', () => {
    expect(answerTexts(stream(chunk(0, { role: 'assistant' }), chunk(0, {})), true)).toEqual(['']);
    expect(answerTexts(stream({ type: 'response.created' }), true)).toBeNull();
    expect(answerTexts('{"ok":true}', false)).toBeNull();
    expect(answerTexts('', true)).toBeNull();
  });

  it('are not there in what is no JSON, about which nothing is said', () => {
    for (const odd of ['{"choices":[{"index":0,"te', 'secret', ''])
      expect(answerTexts(odd, false)).toBeNull();
    expect(answerTexts('data: secret\n\n', true)).toBeNull();
  });
});

describe('the copy of an answer', () => {
  const of = (text: string) => new TextEncoder().encode(text);

  it('is what went by, whatever becomes of the pieces', () => {
    const copy = new AnswerCopy(6);
    const piece = of('abc');
    copy.push(piece);
    piece.fill(0);
    copy.push(of('def'));
    expect(copy.bytes()).toEqual(of('abcdef'));
  });

  it('is none of what is longer than its limit, or was forgotten', () => {
    const copy = new AnswerCopy(6);
    copy.push(of('abcdef'));
    copy.push(of('g'));
    copy.push(of('h'));
    expect(copy.bytes()).toBeNull();
    const other = new AnswerCopy(6);
    other.push(of('abc'));
    other.forget();
    other.push(of('d'));
    expect(other.bytes()).toBeNull();
  });
});
