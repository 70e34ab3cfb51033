/** WebAssembly in the thread that asks, for a browser's worker: it needs no memory that is shared with another one. */
import { nextTurn } from '../next-turn.ts';
import { OrtError } from '../device.ts';
import { answerRequest, type WasmFiles } from './answer-requests.ts';
import type { WasmApi } from './wasm-api.ts';
import type { WasmAnswer, WasmHost, WasmOrder, WasmQuestion, WasmRequest } from './wasm-messages.ts';

export class SameThread implements WasmHost {
  #turn: Promise<void> = Promise.resolve();
  #ids = 0;
  #jobs = 0;

  constructor(
    private readonly api: WasmApi,
    private readonly files: WasmFiles,
  ) {}

  get memory(): SharedArrayBuffer {
    return this.api.memory;
  }

  nextId(): number {
    this.#ids += 1;
    return this.#ids;
  }

  async ask(question: WasmQuestion): Promise<WasmAnswer> {
    this.#jobs += 1;
    const answer = await this.#do({ ...question, job: this.#jobs } as WasmRequest);
    // A run blocks the thread; between two of them it hears who has gone and who has come.
    if (question.kind === 'run') await nextTurn();
    if (answer !== null && 'error' in answer)
      throw new OrtError(answer.error.call, answer.error.code, answer.error.message);
    return answer!;
  }

  tell(order: WasmOrder): void {
    void this.#do(order);
  }

  /** Its memory goes with the thread. */
  async end(): Promise<void> {
    await this.#turn;
  }

  #do(request: WasmRequest): ReturnType<typeof answerRequest> {
    const done = this.#turn.then(() => answerRequest(this.api, this.files, request));
    this.#turn = done.then(
      () => undefined,
      () => undefined,
    );
    return done;
  }
}
