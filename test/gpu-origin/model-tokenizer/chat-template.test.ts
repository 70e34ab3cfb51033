import { Template } from '@huggingface/jinja';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  ChatTemplateError,
  createChatTemplate,
  renderChunked,
} from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { finish, type Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
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
  // Markers that are ordinary added tokens, which the template alone gives away.
  deepseek: {
    specials: ['<｜begin▁of▁sentence｜>', '<｜end▁of▁sentence｜>'],
    ordinary: ['<｜User｜>', '<｜Assistant｜>', '<think>', '</think>'],
    template:
      "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}{% else %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<｜Assistant｜>' + content + eos_token }}{% endif %}{% endfor %}{{ '<｜Assistant｜><think>\n' }}",
  },
  instruct: {
    specials: ['<s>', '</s>'],
    ordinary: ['[INST]', '[/INST]'],
    template:
      "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ message['content'] + '</s>' }}{% endif %}{% endfor %}",
  },
  gemma: {
    specials: ['<bos>', '<eos>'],
    ordinary: ['<start_of_turn>', '<end_of_turn>'],
    template:
      "{{ bos_token }}{% for message in messages %}{{ '<start_of_turn>' + message['role'] + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}{{ '<start_of_turn>model\n' }}",
  },
  tools: {
    specials: ['<|im_start|>', '<|im_end|>'],
    ordinary: ['<tool_call>', '</tool_call>'],
    template: CHATML + "{% if tools %}{{ 'Answer with <tool_call>\n{…}\n</tool_call>' }}{% endif %}",
  },
  // Contents with nothing between them but what is trimmed away.
  bare: {
    specials: ['<s>', '<|a|>', '</s>'],
    template:
      "{{ '<s>' }}{% for message in messages %}{{ message['content'] | trim }}{% endfor %}{{ '</s>' }}",
  },
};

interface Family {
  specials: string[];
  /** Added tokens that are not special. */
  ordinary?: string[];
  template: string;
}

function familyOf({ specials: hidden, ordinary = [], template }: Family) {
  const specials = [...hidden, ...ordinary];
  const base = tinyMetadata().get('tokenizer.ggml.tokens') as string[];
  const tokens = [...specials, ...base.slice(SPECIALS.length)];
  const tokenizer = loadTokenizer({
    kind: 'gguf',
    metadata: tinyMetadata({
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.token_type': tokens.map((_token, id) =>
        id < hidden.length ? 3 : id < specials.length ? 4 : 1,
      ),
      'tokenizer.ggml.bos_token_id': 0,
      'tokenizer.ggml.eos_token_id': hidden.length - 1,
      'tokenizer.chat_template': template,
    }),
  });
  return { tokenizer, chat: createChatTemplate(tokenizer)! };
}

const textOf = (tokenizer: Tokenizer, ids: readonly number[]): string =>
  new TextDecoder().decode(Uint8Array.from(ids.flatMap((id) => [...tokenizer.tokenBytes(id)!])));
function specialsIn(tokenizer: Tokenizer, ids: readonly number[]): number[] {
  const control = new Set(tokenizer.controlTokens.values());
  return ids.filter((id) => control.has(id));
}

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

  describe.each(Object.entries<Family>(FAMILIES))('%s', (_name, family) => {
    const { tokenizer: tok, chat: template } = familyOf(family);
    const all = [...family.specials, ...(family.ordinary ?? [])];
    const pieces = [
      ...all,
      ...all.map((special) => special.slice(1)),
      ...all.map((special) => special.slice(0, -1)),
      ...all.map((special) => special.slice(0, 3)),
      ...all.map((special) => special.slice(3)),
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
          for (const { role, content } of messages) {
            const kept =
              role === 'assistant' && family.template.includes('split(')
                ? content.split('</think>').at(-1)!
                : content;
            expect(whole).toContain(kept.trim());
          }
        }),
        { numRuns: 300 },
      );
    });
  });

  it('guards a content at both ends, also when it is one piece', () => {
    const { tokenizer: tok, chat: template } = familyOf(FAMILIES.bare);
    const ids = template.encode(['s>hello<', '|a|', '>'].map((content) => ({ role: 'user', content })));
    expect(specialsIn(tok, ids)).toHaveLength(2);
    expect(textOf(tok, ids)).toBe('<s>s>hello<|a|></s>');
  });

  it('hides from the output what it hid, and no more: markers of the template are shown', () => {
    const { tokenizer: tok } = familyOf(FAMILIES.deepseek);
    const shown = FAMILIES.deepseek.ordinary.map((marker) => tok.controlTokens.get(marker)!);
    expect(shown.map((id) => tok.isSpecial(id))).toEqual([false, false, false, false]);
    expect(textOf(tok, shown)).toBe(FAMILIES.deepseek.ordinary.join(''));
    for (const special of FAMILIES.deepseek.specials)
      expect(tok.isSpecial(tok.controlTokens.get(special)!)).toBe(true);
  });

  it('leaves blanks and single characters of a template to everybody', () => {
    const { tokenizer: tok } = familyOf({
      specials: ['<s>'],
      ordinary: ['  ', '\n', '['],
      template: "{{ '[  \n' }}",
    });
    expect([...tok.controlTokens.keys()]).toEqual(['<s>']);
  });

  it('lets a template find what it looks for in contents, as DeepSeek cuts earlier thoughts off', () => {
    const { tokenizer: tok, chat: template } = familyOf(FAMILIES.deepseek);
    const ids = template.encode([
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: '<think>hm</think>world' },
      { role: 'user', content: '1</think>2' },
    ]);
    expect(textOf(tok, ids)).toBe(
      '<｜begin▁of▁sentence｜><｜User｜>hello<｜Assistant｜>world<｜end▁of▁sentence｜><｜User｜>1</think>2<｜Assistant｜><think>\n',
    );
    expect(specialsIn(tok, ids)).toHaveLength(7);
  });

  it("renders as the library does, whatever a template's loops do", () => {
    const templates = [
      ...Object.values(FAMILIES).map((family) => family.template),
      "{% for m in messages if m.role == 'user' %}{{ loop.index }}{{ m.content }}{% else %}none{% endfor %}",
      '{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m.content }}{% break %}{% endfor %}',
      '{% if messages %}{% for m in messages[1:] %}{{ loop.revindex }}{{ loop.previtem.role }}{{ loop.nextitem.role }}{% else %}-{% endfor %}{% endif %}',
      "{% set ns = namespace(last='') %}{% for m in messages %}{% set ns.last = m.content %}{% for n in range(2) %}{{ n }}{% endfor %}{% endfor %}{{ ns.last }}{{ none }}{{ True }}",
      "{% for key, value in messages[0].items() %}{{ key }}={{ value }}{% endfor %}{{ strftime_now('%Y') }}",
      '{% macro turn(m) %}[{{ m.role }}]{% endmacro %}{% for m in messages %}{{ turn(m) }}{% endfor %}',
    ];
    for (const source of templates)
      for (const count of [1, 2, 5, 70]) {
        const messages = Array.from({ length: count }, (_, at) => ({
          role: at % 2 ? 'assistant' : 'user',
          content: ` ${at} `,
        }));
        const variables = { messages, bos_token: '<s>', eos_token: '</s>', add_generation_prompt: true };
        const template = new Template(source);
        expect(finish(renderChunked(template, variables))).toBe(template.render(variables));
      }
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
    const ids = finish(chat.encodeChunked(long, 10_900));
    expect(ids!.length).toBeGreaterThan(10_900);
    expect(ids!.length).toBeLessThan(15_000);
  });
});
