/** Trainings of this worker, one after the other; their code is fetched when the first one begins. */
import type { ChainEntry } from '../../protocol/identity.ts';
import { GraftError, type RowsText, type TrainedFiles, type TrainingProgress } from '../messages.ts';
import type { EngineHere } from './in-browser-engine.ts';
import type { BaseToTrain } from './open-runner.ts';
import { storageLeft } from './stored-files.ts';
import type * as Chunk from './training-chunk.ts';

/** In the runtime's folder. */
const CHUNK = 'graft-training.js';

export class Trainings {
  #chunk: Promise<typeof Chunk> | null = null;
  /** The last one: two at a time would need the memory of both. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly runtimeUrl: string,
    private readonly here: EngineHere & { toTrain: BaseToTrain },
  ) {}

  /** @throws GraftError, or the signal's reason; nothing is left of a training that did not end. */
  train(params: {
    rows: RowsText;
    settings: unknown;
    chain: readonly (ChainEntry & { file: Uint8Array<ArrayBuffer> })[];
    onProgress: (progress: TrainingProgress) => void;
    signal: AbortSignal;
  }): Promise<Chunk.TrainedHere> {
    const trained = this.#last.then(async () => {
      params.signal.throwIfAborted();
      const { text, unit } = params.rows;
      const { trainHere } = await this.#load();
      const { here } = this;
      const outcome = await trainHere({
        ...params,
        base: here.toTrain,
        tokenizer: here.tokenizer,
        template: here.chatTemplate,
        rows: { bytes: new Uint8Array(await new Blob([text]).arrayBuffer()), unit },
        storageLeft: await storageLeft(),
      });
      if (!outcome.ok) throw new GraftError(outcome.problem);
      return outcome;
    });
    this.#last = trained.catch(() => undefined);
    return trained;
  }

  async files(canonical: Uint8Array<ArrayBuffer>): Promise<TrainedFiles> {
    const { peftFiles } = await this.#load();
    return peftFiles(canonical, this.here.base.id);
  }

  async #load(): Promise<typeof Chunk> {
    const address = new URL(CHUNK, this.runtimeUrl).href;
    this.#chunk ??= import(/* @vite-ignore */ address) as Promise<typeof Chunk>;
    try {
      return await this.#chunk;
    } catch (error) {
      // The next call tries again.
      this.#chunk = null;
      const reason = error instanceof Error ? error.message : String(error);
      const message = `The trainer cannot be loaded from ${address}: ${reason}.`;
      throw new GraftError({ code: 'runtime_unavailable', message });
    }
  }
}
