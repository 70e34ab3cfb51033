import { describe, expect, it } from 'vitest';
import { createChatTemplate, toolsOfTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import { CHATML, tinyMetadata } from './tiny-tokenizer.ts';

describe('how a template writes calls', () => {
  const loop = '{% for call in message.tool_calls %}';
  const given = '{% if tools %}';
  it.each([
    ['one without tools', CHATML, { format: 'hermes', native: false }],
    [
      'Qwen 2.5',
      `${given}{{ '<tool_call>\\n{\\"name\\": <function-name>, \\"arguments\\": <args-json-object>}\\n</tool_call>' }}${loop}`,
      { format: 'hermes', native: true },
    ],
    [
      'Hermes 3',
      `${given}<tool_call>\n{"name": <function-name>, "arguments": <args-dict>}\n</tool_call>${loop}`,
      { format: 'hermes', native: true },
    ],
    [
      'Qwen3-Coder: XML within the same tags',
      `${given}<tool_call>\n<function=name>\n<parameter=city>\nRome\n</parameter></function>\n</tool_call>${loop}`,
      { format: 'hermes', native: false },
    ],
    [
      'GLM 4: keys and values within the same tags',
      `${given}<tool_call>name\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>${loop}`,
      { format: 'hermes', native: false },
    ],
    [
      'Llama 3',
      `${given}{"name": function name, "parameters": dictionary}${loop}{% if message.role == "ipython" %}`,
      { format: 'json', native: true },
    ],
    ['Mistral', `${given}[TOOL_CALLS]${loop}`, { format: 'hermes', native: false }],
  ])('%s', (_family, source, want) => expect(toolsOfTemplate(source)).toEqual(want));
});

it('has tools and documents as none where none are given, as transformers has', () => {
  const source =
    "{% if tools is not none and tools|length > 0 %}tools{% endif %}{% if documents is none %}{{ messages[0]['content'] }}{% endif %}";
  const tokenizer = loadTokenizer({
    kind: 'gguf',
    metadata: tinyMetadata({ 'tokenizer.chat_template': source }),
  });
  const ids = createChatTemplate(tokenizer)!.encode([{ role: 'user', content: 'hello' }]);
  expect(ids).toEqual(tokenizer.encode('hello', { allowSpecial: false }));
});
