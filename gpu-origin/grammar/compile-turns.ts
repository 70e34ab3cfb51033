import { type ApiError, err, type Result } from '../../protocol/index.ts';
import type { GrammarCaller } from './ports.ts';

/** Grammars that wait to be compiled, of all tenants; each takes 5 s at most. */
export const MAX_WAITING = 256;
/**
 * … of one tenant, the one that is being compiled included. Turns keep the others from waiting for all of them; rows and
 * queue of an origin hold some more, and users of one application may each bring their own tools.
 */
export const MAX_TENANT_WAITING = 64;
/** A grammar takes some tens of milliseconds: a second is enough for most of them. */
const RETRY_AFTER_MS = 1_000;

interface Turn {
  readonly signal: AbortSignal;
  readonly run: () => Promise<void>;
  readonly skip: () => void;
}

/** One thing at a time; tenants take turns, and what each of them wants comes in order. */
export class CompileTurns {
  readonly #waiting = new Map<string, Turn[]>();
  readonly #counts = new Map<string, number>();
  #total = 0;
  #running = false;

  /** Errors: `queue_full`, `origin_unavailable` when the caller has gone before its turn. */
  take<T>(
    { tenant, signal }: GrammarCaller,
    work: () => Promise<Result<T, ApiError>>,
  ): Promise<Result<T, ApiError>> {
    const mine = this.#counts.get(tenant) ?? 0;
    if (mine >= MAX_TENANT_WAITING || this.#total >= MAX_WAITING) return Promise.resolve(err(TOO_MANY));
    this.#count(tenant, 1);
    return new Promise((resolve, reject) => {
      const turns = this.#waiting.get(tenant) ?? [];
      turns.push({
        signal,
        run: () => work().then(resolve, reject),
        skip: () => resolve(err(CALLER_GONE)),
      });
      this.#waiting.set(tenant, turns);
      if (!this.#running) void this.#work();
    });
  }

  async #work(): Promise<void> {
    this.#running = true;
    for (;;) {
      const [first] = this.#waiting;
      if (first === undefined) break;
      const [tenant, turns] = first;
      const turn = turns.shift()!;
      // Behind the others after its turn.
      this.#waiting.delete(tenant);
      if (turns.length > 0) this.#waiting.set(tenant, turns);
      if (turn.signal.aborted) turn.skip();
      else await turn.run();
      this.#count(tenant, -1);
    }
    this.#running = false;
  }

  #count(tenant: string, change: number): void {
    this.#total += change;
    const count = (this.#counts.get(tenant) ?? 0) + change;
    if (count === 0) this.#counts.delete(tenant);
    else this.#counts.set(tenant, count);
  }
}

const TOO_MANY: ApiError = {
  code: 'queue_full',
  message: 'Too many schemas and grammars are waiting to be compiled already.',
  retryAfterMs: RETRY_AFTER_MS,
};

const CALLER_GONE: ApiError = {
  code: 'origin_unavailable',
  message: 'The caller has gone.',
  retryAfterMs: RETRY_AFTER_MS,
};

/** Answers that need another instance than may run. */
export const tooManyAtOnce = (): Result<never, ApiError> =>
  err({
    code: 'queue_full',
    message: 'Too many answers are being held to grammars that take long to compile.',
    retryAfterMs: RETRY_AFTER_MS,
  });
