import { err, ok, type ApiError, type Result } from '../../../protocol/index.ts';
import {
  checkHeld,
  type Entry,
  formatErrorOf,
  missingAdapters,
  unavailableAdapter,
} from './adapter-entry.ts';
import type { EngineObserver } from '../observer.ts';
import type { AdapterSource, ModelRunner, ResidentAdapter } from '../ports.ts';

/** Files in memory at once beside their transformed form, and cores taken from the steps. */
const MAX_CONCURRENT_LOADS = 2;

/** Source -> runner, a few at a time. What goes wrong fails only the requests that want this adapter. */
export class AdapterLoads {
  readonly #runner: Pick<ModelRunner, 'loadAdapter'>;
  readonly #source: AdapterSource;
  readonly #observer: EngineObserver;
  readonly #onEnd: (entry: Entry, loaded: Result<ResidentAdapter, ApiError>, startedAt: number) => void;
  readonly #onUnwanted: (entry: Entry) => void;
  readonly #now: () => number;
  readonly #queue: Entry[] = [];
  #underWay = 0;

  constructor(params: {
    runner: Pick<ModelRunner, 'loadAdapter'>;
    source: AdapterSource;
    observer: EngineObserver;
    now: () => number;
    onEnd: (entry: Entry, loaded: Result<ResidentAdapter, ApiError>, startedAt: number) => void;
    /** Everyone who wanted it had gone when its turn came. */
    onUnwanted: (entry: Entry) => void;
  }) {
    this.#runner = params.runner;
    this.#source = params.source;
    this.#observer = params.observer;
    this.#now = params.now;
    this.#onEnd = params.onEnd;
    this.#onUnwanted = params.onUnwanted;
  }

  get underWay(): number {
    return this.#underWay;
  }

  /** Under way and to come. */
  get size(): number {
    return this.#underWay + this.#queue.length;
  }

  /** `start` begins it. */
  add(entry: Entry): void {
    this.#queue.push(entry);
  }

  start(): void {
    while (this.#underWay < MAX_CONCURRENT_LOADS) {
      const entry = this.#queue.shift();
      if (entry === undefined) return;
      if (entry.references === 0 && !entry.pinned && entry.waiters.length === 0) {
        this.#onUnwanted(entry);
        continue;
      }
      this.#underWay += 1;
      void this.#load(entry);
    }
  }

  /** @returns why the source cannot give all of these files now; null when it can. */
  check(digests: readonly string[]): Promise<ApiError | null> {
    return checkHeld({ source: this.#source, observer: this.#observer }, digests);
  }

  async #load(entry: Entry): Promise<void> {
    const startedAt = this.#now();
    const loaded = await this.#read(entry.digest);
    this.#underWay -= 1;
    this.#onEnd(entry, loaded, startedAt);
    this.start();
  }

  async #read(digest: string): Promise<Result<ResidentAdapter, ApiError>> {
    try {
      const file = await this.#source.read(digest);
      if (file === null) return err(missingAdapters([digest]));
      return ok(await this.#runner.loadAdapter(file, digest));
    } catch (error) {
      const format = formatErrorOf(error);
      if (format === null) this.#observer.onFault?.({ where: 'adapter load', error, requestIds: [] });
      return err(format ?? unavailableAdapter(digest));
    }
  }
}
