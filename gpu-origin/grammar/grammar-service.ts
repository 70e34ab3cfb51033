/**
 * Grammars of all tenants. Each is compiled by an instance that no row waits for. One that compiles quickly is compiled
 * once more by the instance that serves everybody; one that does not stays where it is, which then serves it alone.
 * So nothing that a tenant sends holds up another one's rows for longer than a quick grammar takes.
 */
import { type ApiError, err, ok, type Result } from '../../protocol/index.ts';
import type { Grammar, RowGrammar } from '../engine/ports.ts';
import { CompileTurns, tooManyAtOnce, GrammarCache, type GrammarEntry } from './compiled-grammars.ts';
import {
  type GrammarRequest,
  type Grammars,
  type GrammarTokens,
  type Lane,
  LaneLost,
  type LaneRow,
  type StartLane,
} from './ports.ts';

/** What is compiled in this time may be compiled beside rows, ms; most take a tenth of it. */
const QUICK_MS = 1_000;
/** Instances that serve one slow grammar each; each has some 50 MB. */
const MAX_SLOW_LANES = 3;

interface GrammarServiceOptions {
  readonly startLane: StartLane;
  readonly tokens: GrammarTokens;
  /** Rows of one step at most. */
  readonly rows: number;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** Hears of instances that were lost. */
  readonly onFault?: (where: string, error: unknown) => void;
}

export class GrammarService implements Grammars {
  readonly #options: GrammarServiceOptions;
  readonly #turns = new CompileTurns();
  readonly #cache = new GrammarCache();
  readonly #compiling = new Map<string, Promise<Result<GrammarEntry, ApiError>>>();
  #serving: Lane | null = null;
  #spare: Lane | null = null;
  readonly #slow = new Set<Lane>();
  #ids = 0;
  #closed = false;

  constructor(options: GrammarServiceOptions) {
    this.#options = options;
  }

