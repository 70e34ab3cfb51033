/** The tokenizer of simulated origins: a token a byte and a few more, with a chat template that knows tools. */
import { grammarTokens } from '../../../gpu-origin/grammar/ebnf.ts';
import type { GrammarTokens } from '../../../gpu-origin/grammar/ports.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import type { Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import { tinyMetadata } from '../../gpu-origin/model-tokenizer/tiny-tokenizer.ts';

/** Names functions without their schemas: a prompt with tools must leave room for an answer. */
const TEMPLATE = [
  "{% if tools %}{{ '<|im_start|>system\n' }}",
  "{% for tool in tools %}{{ tool['function']['name'] + ' ' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}",
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] }}",
  "{% if message['tool_calls'] %}{% for call in message['tool_calls'] %}",
  "{{ '<tool_call>\n{\"name\": \"' + call['function']['name'] + '\", \"arguments\": ' }}",
  "{{ call['function']['arguments'] | tojson }}{{ '}\n</tool_call>' }}{% endfor %}{% endif %}",
  "{{ '<|im_end|>\n' }}{% endfor %}",
  "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
].join('');

export const loadSimTokenizer = (): Tokenizer =>
  loadTokenizer({ kind: 'gguf', metadata: tinyMetadata({ 'tokenizer.chat_template': TEMPLATE }) });

export const grammarTokensOf = (tokenizer: Tokenizer): GrammarTokens =>
  grammarTokens(tokenizer, tokenizer.size);
