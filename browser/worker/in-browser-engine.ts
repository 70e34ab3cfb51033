/** The engine over a stored base, in this worker. */
import { Engine } from '../../gpu-origin/engine/engine.ts';
import type {
  AdapterSource,
  Grammar,
  GrammarMasks,
  MaskUpdate,
  RowGrammar,
} from '../../gpu-origin/engine/ports.ts';
import type { GenerationRequest } from '../../gpu-origin/generation/sampler.ts';
import type { GrammarCaller, Grammars } from '../../gpu-origin/grammar/ports.ts';
import { type ChatTemplate, createChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import { createTokenizer, type Tokenizer, engineTokens } from '../../gpu-origin/model/tokenizer.ts';
import { TokenizerDefinitionJson } from '../../gpu-origin/model/tokenizer-definition.ts';
import { PromptQueue, type PromptServices } from '../../gpu-origin/prompts/prompt.ts';
import { systemClock as clock } from '../../gpu-origin/runtime/device.ts';
import { constraintsOf, toolUseOf } from '../../protocol/request-fields.ts';
import { GraftError } from '../messages.ts';
import type * as Chunk from './grammar-chunk.ts';
import { openRunnerHere, type RunnerHere, type RunnerHereParams } from './open-runner.ts';

/** Memory for adapters, bytes: a rank-16 one on q and v of SmolLM2-135M takes 3.7 MB. */
const ADAPTER_BYTES = 256e6;
/** Answers that may wait for a row. */
const MAX_QUEUE = 64;

export interface EngineHere extends PromptServices, Omit<RunnerHere, 'runner' | 'toTrain'> {
  engine: Engine;
  tokenizer: Tokenizer;
  /** The grammar compiler. */
  held: Pick<HeldAnswers, 'prepare'>;
  close(): Promise<void>;
}

interface EngineHereParams extends RunnerHereParams {
  /** Of adapters' files. */
  source: AdapterSource;
}

/** @throws GraftError `runtime_unavailable` */
export async function openEngineHere(
  params: EngineHereParams,
): Promise<EngineHere & Pick<RunnerHere, 'toTrain'>> {
  const { base, source, onProgress } = params;
  const step = (done: number): void => onProgress({ stage: 'runtime', done, total: 3 });
  step(0);
  const definition = TokenizerDefinitionJson.parse(JSON.parse(base.text('tokenizer.json')));
  const tokenizer = createTokenizer(definition);
  const { runner, ...opened } = await openRunnerHere(params);
  const chatTemplate = createChatTemplate(tokenizer);
  const { runtimeUrl } = params;
  const held = new HeldAnswers({
    ...{ runtimeUrl, tokenizer, chatTemplate, vocabSize: runner.vocabSize },
  });
  const engine = new Engine({
    ...{ runner, masks: held, source, clock, random: Math.random, maxQueue: MAX_QUEUE },
    tokens: engineTokens(tokenizer),
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

/** In the runtime's folder. */
const CHUNK = 'graft-grammar.js';

interface Opened {
  grammars: Grammars;
  prepareGrammar: typeof Chunk.prepareGrammar;
}

class HeldAnswers implements GrammarMasks {
  #opened: Promise<Opened> | null = null;
  #grammars: Grammars | null = null;

  constructor(
    private readonly params: {
      runtimeUrl: string;
      tokenizer: Tokenizer;
      chatTemplate: ChatTemplate | null;
      vocabSize: number;
    },
  ) {}

  /** @returns null if the answers need no constraint. @throws GraftError */
  async prepare(request: GenerationRequest, caller: GrammarCaller): Promise<Grammar | null> {
    const tools = 'prompt' in request ? null : toolUseOf(request);
    if (constraintsOf(request).length === 0 && tools === null) return null;
    this.#opened ??= this.#open();
    const { grammars, prepareGrammar } = await this.#opened;
    const { chatTemplate } = this.params;
    const prepared = await prepareGrammar(request, { grammars, chatTemplate }, caller);
    if (!prepared.ok) throw new GraftError(prepared.error);
    return prepared.value;
  }

  update(rows: readonly RowGrammar[]): readonly MaskUpdate[] {
    return this.#grammars?.update(rows) ?? [];
  }

  async close(): Promise<void> {
    await this.#grammars?.close();
  }

  async #open(): Promise<Opened> {
    const { runtimeUrl, tokenizer, vocabSize } = this.params;
    const address = new URL(CHUNK, runtimeUrl).href;
    try {
      const chunk = (await import(/* @vite-ignore */ address)) as typeof Chunk;
      const grammars = chunk.openGrammars({ tokenizer, vocabSize });
      this.#grammars = grammars;
      return { grammars, prepareGrammar: chunk.prepareGrammar };
    } catch (error) {
      // The next answer tries again.
      this.#opened = null;
      const reason = error instanceof Error ? error.message : String(error);
      const message = `The grammar compiler for schemas and tools cannot be loaded from ${address}: ${reason}.`;
      throw new GraftError({ code: 'runtime_unavailable', message });
    }
  }
}
