/** Grammars that wait to be compiled, and those that were: bounded, and shared out among tenants. */
import { type ApiError, err, type Result } from '../../protocol/api-error.ts';
import type { AskedForm, GrammarCaller, GrammarWorker } from './ports.ts';

/** Schemas and grammars that wait to be compiled. */
const MAX_WAITING = 256;
/** The same of one tenant, those being compiled included. Tenants take turns. */
// Turns keep other tenants from waiting for all of them; users of one application may each bring their own tools.
export const MAX_TENANT_WAITING = 64;
/** A grammar takes some tens of milliseconds: a second is enough for most of them. */
const RETRY_AFTER_MS = 1_000;
/** What a tenant sends after a grammar that takes long is compiled behind everybody else's for so long, ms. */
const SLOW_FOR_MS = 60_000;

/** What a grammar that is being compiled says of itself. */
export interface CompileTurn {
  /** It takes long. @returns whether it may go on; else it ends as `later`, and begins anew in another turn. */
  takesLong(): boolean;
}

type Outcome<T> = Result<T, ApiError> | 'later';

interface Waiting {
  readonly signal: AbortSignal;
  /** @returns false when it is to have another turn. */
  readonly run: (turn: CompileTurn) => Promise<boolean>;
  readonly skip: () => void;
}

/**
 * Two at a time: one of those that are quick, as far as anybody knows, and one of those that are not. One that turns out
 * to be slow goes on in the slow place, or waits for it, and for a minute all others of its tenant do. So a new tenant's
 * grammar waits for what is quick and no longer. In each place tenants take turns, and what each of them wants comes in
 * order.
 */
export class CompileTurns {
  readonly #now: () => number;
  readonly #waiting = new Map<string, Waiting[]>();
  readonly #counts = new Map<string, number>();
  /** Until when a tenant is a slow one. */
  readonly #slow = new Map<string, number>();
  readonly #busy = { quick: false, slow: false };
  #total = 0;

