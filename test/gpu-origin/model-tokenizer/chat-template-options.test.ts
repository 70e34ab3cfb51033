import { describe, expect, it } from 'vitest';
import {
  ChatTemplateError,
  createChatTemplate,
  type TemplateOptions,
} from '../../../gpu-origin/model/chat-template.ts';
import { finish } from '../../../gpu-origin/model/tokenizer.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { CHATML, tinyMetadata } from './tiny-tokenizer.ts';

const TRIMMING = CHATML.replace("message['content']", "message['content'] | trim");
const NAMING = CHATML.replace("message['role']", "message['name'] | default(message['role'])");
const THINKING =
  CHATML +
  "{% if enable_thinking is defined and not enable_thinking %}{{ '<|im_start|>' + note }}{% endif %}";

function textOf(
  template: string,
  messages: { role: string; content: string; name?: string }[],
  options: TemplateOptions,
): string {
  const tokenizer = loadTokenizer({
    kind: 'gguf',
    metadata: tinyMetadata({ 'tokenizer.chat_template': template }),
  });
  const ids = finish(createChatTemplate(tokenizer)!.encodeChunked(messages, 10_000, options))!;
  const decoder = new TextDecoder();
  // Control tokens in braces: a user's text of the same letters has none.
  return ids
    .map((id) => {
      const text = decoder.decode(tokenizer.tokenBytes(id)!);
      return tokenizer.isSpecial(id) ? `{${text}}` : text;
    })
    .join('');
}

const user = { role: 'user', content: 'hi' };
const begun = { role: 'assistant', content: 'Well, ' };

describe('chat templates', () => {
  it('open the next turn, or do not', () => {
    expect(textOf(CHATML, [user], {})).toBe('{<|im_start|>}user\nhi{<|im_end|>}\n{<|im_start|>}assistant\n');
    expect(textOf(CHATML, [user], { opensTurn: false })).toBe('{<|im_start|>}user\nhi{<|im_end|>}\n');
  });

  it.each([CHATML, TRIMMING])('go on with the last message: %#', (template) => {
    expect(textOf(template, [user, begun], { continuesLast: true })).toBe(
      '{<|im_start|>}user\nhi{<|im_end|>}\n{<|im_start|>}assistant\nWell, ',
    );
    expect(textOf(template, [user, { ...begun, content: '' }], { continuesLast: true })).toBe(
      '{<|im_start|>}user\nhi{<|im_end|>}\n{<|im_start|>}assistant\n',
    );
    // The same words before do not mislead it, and neither do control strings.
    expect(textOf(template, [begun, user, begun], { continuesLast: true })).toMatch(/assistant\nWell, $/);
    expect(textOf(template, [{ ...begun, content: 'a<|im_end|>' }], { continuesLast: true })).toMatch(
      /assistant\na<\|im_end\|>$/,
    );
  });

  it('say so when they do not show it', () => {
    const without = CHATML.replace("message['content']", "'x'");
    expect(() => textOf(without, [user, begun], { continuesLast: true })).toThrow(ChatTemplateError);
  });

  it('have the names of speakers, which are text', () => {
    expect(textOf(NAMING, [{ ...user, name: 'ann' }, user], { opensTurn: false })).toBe(
      '{<|im_start|>}ann\nhi{<|im_end|>}\n{<|im_start|>}user\nhi{<|im_end|>}\n',
    );
    expect(textOf(NAMING, [{ ...user, name: '<|im_end|>' }], { opensTurn: false })).toBe(
      '{<|im_start|>}<|im_end|>\nhi{<|im_end|>}\n',
    );
  });

  it('have variables, whose texts are text', () => {
    const opensTurn = false;
    const said = (variables: Record<string, unknown>) => textOf(THINKING, [user], { opensTurn, variables });
    expect(said({})).not.toMatch(/start\|>}$/);
    expect(said({ enable_thinking: true, note: 'x' })).not.toContain('x');
    expect(said({ enable_thinking: false, note: 'x' })).toMatch(/{<\|im_start\|>}x$/);
    expect(said({ enable_thinking: false, note: '<|im_end|>' })).toMatch(/{<\|im_start\|>}<\|im_end\|>$/);
    const listed = CHATML + '{% for one in notes %}{{ one.text }}{% endfor %}';
    const notes = [{ text: 'a' }, { text: '<|im_start|>' }];
    expect(textOf(listed, [user], { opensTurn, variables: { notes } })).toMatch(/\na<\|im_start\|>$/);
    // The conversation is the request's own.
    expect(said({ messages: [], bos_token: 'x' })).toContain('hi');
  });
});
