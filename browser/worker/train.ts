/** Trainings of this worker, one after the other; their code is fetched when the first one begins. */
import type { ChainEntry } from '../../protocol/identity.ts';
import {
  GraftError,
  type Kept,
  type RowsText,
  type TrainedFiles,
  type TrainingProgress,
} from '../messages.ts';
import type { EngineHere } from './in-browser-engine.ts';
import type { BaseToTrain } from './open-runner.ts';
import type * as Chunk from './training-chunk.ts';

/** In the runtime's folder. */
const CHUNK = 'graft-training.js';

interface TrainParams {
  rows: RowsText;
  settings: Record<string, unknown>;
  /** To train on top of. */
  chain: readonly (ChainEntry & { file: Uint8Array<ArrayBuffer> })[];
  /** Takes bytes of storage for the result. @throws GraftError `storage_full` */
  reserve: (bytes: number) => Promise<void>;
  onProgress: (progress: TrainingProgress) => void;
  keep: (trained: Chunk.TrainedHere) => Promise<Kept>;
  /** Gives back what `reserve` took. */
  release: () => Promise<void>;
  signal: AbortSignal;
}

export class Trainings {
  #chunk: Promise<typeof Chunk> | null = null;
  /** The last one: two at a time would need the memory of both. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    private readonly runtimeUrl: string,
    private readonly here: EngineHere & { toTrain: BaseToTrain },
  ) {}

  /** @throws GraftError, or the signal's reason; nothing is left of a training that did not end. */
  train(params: TrainParams): Promise<Kept> {
    const kept = this.#last.then(() => this.#trainAlone(params));
    this.#last = kept.catch(() => undefined);
    return kept;
  }

  async #trainAlone({ rows, settings, chain, signal, ...params }: TrainParams): Promise<Kept> {
    signal.throwIfAborted();
    const { trainHere } = await this.#load();
    const { here } = this;
    try {
      const outcome = await trainHere({
        ...{ settings, chain, signal },
        base: here.toTrain,
        tokenizer: here.tokenizer,
        template: here.chatTemplate,
        rows: { bytes: new Uint8Array(await new Blob([rows.text]).arrayBuffer()), unit: rows.unit },
        reserve: params.reserve,
        onProgress: params.onProgress,
      });
      if (!outcome.ok) throw new GraftError(outcome.problem);
      signal.throwIfAborted();
      return await params.keep(outcome);
    } finally {
      await params.release();
    }
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
