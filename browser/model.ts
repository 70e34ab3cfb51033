import type { ChatCompletion, ChatCompletionChunk } from '../protocol/completion-answers.ts';
import type { ChatCompletionRequest } from '../protocol/completion.ts';
import type { Trainable, TrainingCard, TrainingMethod, TrainingRequest } from '../protocol/training.ts';
import {
  type Answered,
  GraftError,
  type Kept,
  type Opened,
  type Progress,
  type Published,
  type PublishProgress,
  type RowsText,
  type Serving,
  type FromWorker,
  type Target,
  type ToWorker,
  type TrainedFiles,
  type TrainingProgress,
} from './messages.ts';

export type Message = ChatCompletionRequest['messages'][number];

/** OpenAI's fields of a chat completion, and: */
export interface AskOptions extends Omit<Partial<ChatCompletionRequest>, 'messages' | 'model' | 'stream'> {
  /** Another adapter than the current one, for this answer; null = the base itself. Rows of one batch may differ. */
  model?: Target;
  /** Aborts the answer; the call rejects with its reason. */
  signal?: AbortSignal;
}

/** Rows to train on: objects, or JSON Lines or CSV as text. */
export type TrainingRows = readonly object[] | string | Blob;

export interface TrainOptions {
  /** Name that the adapter is kept under in this browser, in place of another one; default `trained`. */
  name?: string;
  /** What to train on top of; default: the base itself. */
  on?: Target;
  /** `sft` (default), or `dpo` for rows with a chosen and a rejected answer. */
  method?: TrainingMethod;
  /** Default 8. */
  rank?: number;
  /** Default: twice the rank. */
  alpha?: number;
  /** Linears to train; default: all. */
  targets?: readonly Trainable[];
  /** Passes over the rows; default 3. */
  epochs?: number;
  /** Steps at least, however few rows there are; default 60. */
  leastSteps?: number;
  /** Largest learning rate; default: by the width of the base, 1e-5 with `dpo`. */
  rate?: number;
  /** Rows of a step; default: 4 below 200 rows, otherwise 8. */
  batch?: number;
  /** Longest row in tokens; longer ones are left out. Default 512. */
  maxLength?: number;
  /** Share of the rows that is held out and scored, 0 to 0.5; default 0.1. */
  validation?: number;
  /** Of the start values and the order; default 0. */
  seed?: number;
  /** With `dpo`: larger values keep answers closer to those before training; default 0.1. */
  beta?: number;
  /**
   * The adapter acts from the last of these tokens in a prompt on: a text, or token ids. Default: on every token; on an
   * activated adapter it must be given.
   */
  activated?: string | readonly number[];
  /** Called after each step, and with the bytes of an adapter to train on top of that is downloaded. */
  onProgress?: (progress: Progress | TrainingProgress) => void;
  /** Ends the training after the current step, and keeps nothing of it. */
  signal?: AbortSignal;
}

export interface PublishOptions {
  /** A publish token of the edge, or a function that gets one from the application's own server. */
  token: string | (() => string | Promise<string>);
  /** Name that the token must be for; default: whatever it is for. */
  name?: string;
  /** Called with the bytes that were sent. */
  onProgress?: (progress: PublishProgress) => void;
  /** Ends the publication, unless the edge is making the version already. */
  signal?: AbortSignal;
}

const DEFAULT_NAME = 'trained';

/** Fields of a TrainingRequest; the trainer has the defaults. */
const settingsOf = (options: TrainOptions): Partial<Record<keyof TrainingRequest, unknown>> => ({
  method: options.method,
  rank: options.rank,
  alpha: options.alpha,
  targets: options.targets,
  epochs: options.epochs,
  least_steps: options.leastSteps,
  rate: options.rate,
  batch: options.batch,
  max_length: options.maxLength,
  validation: options.validation,
  seed: options.seed,
  beta: options.beta,
  [typeof options.activated === 'string' ? 'activated_by' : 'activated']: options.activated,
});

const rowsText = (rows: TrainingRows): RowsText =>
  typeof rows === 'string' || rows instanceof Blob
    ? { text: rows, unit: 'line' }
    : { text: rows.map((row) => JSON.stringify(row) ?? 'null').join('\n'), unit: 'row' };

/** An adapter that was trained in this browser and is kept in its private storage. */
export class TrainedAdapter {
  /** @internal */
  constructor(
    private readonly jobs: Jobs,
    private readonly kept: Kept,
  ) {}

  /** Name that it is kept under: `model.use(adapter)` and `model.use({ trained: name })` are the same. */
  get trained(): string {
    return this.kept.name;
  }
  /** sha256 of its canonical file; the same once it is published. */
  get digest(): string {
    return this.kept.digest;
  }
  /** Rows, settings, loss curve and scores. */
  get card(): TrainingCard {
    return this.kept.card;
  }