  /** @param now milliseconds, monotonic. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Errors: `queue_full`, `origin_unavailable` when the caller has gone before its turn. */
  take<T>(
    { tenant, signal }: GrammarCaller,
    work: (turn: CompileTurn) => Promise<Outcome<T>>,
  ): Promise<Result<T, ApiError>> {
    const mine = this.#counts.get(tenant) ?? 0;
    if (mine >= MAX_TENANT_WAITING || this.#total >= MAX_WAITING) return Promise.resolve(err(TOO_MANY));
    this.#count(tenant, 1);
    return new Promise((resolve, reject) => {
      this.#add(tenant, {
        signal,
        async run(turn) {
          try {
            const outcome = await work(turn);
            if (outcome === 'later') return false;
            resolve(outcome);
          } catch (error) {
            reject(error as Error);
          }
          return true;
        },
        skip: () => resolve(err(CALLER_GONE)),
      });
      this.#go();
    });
  }

  #add(tenant: string, waiting: Waiting): void {
    const others = this.#waiting.get(tenant);
    if (others === undefined) this.#waiting.set(tenant, [waiting]);
    else others.push(waiting);
  }

  #go(): void {
    for (const place of ['quick', 'slow'] as const) {
      if (this.#busy[place]) continue;
      const next = this.#next(place);
      if (next !== null) void this.#run(next.tenant, next.waiting, place);
    }
  }

  #next(place: 'quick' | 'slow'): { tenant: string; waiting: Waiting } | null {
    for (const [tenant, waiting] of this.#waiting) {
      if (this.#isSlow(tenant) !== (place === 'slow')) continue;
      const first = waiting.shift()!;
      // Behind the others after its turn.
      this.#waiting.delete(tenant);
      if (waiting.length > 0) this.#waiting.set(tenant, waiting);
      return { tenant, waiting: first };
    }
    return null;
  }

  async #run(tenant: string, waiting: Waiting, place: 'quick' | 'slow'): Promise<void> {
    let held = place;
    this.#busy[held] = true;
    let ended = true;
    if (waiting.signal.aborted) waiting.skip();
    else
      ended = await waiting.run({
        takesLong: () => {
          this.#slow.set(tenant, this.#now() + SLOW_FOR_MS);
          if (held === 'slow') return true;
          if (this.#busy.slow) return false;
          [held, this.#busy.quick, this.#busy.slow] = ['slow', false, true];
          this.#go();
          return true;
        },
      });
    if (ended) this.#count(tenant, -1);
    else this.#add(tenant, waiting);
    this.#busy[held] = false;
    this.#go();
  }

  #isSlow(tenant: string): boolean {
    const until = this.#slow.get(tenant);
    if (until === undefined) return false;
    if (this.#now() < until) return true;
    this.#slow.delete(tenant);
    return false;
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
  message: 'Too many schemas and grammars are waiting to be compiled.',
  retryAfterMs: RETRY_AFTER_MS,
};

const CALLER_GONE: ApiError = {
  code: 'origin_unavailable',
  message: 'The client disconnected.',
  retryAfterMs: RETRY_AFTER_MS,
};

/** Answers that need another instance than may run. */
export const tooManyAtOnce = (): Result<never, ApiError> =>
  err({
    code: 'queue_full',
    message: 'Too many answers use grammars that take long to compile.',
    retryAfterMs: RETRY_AFTER_MS,
  });

/** Compiled grammars that are kept. One with texts in it takes 2 to 5 MB. */
// On a vocabulary of 49,152.
const MAX_GRAMMARS = 64;
/** Their texts together, and what was asked for, characters: what they hold grows with it. */
const MAX_GRAMMARS_CHARACTERS = 2_000_000;

/** Where a compiled grammar is. */
export interface GrammarHome {
  readonly worker: GrammarWorker;
  readonly id: number;
}

export interface GrammarEntry {
  /** Of what was asked for. */
  readonly key: string;
  readonly asked: AskedForm;
  /** Of its text. */
  readonly characters: number;
  home: GrammarHome;
  /** Its masks take long: it has another home, or will have one. */
  moved: boolean;
  /** Requests that may still open it, and rows that are open. */
  holders: number;
  /** Rows that are open. `leave`: it has a new home. */
  readonly rows: Set<{ leave(): void }>;
}

/** Compiled grammars by what was asked for, the least recently used forgotten first, and none that somebody holds. */
export class GrammarCache {
  /** In the order of their last use. */
  readonly #entries = new Map<string, GrammarEntry>();

  find(key: string): GrammarEntry | null {
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry;
  }

  has(entry: GrammarEntry): boolean {
    return this.#entries.get(entry.key) === entry;
  }

  add(params: Pick<GrammarEntry, 'key' | 'asked' | 'characters' | 'home'>): GrammarEntry {
    const entry = { ...params, moved: false, holders: 0, rows: new Set<never>() };
    this.#entries.set(params.key, entry);
    this.#trim(entry);
    return entry;
  }

  /** Grammars of this worker that somebody holds. */
  heldIn(worker: GrammarWorker): number {
    return [...this.#entries.values()].filter(({ home, holders }) => home.worker === worker && holders > 0)
      .length;
  }

  /** Forgets all that this worker had; it has forgotten them itself. */
  dropWorker(worker: GrammarWorker): void {
    for (const [key, { home }] of this.#entries) if (home.worker === worker) this.#entries.delete(key);
  }

  #trim(kept: GrammarEntry): void {
    let characters = 0;
    for (const entry of this.#entries.values()) characters += sizeOf(entry);
    for (const [key, entry] of this.#entries) {
      if (this.#entries.size <= MAX_GRAMMARS && characters <= MAX_GRAMMARS_CHARACTERS) return;
      if (entry === kept || entry.holders > 0) continue;
      this.#entries.delete(key);
      characters -= sizeOf(entry);
      entry.home.worker.forget(entry.home.id);
    }
  }
}

const sizeOf = ({ key, characters }: GrammarEntry): number => key.length + characters;
