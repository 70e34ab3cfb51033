/** Which chat a conversation of Anthropic's API means. */
import { describe, expect, it } from 'vitest';
import { countedToChat, type MessagesInput } from '../../protocol/messages.ts';

function chatOf(...messages: MessagesInput[]) {
  const chat = countedToChat({ model: 'notes', messages });
  if (!chat.ok) throw new Error(chat.error.message);
  const { messages: turns, continue_final_message: goesOn } = chat.value.request;
  return { turns: turns.map(({ role, content }) => [role, content]), goesOn: goesOn ?? false };
}

const user = (content: MessagesInput['content']): MessagesInput => ({ role: 'user', content });
const assistant = (content: MessagesInput['content']): MessagesInput => ({ role: 'assistant', content });
const text = (of: string) => ({ type: 'text' as const, text: of });
const result = (id: string, content: string | null, more: { is_error?: boolean } = {}) => ({
  ...{ type: 'tool_result' as const, tool_use_id: id, content },
  ...more,
});
const call = (id: string) => ({ type: 'tool_use' as const, id, name: 'look', input: {} });

describe('turns', () => {
  it('keep alternating turns', () => {
    expect(chatOf(user('Hi'), assistant('Yes?'), user('Go on')).turns).toEqual([
      ['user', 'Hi'],
      ['assistant', 'Yes?'],
      ['user', 'Go on'],
    ]);
  });

  it('join consecutive ones of one role as paragraphs', () => {
    expect(
      chatOf(user('Here is a letter.'), user([text('Dear '), text('all')]), assistant('Yes?')).turns,
    ).toEqual([
      ['user', 'Here is a letter.\n\nDear all'],
      ['assistant', 'Yes?'],
    ]);
    expect(chatOf(user('Two lines'), assistant('One'), assistant('Two'))).toEqual({
      turns: [
        ['user', 'Two lines'],
        ['assistant', 'One\n\nTwo'],
      ],
      goesOn: true,
    });
  });

  it('add no paragraph for an empty one', () => {
    expect(chatOf(user(''), user('Hi'), user([])).turns).toEqual([['user', 'Hi']]);
  });

  it('put results before texts, whatever the number of messages', () => {
    const asked = [user('Look twice'), assistant([call('a')]), assistant([text('and'), call('b')])];
    const answered = [user([result('a', 'A')]), user([result('b', 'B'), text('Well?')])];
    const chat = countedToChat({ model: 'notes', messages: [...asked, ...answered] });
    expect(chat.ok && chat.value.request.messages).toMatchObject([
      { role: 'user', content: 'Look twice' },
      { role: 'assistant', content: 'and', tool_calls: [{ id: 'a' }, { id: 'b' }] },
      { role: 'tool', tool_call_id: 'a', content: 'A' },
      { role: 'tool', tool_call_id: 'b', content: 'B' },
      { role: 'user', content: 'Well?' },
    ]);
  });
});

it.each([
  { is_error: true, content: null, becomes: 'error' },
  { is_error: true, content: '', becomes: 'error' },
  { is_error: true, content: 'No such file', becomes: 'No such file' },
  { is_error: false, content: null, becomes: '' },
])('a result of $content with is_error $is_error is "$becomes"', ({ is_error, content, becomes }) => {
  const { turns } = chatOf(user('Look'), assistant([call('a')]), user([result('a', content, { is_error })]));
  expect(turns.at(-1)).toEqual(['tool', becomes]);
});
