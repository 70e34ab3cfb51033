/** Requests to the worker, each with its own progress, parts and end. */
import { GraftError } from './errors.ts';
import type { FromWorker, Progress, ToWorker } from './messages.ts';

interface Job {
  onProgress?: ((progress: Progress) => void) | undefined;
  onPart?: (part: Extract<FromWorker, { kind: 'part' }>['part']) => void;
  resolve: (value: Extract<FromWorker, { kind: 'done' }>['value']) => void;
  reject: (error: unknown) => void;
}

type Start = ToWorker extends infer M
  ? M extends { kind: 'abort' }
    ? never
    : M extends { job: number }
      ? Omit<M, 'job'>
      : never
  : never;

export class Jobs {
  readonly #jobs = new Map<number, Job>();
  #last = 0;
  #lost: GraftError | null = null;

  constructor(private readonly worker: Worker) {
    worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => this.#hear(data));
    worker.addEventListener('error', (event) => {
      const message = `The worker has ended: ${event.message || 'its script cannot be loaded'}.`;
      this.end(new GraftError({ code: 'runtime_unavailable', message }));
    });
  }

  /**
   * @param signal ends it in the worker too; rejects with its reason.
   * @throws GraftError
   */
  async run<T>(
    start: Start,
    options: Pick<Job, 'onProgress' | 'onPart'> & { signal?: AbortSignal | undefined } = {},
  ): Promise<T> {
    const { signal } = options;
    signal?.throwIfAborted();
    if (this.#lost !== null) throw this.#lost;
    this.#last += 1;
    const job = this.#last;
    const abort = (): void => {
      this.worker.postMessage({ kind: 'abort', job } satisfies ToWorker);
      this.#take(job)?.reject(signal?.reason);
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#jobs.set(job, { ...options, resolve: (value) => resolve(value as T), reject });
        this.worker.postMessage({ ...start, job } as ToWorker);
      });
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  end(reason: GraftError): void {
    this.#lost ??= reason;
    this.worker.terminate();
    for (const { reject } of this.#jobs.values()) reject(this.#lost);
    this.#jobs.clear();
  }

  #hear(message: FromWorker): void {
    const { job } = message;
    if (message.kind === 'progress') return this.#jobs.get(job)?.onProgress?.(message.progress);
    if (message.kind === 'part') return this.#jobs.get(job)?.onPart?.(message.part);
    const known = this.#take(job);
    if (message.kind === 'done') known?.resolve(message.value);
    else known?.reject(new GraftError(message.problem));
  }

  #take(job: number): Job | undefined {
    const known = this.#jobs.get(job);
    this.#jobs.delete(job);
    return known;
  }
}
