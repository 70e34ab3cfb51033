/** What an undisturbed origin answers at temperature 0: a function of the prompt and the chain alone. */
import { createChatTemplate, type ChatTemplate } from '../../../gpu-origin/model/chat-template.ts';
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import type { Tokenizer } from '../../../gpu-origin/model/tokenizer.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import { fillWithHash } from '../../gpu-origin/fake-runner.ts';
import { tinyMetadata } from '../../gpu-origin/model-tokenizer/tiny-tokenizer.ts';

const FORBIDDEN = -100;
/** So much less likely is the end, so that answers take some hundred tokens unless they are limited. */
const END_LATER = 0.7;

/** Leaves only letters and the end to choose from, so that answers are text. @returns the same array, changed. */
export function onlyLetters(tokenizer: Tokenizer): (logits: Float32Array) => Float32Array {
  const allowed = Array.from({ length: tokenizer.size }, (_, id) => {
    const bytes = tokenizer.tokenBytes(id);
    return (
      tokenizer.eosIds.includes(id) ||
      (bytes?.length === 1 && /[a-z]/.test(String.fromCharCode(bytes[0] as number)))
    );
  });
  return (logits) => {
    for (let at = 0; at < logits.length; at += 1)
      if (!(allowed[at % tokenizer.size] as boolean)) logits[at] = FORBIDDEN;
      else if (tokenizer.eosIds.includes(at % tokenizer.size))
        logits[at] = (logits[at] as number) - END_LATER;
    return logits;
  };
}

export interface Expected {
  text: string;
  tokens: number;
  promptTokens: number;
}

export function createOracle(): {
  answer(params: { content: string; chain: readonly ChainEntry[]; maxTokens: number }): Expected;
} {
  const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
  const template = createChatTemplate(tokenizer) as ChatTemplate;
  const letters = onlyLetters(tokenizer);
  const decoder = new TextDecoder();
  return {
    answer({ content, chain, maxTokens }) {
      const tokens = template.encode([{ role: 'user', content }]);
      const promptTokens = tokens.length;
      const delta = chain
        .filter(({ scale }) => scale !== 0)
        .map(({ digest, scale }) => `${digest}*${scale}`)
        .join('+');
      const logits = new Float32Array(tokenizer.size);
      const made: number[] = [];
      let count = 0;
      while (count < maxTokens) {
        fillWithHash(logits, delta, tokens);
        letters(logits);
        let best = 0;
        for (let id = 1; id < logits.length; id += 1)
          if ((logits[id] as number) > (logits[best] as number)) best = id;
        count += 1;
        if (tokenizer.eosIds.includes(best)) break;
        tokens.push(best);
        made.push(best);
      }
      const bytes = made.flatMap((id) => [...(tokenizer.tokenBytes(id) ?? [])]);
      return { text: decoder.decode(Uint8Array.from(bytes)), tokens: count, promptTokens };
    },
  };
}
