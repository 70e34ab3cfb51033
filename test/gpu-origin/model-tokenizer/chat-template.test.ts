import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ChatTemplateError, createChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer, type Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import { finish } from '../../../gpu-origin/model/tokenizer-steps.ts';
import { CHATML, SPECIALS, tinyMetadata } from './tiny-tokenizer.ts';

/** Abridged templates of four families: their specials, and what they do with contents (trim, look into, join). */
const FAMILIES = {
  chatml: { specials: SPECIALS, template: CHATML },
  llama3: {
    specials: ['<|begin_of_text|>', '<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'],
    template:
      "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
  },
  mistral: {
    specials: ['<s>', '[INST]', '[/INST]', '</s>'],
    template:
      "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + '</s>' }}{% endif %}{% endfor %}",
  },
  // Contents with nothing between them but what is trimmed away.
  bare: {
    specials: ['<s>', '<|a|>', '</s>'],
    template:
      "{{ '<s>' }}{% for message in messages %}{{ message['content'] | trim }}{% endfor %}{{ '</s>' }}",
  },
};

function familyOf({ specials, template }: { specials: string[]; template: string }) {
  const base = tinyMetadata().get('tokenizer.ggml.tokens') as string[];
  const tokens = [...specials, ...base.slice(SPECIALS.length)];
  const tokenizer = loadTokenizer({
    kind: 'gguf',
    metadata: tinyMetadata({
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.token_type': tokens.map((_token, id) => (id < specials.length ? 3 : 1)),
      'tokenizer.ggml.bos_token_id': 0,
      'tokenizer.ggml.eos_token_id': specials.length - 1,
      'tokenizer.chat_template': template,
    }),
  });
  return { tokenizer, chat: createChatTemplate(tokenizer)! };
}

const textOf = (tokenizer: Tokenizer, ids: readonly number[]): string =>
  new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => [...tokenizer.tokenBytes(id)!])));
const specialsIn = (tokenizer: Tokenizer, ids: readonly number[]): number[] =>
  ids.filter((id) => tokenizer.isSpecial(id));

/** The same cases every time. */
fc.configureGlobal({ seed: 20_261_125 });

describe('createChatTemplate', () => {
  const { tokenizer, chat } = familyOf(FAMILIES.chatml);

  it('encodes template and content together', () => {
    const ids = chat.encode([{ role: 'user', content: '\n\nhello' }]);
    expect(textOf(tokenizer, ids)).toBe('<|im_start|>user\n\n\nhello<|im_end|>\n<|im_start|>assistant\n');
    expect(specialsIn(tokenizer, ids)).toEqual([1, 2, 1]);
    const between = tokenizer.encode('user\n\n\nhello', { allowSpecial: false });
    expect(ids.slice(1, 1 + between.length)).toEqual(between);
  });

  describe.each(Object.entries(FAMILIES))('%s', (_name, family) => {
    const { tokenizer: tok, chat: template } = familyOf(family);
    const pieces = [
      ...family.specials,
      ...family.specials.map((special) => special.slice(1)),
      ...family.specials.map((special) => special.slice(0, -1)),
      ...family.specials.map((special) => special.slice(0, 3)),
      ...family.specials.map((special) => special.slice(3)),
      ' ',
      '\n',
      'hello',
      '\u{E000}',
      '\u{F0000}',
      '\u{E000}\u{F0001}',
      '|>',
      '<',
      '{{ bos_token }}',
      '你',
    ];
    const content = fc.array(fc.constantFrom(...pieces), { maxLength: 6 }).map((parts) => parts.join(''));
    const conversation = fc.array(fc.record({ role: fc.constantFrom('user', 'assistant'), content }), {
      minLength: 1,
      maxLength: 4,
    });

    it('never lets a content yield a control token, also split across messages', () => {
      fc.assert(
        fc.property(conversation, (messages) => {
          const harmless = messages.map(({ role }) => ({ role, content: 'x' }));
          expect(specialsIn(tok, template.encode(messages))).toEqual(
            specialsIn(tok, template.encode(harmless)),
          );
        }),
        { numRuns: 300 },
      );
    });

    it('keeps every character of the contents', () => {
      fc.assert(
        fc.property(conversation, (messages) => {
          const whole = textOf(tok, template.encode(messages));
          for (const message of messages) expect(whole).toContain(message.content.trim());
        }),
        { numRuns: 300 },
      );
    });
  });

  it("says what the template's own refusal says, and what does not parse", () => {
    const refusing = familyOf({
      specials: SPECIALS,
      template: "{{ raise_exception('roles must alternate') }}",
    });
    expect(() => refusing.chat.encode([])).toThrow(ChatTemplateError);
    expect(() => refusing.chat.encode([])).toThrow(/roles must alternate/);
    expect(() => familyOf({ specials: SPECIALS, template: '{% for %}' })).toThrow(ChatTemplateError);
  });

  it('is null where the base has none', () => {
    const plain = loadTokenizer({
      kind: 'gguf',
      metadata: tinyMetadata({ 'tokenizer.chat_template': undefined }),
    });
    expect(createChatTemplate(plain)).toBeNull();
  });

  it('stops soon after the limit', () => {
    const long = [{ role: 'user', content: 'a b '.repeat(12_000) }];
    const ids = finish(chat.encodeInSteps(long, 10_900));
    expect(ids!.length).toBeGreaterThan(10_900);
    expect(ids!.length).toBeLessThan(15_000);
  });
});