  async prepare(request: GrammarRequest): Promise<Result<Grammar, ApiError>> {
    const { ebnf, caller } = request;
    for (;;) {
      const known = this.#cache.find(ebnf);
      if (known !== null) return ok(this.#lend(known));
      const running = this.#compiling.get(ebnf);
      if (running !== undefined) {
        const compiled = await running;
        // Refused for what it is, and not because somebody else went away or had too many.
        if (!compiled.ok && compiled.error.code === 'invalid_request')
          return err(inWordsOf(compiled.error, request));
        continue;
      }
      const compiling = this.#turns.take(caller, () => this.#compile(request));
      this.#compiling.set(ebnf, compiling);
      try {
        const compiled = await compiling;
        return compiled.ok ? ok(this.#lend(compiled.value)) : compiled;
      } finally {
        this.#compiling.delete(ebnf);
      }
    }
  }

  async update(rows: readonly RowGrammar[]): Promise<void> {
    const lanes = new Map<Lane, OpenRow[]>();
    for (const row of rows) {
      if (!(row instanceof OpenRow)) throw new Error('a row of another service');
      const { lane } = row.entry;
      const together = lanes.get(lane);
      if (together === undefined) lanes.set(lane, [row]);
      else together.push(row);
    }
    await Promise.all([...lanes].map(([lane, together]) => this.#step(lane, together)));
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([this.#serving, this.#spare, ...this.#slow].map((lane) => lane?.stop()));
  }

  async #step(lane: Lane, rows: readonly OpenRow[]): Promise<void> {
    try {
      const failures = await lane.step(rows.map((row) => row.take()));
      for (const [at, row] of rows.entries()) row.updated(lane.masks, at, failures[at] ?? null);
    } catch (error) {
      if (!(error instanceof LaneLost)) throw error;
      for (const row of rows) row.lost(error);
      this.#drop(lane, error);
    }
  }

  async #compile({ ebnf, param }: GrammarRequest): Promise<Result<GrammarEntry, ApiError>> {
    if (this.#closed) return err(CLOSED);
    this.#ids += 1;
    const id = this.#ids;
    const spare = await this.#lane('spare');
    if (spare === null) return err(UNAVAILABLE);
    const began = this.#options.now();
    const failure = await this.#tryOn(spare, id, ebnf);
    if (failure !== null) {
      // An instance that has refused a grammar is not whole any more.
      this.#spare = null;
      void spare.stop();
      return err({ code: 'invalid_request', message: `'${param}' ${failure}.`, param });
    }
    if (this.#options.now() - began > QUICK_MS) return this.#keepSlow(spare, id, ebnf);
    const serving = await this.#lane('serving');
    if (serving === null) return err(UNAVAILABLE);
    const again = await this.#tryOn(serving, id, ebnf);
    spare.forget(id);
    if (again !== null) {
      this.#drop(serving, new LaneLost(again, false));
      return err({ code: 'internal_error', message: 'The grammar could not be compiled.' });
    }
    return ok(this.#cache.add({ ebnf, id, lane: serving }));
  }

  /** @returns what is wrong with the grammar. */
  async #tryOn(lane: Lane, id: number, ebnf: string): Promise<string | null> {
    try {
      const failure = await lane.compile(id, ebnf);
      return failure === null ? null : `does not compile: ${failure}`;
    } catch (error) {
      if (!(error instanceof LaneLost)) throw error;
      this.#options.onFault?.('grammar', error);
      return error.tooLong
        ? 'takes too long to compile; lengths and repetitions with bounds cost most'
        : 'cannot be compiled by this server';
    }
  }

  #keepSlow(lane: Lane, id: number, ebnf: string): Result<GrammarEntry, ApiError> {
    if (this.#slow.size >= MAX_SLOW_LANES) {
      const idle = [...this.#slow].find((slow) => this.#cache.isIdle(slow));
      if (idle === undefined) {
        lane.forget(id);
        return tooManyAtOnce();
      }
      this.#cache.dropLane(idle);
      this.#slow.delete(idle);
      void idle.stop();
    }
    this.#slow.add(lane);
    this.#spare = null;
    return ok(this.#cache.add({ ebnf, id, lane }));
  }

  #lend(entry: GrammarEntry): Grammar {
    this.#cache.hold(entry);
    let held = true;
    return {
      open: () => {
        this.#ids += 1;
        const id = this.#ids;
        entry.lane.open(id, entry.id);
        this.#cache.hold(entry);
        return new OpenRow(id, entry, () => {
          entry.lane.close(id);
          this.#cache.letGo(entry);
        });
      },
      release: () => {
        if (held) this.#cache.letGo(entry);
        held = false;
      },
    };
  }

  #drop(lane: Lane, error: LaneLost): void {
    this.#options.onFault?.('grammar', error);
    this.#cache.dropLane(lane);
    this.#slow.delete(lane);
    if (this.#serving === lane) this.#serving = null;
    void lane.stop();
  }

  /** Only a compilation asks, and these come one at a time. @returns null when it cannot be started. */
  async #lane(which: 'serving' | 'spare'): Promise<Lane | null> {
    const running = which === 'serving' ? this.#serving : this.#spare;
    if (running !== null) return running;
    const { startLane, tokens, rows, onFault } = this.#options;
    try {
      const lane = await startLane({ tokens, rows });
      if (which === 'serving') this.#serving = lane;
      else this.#spare = lane;
      if (this.#closed) await lane.stop();
      return this.#closed ? null : lane;
    } catch (error) {
      onFault?.('grammar', error);
      return null;
    }
  }
}

/** Who waited for another one's grammar may have it in another field. */
function inWordsOf(
  error: Extract<ApiError, { code: 'invalid_request' }>,
  { param }: GrammarRequest,
): ApiError {
  return { ...error, message: error.message.replace(`'${error.param}'`, `'${param}'`), param };
}

const UNAVAILABLE: ApiError = {
  code: 'internal_error',
  message: 'This server cannot hold answers to schemas and grammars now.',
};

const CLOSED: ApiError = {
  code: 'origin_unavailable',
  message: 'The server is stopping.',
  retryAfterMs: 1_000,
};

const NOTHING = new Int32Array(0);

/** Where one answer stands. */
class OpenRow implements RowGrammar {
  readonly entry: GrammarEntry;
  mask: Int32Array = NOTHING;
  failure: ApiError | null = null;
  readonly #id: number;
  readonly #leave: () => void;
  #accepted: number[] = [];
  #closed = false;

  /** @param leave called once, when it is closed. */
  constructor(id: number, entry: GrammarEntry, leave: () => void) {
    this.#id = id;
    this.entry = entry;
    this.#leave = leave;
  }

  accept(id: number): void {
    this.#accepted.push(id);
  }

  /** What the next step takes in. */
  take(): LaneRow {
    const accepted = this.#accepted;
    this.#accepted = [];
    return { row: this.#id, accepted };
  }

  /** @param masks of all rows of the step; this one is `at`. */
  updated(masks: Int32Array, at: number, failure: string | null): void {
    const { words } = this.entry.lane;
    this.mask = masks.subarray(at * words, (at + 1) * words);
    if (failure !== null)
      this.failure = {
        code: 'invalid_request',
        message: `The answer cannot be gone on with: its grammar ${failure}.`,
        param: null,
      };
  }

  lost(error: LaneLost): void {
    const message = error.tooLong ? 'it takes too long' : 'the server lost it';
    this.failure = {
      code: 'internal_error',
      message: `The answer can no longer be held to its schema or grammar: ${message}.`,
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#leave();
  }
}