  /** The canonical file. @throws GraftError */
  async bytes(): Promise<Uint8Array<ArrayBuffer>> {
    return (await this.#files()).canonical;
  }

  /** PEFT's files and the card, as `graft publish` takes them. @throws GraftError */
  async export(): Promise<
    Record<'adapter_config.json' | 'adapter_model.safetensors' | 'training.json', Blob>
  > {
    const { configJson, safetensors } = await this.#files();
    const type = 'application/json';
    return {
      'adapter_config.json': new Blob([configJson], { type }),
      'adapter_model.safetensors': new Blob([safetensors]),
      'training.json': new Blob([`${JSON.stringify(this.card, null, 2)}\n`], { type }),
    };
  }

  /**
   * Publishes it as a staged version of the name that the token is for: users get it once it is promoted. Sends the
   * file and the card. Repeating it with the same token changes nothing.
   * @throws GraftError, or the signal's reason.
   */
  async publish(options: PublishOptions): Promise<Published> {
    const { token, name = null, onProgress, signal } = options;
    signal?.throwIfAborted();
    const given = typeof token === 'function' ? await token() : token;
    const { digest, card } = this;
    return this.jobs.run<Published>(
      { kind: 'publish', digest, card, name, token: given },
      { onProgress, signal },
    );
  }

  #files(): Promise<TrainedFiles> {
    return this.jobs.run<TrainedFiles>({ kind: 'files', keep: this.trained });
  }
}

/** An open base with the current adapter. */
export class Model {
  #serving: Serving;
  /** Number of `use` calls, and the one that is in effect. */
  #uses = 0;
  #servingUse = 0;
  /** Names whose chain the worker knows: it asks the edge about others. */
  readonly #known = new Set<string>();

  /** @internal */
  constructor(
    private readonly jobs: Jobs,
    private readonly opened: Opened,
    private readonly findToken: FindToken,
  ) {
    this.#serving = opened;
    if (opened.name !== null) this.#known.add(opened.name);
  }

  /** Id of the base. */
  get base(): string {
    return this.opened.base;
  }
  /** The runtime, for people. */
  get runtime(): string {
    return this.opened.runtime;
  }
  /** `webgpu`, or `wasm` for the processor. */
  get device(): Opened['device'] {
    return this.opened.device;
  }
  /** Maximum tokens of a conversation, including the answer. */
  get context(): number {
    return this.opened.context;
  }
  /** The current name; null = the base itself. */
  get name(): string | null {
    return this.#serving.name;
  }
  /** Its version; null = the base itself, or an adapter that was trained here. */
  get version(): number | null {
    return this.#serving.version;
  }
  /** Whether a stored version answers, because the edge could not be asked when the name was selected. */
  get offline(): boolean {
    return this.#serving.offline;
  }

