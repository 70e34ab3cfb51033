/** The engine over a stored base, in this worker. */
import { Engine } from '../../gpu-origin/engine/engine.ts';
import type { AdapterSource, Clock } from '../../gpu-origin/engine/ports.ts';
import { createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { createTokenizer, type Tokenizer } from '../../gpu-origin/model/create-tokenizer.ts';
import { TokenizerDefinitionJson } from '../../gpu-origin/model/tokenizer-definition.ts';
import type { PromptServices } from '../../gpu-origin/prompts/prompt.ts';
import { PromptQueue } from '../../gpu-origin/prompts/prompt-queue.ts';
import { tokenBytesOf } from '../../gpu-origin/prompts/token-text.ts';
import { nextTurn } from '../../gpu-origin/runtime/next-turn.ts';
import { HeldAnswers } from './held-answers.ts';
import { openRunnerHere, type RunnerHere, type RunnerHereParams } from './open-runner.ts';

/** For adapters, bytes: a rank-16 one on q and v of SmolLM2-135M takes 3.7 MB. */
const ADAPTER_BYTES = 256e6;
/** Answers that may wait for a row. */
const MAX_QUEUE = 64;

export interface EngineHere extends PromptServices, Omit<RunnerHere, 'runner'> {
  engine: Engine;
  tokenizer: Tokenizer;
  /** What answers are held to. */
  held: Pick<HeldAnswers, 'prepare'>;
  close(): Promise<void>;
}

export interface EngineHereParams extends RunnerHereParams {
  /** Of adapters' files. */
  source: AdapterSource;
}

const clock: Clock = {
  now: () => performance.now(),
  timer(ms, callback) {
    const timer = setTimeout(callback, ms);
    return () => clearTimeout(timer);
  },
  yield: nextTurn,
};

/** @throws GraftError `runtime_unavailable` */
export async function openEngineHere(params: EngineHereParams): Promise<EngineHere> {
  const { base, source, onProgress } = params;
  const step = (done: number): void => onProgress({ stage: 'runtime', done, total: 3 });
  step(0);
  const definition = TokenizerDefinitionJson.parse(JSON.parse(base.text('tokenizer.json')));
  const tokenizer = createTokenizer(definition);
  const { runner, ...opened } = await openRunnerHere(params);
  const chatTemplate = createChatTemplate(tokenizer);
  const { runtimeUrl, rows } = params;
  const held = new HeldAnswers({
    ...{ runtimeUrl, tokenizer, chatTemplate, rows, vocabSize: runner.vocabSize },
  });
  const engine = new Engine({
    ...{ runner, masks: held, source, clock, random: Math.random, maxQueue: MAX_QUEUE },
    tokens: tokenBytesOf(tokenizer),
    eosTokenIds: tokenizer.eosIds,
    adapterBudgetBytes: ADAPTER_BYTES,
  });
  step(3);
  return {
    ...{ ...opened, engine, tokenizer, held, chatTemplate, base: runner.base },
    prompts: new PromptQueue(clock),
    async close() {
      await engine.close();
      await held.close();
      await runner.close();
    },
  };
}
