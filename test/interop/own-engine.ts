import { createRunner } from '../../gpu-origin/runtime/create-runner.ts';
import { argmax, prefillAll } from '../fixtures/tiny-runner.ts';
import { BASE_ID } from './exchange.ts';

export interface OwnEngine {
  /** `tokens` greedy tokens behind each prompt; the end of the turn does not end them. */
  answer(params: {
    bytes: Uint8Array<ArrayBuffer>;
    digest: string;
    prompts: readonly (readonly number[])[];
    tokens: number;
  }): Promise<number[][]>;
  close(): Promise<void>;
}

/** Our own origin's engine in float32, on the base that the others read. */
export async function startOwnEngine(params: { base: string; cacheDir: string }): Promise<OwnEngine> {
  const { runner } = await createRunner({
    basePath: params.base,
    baseId: BASE_ID,
    weights: 'f32',
    slots: 8,
    context: 512,
    cacheDir: params.cacheDir,
    onProgress: () => {},
    onNotice: (message) => console.log(message),
  });
  return {
    async answer({ bytes, digest, prompts, tokens }) {
      const delta = runner.compose([{ adapter: await runner.loadAdapter(bytes, digest), scale: 1 }]);
      const answers: number[][] = [];
      for (const [slot, prompt] of prompts.entries()) {
        runner.assign(slot, delta);
        answers.push([argmax((await prefillAll(runner, slot, prompt))[0]!)]);
      }
      for (let step = 1; step < tokens; step++) {
        const lengths = prompts.map((prompt) => prompt.length + step - 1);
        const logits = await runner.decode({ tokens: answers.map((answer) => answer.at(-1)!), lengths });
        answers.forEach((answer, slot) =>
          answer.push(argmax(logits.subarray(slot * runner.vocabSize, (slot + 1) * runner.vocabSize))),
        );
      }
      prompts.forEach((_, slot) => runner.release(slot));
      return answers;
    },
    close: () => runner.close(),
  };
}
