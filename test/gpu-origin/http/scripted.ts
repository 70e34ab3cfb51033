/** A model that wants to say a given text; constraints may make it say another. */
import { loadTokenizer } from '../../../gpu-origin/model/load-tokenizer.ts';
import type { FakeRunnerOptions } from '../fake-runner.ts';
import { tinyMetadata } from '../model-tokenizer/tiny-tokenizer.ts';

const tokenizer = loadTokenizer({ kind: 'gguf', metadata: tinyMetadata() });
const START = tokenizer.controlTokens.get('<|im_start|>')!;
const END = tokenizer.eosIds[0]!;
const ROLE = tokenizer.encode('assistant\n', { allowSpecial: false });

/** @param answers by a part of the prompt; the first match is used. */
export function saying(answers: readonly (readonly [prompt: string, answer: string])[]): FakeRunnerOptions {
  const scripts = answers.map(([prompt, answer]) => ({
    prompt,
    ids: [...tokenizer.encode(answer, { allowSpecial: false }), END],
  }));
  let last: { tokens: readonly number[]; length: number; next: number } | null = null;
  const nextOf = (tokens: readonly number[]): number => {
    const turn = tokens.lastIndexOf(START) + 1 + ROLE.length;
    const bytes = tokens.slice(0, turn).flatMap((id) => [...(tokenizer.tokenBytes(id) ?? [])]);
    const prompt = new TextDecoder().decode(Uint8Array.from(bytes));
    const script = scripts.find((one) => prompt.includes(one.prompt));
    return script?.ids[tokens.length - turn] ?? END;
  };
  return {
    context: 8_192,
    logit(id, tokens) {
      if (last?.tokens !== tokens || last.length !== tokens.length)
        last = { tokens, length: tokens.length, next: nextOf(tokens) };
      return id === last.next ? 20 : id === END ? 1 : -(id % 7);
    },
  };
}