  /**
   * Switches to another adapter, or to a newer version of the same; the base stays. Running answers keep their
   * adapter.
   * @param target a name; an adapter that was trained here; null = the base itself.
   * @param options.onProgress called with the downloaded bytes (stage `adapter`).
   * @throws GraftError
   */
  async use(
    target: Target,
    options: { signal?: AbortSignal; onProgress?: (progress: Progress) => void } = {},
  ): Promise<Serving> {
    const turn = ++this.#uses;
    const name = sent(target);
    const serving = await withToken(typeof name === 'string' ? this.findToken : noToken, (token) =>
      this.jobs.run<Serving>({ kind: 'use', name, token }, options),
    );
    if (typeof name === 'string') this.#known.add(name);
    // An earlier request may take longer: the latest call counts.
    if (turn > this.#servingUse) [this.#serving, this.#servingUse] = [serving, turn];
    return serving;
  }

  /**
   * Trains an adapter on the rows, on this device: they never leave it. The adapter is kept in private storage, and
   * answers from then on. Answers go on meanwhile, more slowly.
   * @throws GraftError, or the signal's reason; then nothing is kept, and what answers stays.
   */
  async train(rows: TrainingRows, options: TrainOptions = {}): Promise<TrainedAdapter> {
    const { onProgress, signal } = options;
    const name = sent(options.on ?? null);
    const find = typeof name === 'string' && !this.#known.has(name) ? this.findToken : noToken;
    const kept = await withToken(find, (token) =>
      this.jobs.run<Kept>(
        {
          kind: 'train',
          rows: rowsText(rows),
          settings: settingsOf(options),
          keep: options.name ?? DEFAULT_NAME,
          name,
          token,
        },
        { onProgress, signal },
      ),
    );
    const trained = new TrainedAdapter(this.jobs, kept);
    await this.use(trained);
    return trained;
  }

  /** Adapters that were trained in this browser on this base, by name. @throws GraftError */
  async trained(): Promise<TrainedAdapter[]> {
    const kept = await this.jobs.run<readonly Kept[]>({ kind: 'trained' });
    return kept.map((one) => new TrainedAdapter(this.jobs, one));
  }

  /** Deletes an adapter that was trained here; if it is in use, the base itself answers. @throws GraftError */
  async forget(name: string): Promise<void> {
    await this.jobs.run<null>({ kind: 'forget', keep: name });
    if (this.#serving.trained === true && this.#serving.name === name) await this.use(null);
  }

  /**
   * An answer as OpenAI's `chat.completion.chunk`s; text is in `choices[0].delta.content`. Ending the iteration
   * aborts the answer.
   * @throws GraftError, or the signal's reason.
   */
  async *chat(
    messages: readonly Message[],
    options: AskOptions = {},
  ): AsyncGenerator<ChatCompletionChunk, undefined> {
    const { signal, ...fields } = options;
    const left = new AbortController();
    const parts: ChatCompletionChunk[] = [];
    let failure: { error: unknown } | null = null;
    let ended = false;
    let wake = (): void => {};
    const asked = this.#ask({ ...fields, messages, stream: true }, signal, left.signal, (part) => {
      parts.push(part);
      wake();
    });
    asked
      .catch((error: unknown) => (failure = { error }))
      .finally(() => {
        ended = true;
        wake();
      });
    try {
      for (;;) {
        const part = parts.shift();
        if (part !== undefined) yield part;
        else if (failure !== null) throw (failure as { error: unknown }).error;
        else if (ended) return;
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      left.abort();
    }
  }

  /** A whole answer, as OpenAI's `chat.completion`. @throws GraftError, or the signal's reason. */
  async answer(messages: readonly Message[], options: AskOptions = {}): Promise<ChatCompletion> {
    const { signal, ...fields } = options;
    return (await this.#ask({ ...fields, messages }, signal, undefined, () => {}))!;
  }

  async #ask(
    { model, ...fields }: Record<string, unknown> & { model?: Target },
    signal: AbortSignal | undefined,
    left: AbortSignal | undefined,
    onPart: (part: ChatCompletionChunk) => void,
  ): Promise<ChatCompletion | null> {
    const { name: current, trained } = this.#serving;
    const name = model !== undefined ? sent(model) : trained === true ? { trained: current! } : current;
    const either = [signal, left].filter((one) => one !== undefined);
    const find = typeof name !== 'string' || this.#known.has(name) ? noToken : this.findToken;
    const answer = await withToken(find, (token) =>
      this.jobs.run<ChatCompletion | null>(
        { kind: 'ask', body: fields, name, token },
        { onPart, signal: either.length > 1 ? AbortSignal.any(either) : either[0] },
      ),
    );
    if (typeof name === 'string') this.#known.add(name);
    return answer;
  }

  /** Ends the worker and frees its memory. Stored files stay. */
  close(): void {
    this.jobs.end(new GraftError({ code: 'closed', message: 'The model was closed.' }));
  }
}

/** A `TrainedAdapter` is no data that a worker can get. */
const sent = (target: Target): Target =>
  typeof target === 'object' && target !== null ? { trained: target.trained } : target;

/** @returns a download token of the edge; null = none. May reject with an error of the application's own code. */
export type FindToken = () => Promise<string | null>;

/** The worker's error when a token was needed after all. */
const WANTED = ['invalid_api_key', 'edge_unreachable'];

/**
 * If the edge cannot be reached, a missing token does not matter, and stored data answers.
 * @throws why there is no token, if one was needed.
 */
export async function withToken<T>(find: FindToken, run: (token: string | null) => Promise<T>): Promise<T> {
  const found = await find().then(
    (token) => ({ token, failure: null }),
    (error: unknown) => ({ token: null, failure: { error } }),
  );
  try {
    return await run(found.token);
  } catch (error) {
    const wanted = error instanceof GraftError && WANTED.includes(error.code);
    throw wanted && found.failure !== null ? found.failure.error : error;
  }
}

export const noToken: FindToken = () => Promise.resolve(null);

interface Job {
  /** Each kind of job has its own. */
  onProgress?: ((progress: never) => void) | undefined;
  onPart?: (part: Extract<FromWorker, { kind: 'part' }>['part']) => void;
  resolve: (value: Answered) => void;
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
      const message = `The worker ended: ${event.message || 'its script cannot be loaded'}.`;
      this.end(new GraftError({ code: 'runtime_unavailable', message }));
    });
  }

  /**
   * @param signal also aborts in the worker; rejects with its reason.
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
    if (message.kind === 'progress') return this.#jobs.get(job)?.onProgress?.(message.progress as never);
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
