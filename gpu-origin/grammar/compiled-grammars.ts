/** Grammars that wait to be compiled, and those that were: bounded, and shared out among tenants. */
import { type ApiError, err, type Result } from '../../protocol/index.ts';
import type { GrammarCaller, Lane } from './ports.ts';

/** Grammars that wait to be compiled, of all tenants; each takes 5 s at most. */
const MAX_WAITING = 256;
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

/** Compiled grammars that are kept; one with texts in it has 2 to 5 MB on a vocabulary of 49,152. */
const MAX_GRAMMARS = 64;
/** Their texts together, characters: what they hold grows with it. */
const MAX_GRAMMARS_CHARACTERS = 2_000_000;

export interface GrammarEntry {
  readonly ebnf: string;
  readonly id: number;
  readonly lane: Lane;
  /** Requests that may still open it, and rows that are open. */
  holders: number;
}

/** Compiled grammars by their text, the least recently used forgotten first, and none that somebody holds. */
export class GrammarCache {
  /** In the order of their last use. */
  readonly #entries = new Map<string, GrammarEntry>();

  find(ebnf: string): GrammarEntry | null {
    const entry = this.#entries.get(ebnf);
    if (entry === undefined) return null;
    this.#entries.delete(ebnf);
    this.#entries.set(ebnf, entry);
    return entry;
  }

  add(params: Pick<GrammarEntry, 'ebnf' | 'id' | 'lane'>): GrammarEntry {
    const entry = { ...params, holders: 0 };
    this.#entries.set(params.ebnf, entry);
    this.#trim(entry);
    return entry;
  }

  hold(entry: GrammarEntry): void {
    entry.holders += 1;
  }

  letGo(entry: GrammarEntry): void {
    entry.holders -= 1;
  }

  /** Nobody holds any of this lane's. */
  isIdle(lane: Lane): boolean {
    return [...this.#entries.values()].every((entry) => entry.lane !== lane || entry.holders === 0);
  }

  /** Forgets all that this lane had; it has forgotten them itself. */
  dropLane(lane: Lane): void {
    for (const [ebnf, entry] of this.#entries) if (entry.lane === lane) this.#entries.delete(ebnf);
  }

  #trim(kept: GrammarEntry): void {
    let characters = 0;
    for (const { ebnf } of this.#entries.values()) characters += ebnf.length;
    for (const [ebnf, entry] of this.#entries) {
      if (this.#entries.size <= MAX_GRAMMARS && characters <= MAX_GRAMMARS_CHARACTERS) return;
      if (entry === kept || entry.holders > 0) continue;
      this.#entries.delete(ebnf);
      characters -= ebnf.length;
      entry.lane.forget(entry.id);
    }
  }
}
