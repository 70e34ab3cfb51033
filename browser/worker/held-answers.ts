/** Grammars of the answers here, once somebody asks for one. */
import type { Grammar, GrammarMasks, RowGrammar } from '../../gpu-origin/engine/ports.ts';
import type { GenerationRequest } from '../../gpu-origin/generation/sampling-params.ts';
import type { GrammarCaller, Grammars } from '../../gpu-origin/grammar/ports.ts';
import type { ChatTemplate } from '../../gpu-origin/model/chat-template.ts';
import type { Tokenizer } from '../../gpu-origin/model/create-tokenizer.ts';
import { constraintsOf, toolUseOf } from '../../protocol/index.ts';
import { GraftError } from '../errors.ts';
import type * as Chunk from './grammar-chunk.ts';

/** In the runtime's folder. */
const CHUNK = 'graft-grammar.js';

interface Opened {
  grammars: Grammars;
  prepareGrammar: typeof Chunk.prepareGrammar;
}

export class HeldAnswers implements GrammarMasks {
  #opened: Promise<Opened> | null = null;
  #grammars: Grammars | null = null;

  constructor(
    private readonly params: {
      runtimeUrl: string;
      tokenizer: Tokenizer;
      chatTemplate: ChatTemplate | null;
      vocabSize: number;
      rows: number;
    },
  ) {}

  /** @returns null when there is nothing that the answers are held to. @throws GraftError */
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

  async update(rows: readonly RowGrammar[]): Promise<void> {
    await this.#grammars?.update(rows);
  }

  async close(): Promise<void> {
    await this.#grammars?.close();
  }

  async #open(): Promise<Opened> {
    const { runtimeUrl, tokenizer, vocabSize, rows } = this.params;
    const address = new URL(CHUNK, runtimeUrl).href;
    try {
      const chunk = (await import(/* @vite-ignore */ address)) as typeof Chunk;
      const grammars = chunk.openGrammars({ tokenizer, vocabSize, rows });
      this.#grammars = grammars;
      return { grammars, prepareGrammar: chunk.prepareGrammar };
    } catch (error) {
      // Asked for again by the next answer.
      this.#opened = null;
      const reason = error instanceof Error ? error.message : String(error);
      const message = `What holds answers to schemas and tools cannot be loaded from ${address}: ${reason}.`;
      throw new GraftError({ code: 'runtime_unavailable', message });
    }
  }
}
