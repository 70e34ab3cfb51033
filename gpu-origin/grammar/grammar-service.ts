/**
 * Grammars of all tenants. Each is made and compiled by an instance that no row waits for. One that compiles quickly is
 * compiled once more by an instance that serves many: one has the schemas, expressions and choices, another one the
 * grammars that clients write themselves. One that does not compile quickly stays where it is, and one whose masks take
 * long moves to an instance of the slow ones. So nothing that a tenant sends holds up another one's rows for long, and
 * rows without a grammar not at all.
 */
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import { issuePath } from '../../protocol/parse-body.ts';
import type { Grammar, MaskUpdate, RowGrammar } from '../engine/ports.ts';
import {
  type CompileTurn,
  CompileTurns,
  GrammarCache,
  type GrammarEntry,
  tooManyAtOnce,
} from './compiled-grammars.ts';
import {
  type AskedForm,
  type Compiled,
  type GrammarRequest,
  type Grammars,
  type GrammarTokens,
  type GrammarWorker,
  GrammarWorkerLost,
  type GrammarWorkerRow,
  QUICK_MS,
  type StartGrammarWorker,
  type Stepped,
} from './ports.ts';

/** Instances for what compiles slowly or has slow masks; each has some 50 MB. */
const MAX_SLOW_WORKERS = 3;
/** Steps of a row whose masks' times are looked at together. */
const WINDOW = 20;
/** Mean CPU time of a mask above which a row's grammar moves to the slow ones, ms; 0.1 is usual. */
const MAX_MASK_MS = 5;
/** … above which its row ends, ms: it would have a core for itself. */
const MAX_SLOW_MASK_MS = 50;
/** Until a busy machine may have time again, ms. */
const BUSY_RETRY_MS = 5_000;

interface GrammarServiceOptions {
  readonly startWorker: StartGrammarWorker;
  /** null = nothing is compiled: it only says what no grammar can be made of. */
  readonly tokens: GrammarTokens | null;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** Hears of instances that were lost. */
  readonly onFault?: (where: string, error: unknown) => void;
}

/** Clients' own grammars are apart: theirs are the masks that may take long. */
type Serving = 'schemas' | 'grammars';

const servingOf = ({ constraint }: AskedForm): Serving =>
  constraint?.constraint.kind === 'grammar' ? 'grammars' : 'schemas';

export class GrammarService implements Grammars {
  readonly #options: GrammarServiceOptions;
  readonly #turns: CompileTurns;
  readonly #cache = new GrammarCache();
  readonly #compiling = new Map<string, Promise<Result<GrammarEntry, ApiError>>>();
  /** All that run. */
  readonly #workers = new Set<GrammarWorker>();
  readonly #serving = new Map<Serving, Promise<Result<GrammarWorker, ApiError>>>();
  readonly #spare: GrammarWorker[] = [];
  readonly #slow = new Set<GrammarWorker>();
  #moving: Promise<void> = Promise.resolve();
  #ids = 0;
  #closed = false;

  constructor(options: GrammarServiceOptions) {
    this.#options = options;
    this.#turns = new CompileTurns(options.now);
  }

  async prepare({ asked, caller }: GrammarRequest): Promise<Result<Grammar, ApiError>> {
    const key = keyOf(asked);
    // Of one tenant: nobody waits for another one's turn.
    const mine = `${key} ${caller.tenant}`;
    for (;;) {
      const known = this.#cache.find(key);
      if (known !== null) return ok(this.#lend(known));
      const running = this.#compiling.get(mine);
      if (running !== undefined) {
        const compiled = await running;
        // Refused for what it is, and not because somebody else went away or had too many.
        if (!compiled.ok && REFUSALS.includes(compiled.error.code)) return compiled;
        continue;
      }
      const compiling = this.#turns.take(caller, (turn) => this.#compile(key, asked, turn));
      this.#compiling.set(mine, compiling);
      try {
        const compiled = await compiling;
        return compiled.ok ? ok(this.#lend(compiled.value)) : compiled;
      } finally {
        this.#compiling.delete(mine);
      }
    }
  }

  update(rows: readonly RowGrammar[]): readonly MaskUpdate[] {
    const updates = new Set<MaskUpdate>();
    const workers = new Map<GrammarWorker, OpenRow[]>();
    for (const row of rows) {
      if (!(row instanceof OpenRow)) throw new Error('a row of another service');
      if (row.ready) continue;
      const { worker } = row.entry.home;
      if (row.pending !== null) updates.add(row.pending);
      else workers.set(worker, [...(workers.get(worker) ?? []), row]);
    }
    for (const [worker, together] of workers) {
      const update = { done: this.#step(worker, together), slow: this.#slow.has(worker) };
      for (const row of together) row.pending = update;
      updates.add(update);
    }
    return [...updates];
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#workers].map((worker) => worker.stop()));
  }

  async #step(worker: GrammarWorker, rows: readonly OpenRow[]): Promise<void> {
    try {
      const stepped = await worker.step(rows.map((row) => row.take()));
      for (const [at, row] of rows.entries()) {
        row.updated(stepped, at, worker.words);
        if (row.spentMs > WINDOW * MAX_SLOW_MASK_MS) row.fail(TOO_SLOW);
        else if (row.spentMs > WINDOW * MAX_MASK_MS) this.#move(row.entry);
      }
    } catch (error) {
      const lost =
        error instanceof GrammarWorkerLost ? error : new GrammarWorkerLost(String(error), 'failed');
      for (const row of rows) row.fail(lostAnswer(lost));
      this.#drop(worker, lost);
    }
  }

  async #compile(
    key: string,
    asked: AskedForm,
    turn: CompileTurn,
  ): Promise<Result<GrammarEntry, ApiError> | 'later'> {
    // Another tenant's, meanwhile.
    const known = this.#cache.find(key);
    if (known !== null) return ok(known);
    const started = this.#spare.length > 0 ? ok(this.#spare.pop()!) : await this.#start();
    if (!started.ok) return started;
    const spare = started.value;
    const id = this.#newId();
    let later = false;
    const compiled = await this.#tryOn(spare, id, asked, () => {
      later = !turn.takesLong();
      if (later) this.#drop(spare, null);
    });
    if (later) return 'later';
    if (compiled.ok && compiled.value.ms > QUICK_MS) {
      const { characters } = compiled.value;
      turn.takesLong();
      return this.#keepSlow({ key, asked, characters, home: { worker: spare, id } });
    }
    const made = compiled.ok ? await this.#serve(key, asked) : compiled;
    if (this.#workers.has(spare)) {
      if (compiled.ok) spare.forget(id);
      this.#spare.push(spare);
    }
    return made;
  }

  /** Compiles, beside rows, what is known to compile quickly. */
  async #serve(key: string, asked: AskedForm): Promise<Result<GrammarEntry, ApiError>> {
    const worker = await this.#servingWorker(servingOf(asked));
    if (!worker.ok) return worker;
    const home = { worker: worker.value, id: this.#newId() };
    const compiled = await this.#tryOn(home.worker, home.id, asked);
    if (!compiled.ok) return compiled.error.code === 'origin_unavailable' ? compiled : err(NOT_COMPILED);
    return ok(this.#cache.add({ key, asked, characters: compiled.value.characters, home }));
  }

  /** A worker that fails at it is dropped. */
  async #tryOn(
    worker: GrammarWorker,
    id: number,
    asked: AskedForm,
    onLong?: () => void,
  ): Promise<Result<Extract<Compiled, { kind: 'compiled' }>, ApiError>> {
    const param = asked.tools === null ? issuePath(asked.constraint?.path ?? []) : 'tools';
    const refuse = (what: string): Result<never, ApiError> =>
      err({ code: 'invalid_request', message: `'${param}' ${what}.`, param });
    try {
      const compiled = await worker.compile(id, asked, onLong);
      if (compiled.kind === 'compiled') return ok(compiled);
      if (compiled.kind === 'refused') return err(compiled.error);
      // An instance that has refused a grammar is not whole any more.
      this.#drop(worker, null);
      return refuse(`does not compile: ${compiled.reason}`);
    } catch (error) {
      if (!(error instanceof GrammarWorkerLost)) throw error;
      this.#drop(worker, error);
      if (this.#closed) return err(CLOSED);
      if (error.reason === 'starved') return err(tooBusy(`'${param}' could not be compiled in time`));
      return refuse(
        error.reason === 'work'
          ? 'takes too long to compile; lengths and repetitions with bounds cost most'
          : 'cannot be compiled by this server',
      );
    }
  }

  #keepSlow(made: Parameters<GrammarCache['add']>[0]): Result<GrammarEntry, ApiError> {
    const { worker, id } = made.home;
    if (!this.#mayBeSlow()) {
      worker.forget(id);
      this.#spare.push(worker);
      return tooManyAtOnce();
    }
    this.#slow.add(worker);
    return ok(this.#cache.add(made));
  }

  /** Makes room for one more slow worker, where nobody needs one that there is. */
  #mayBeSlow(): boolean {
    if (this.#slow.size < MAX_SLOW_WORKERS) return true;
    const idle = [...this.#slow].find((worker) => this.#cache.heldIn(worker) === 0);
    if (idle !== undefined) this.#drop(idle, null);
    return idle !== undefined;
  }

  /** Its rows go on where they are until it is compiled there, and then begin with all their tokens. One at a time. */
  #move(entry: GrammarEntry): void {
    if (entry.moved) return;
    entry.moved = true;
    this.#moving = this.#moving.then(() => this.#moveNow(entry));
  }

  async #moveNow(entry: GrammarEntry): Promise<void> {
    const worker =
      this.#isOpen(entry) && !this.#slow.has(entry.home.worker) ? await this.#slowWorker() : null;
    if (worker === null) return;
    const home = { worker, id: this.#newId() };
    const compiled = await this.#tryOn(worker, home.id, entry.asked);
    if (!compiled.ok) return;
    if (!this.#isOpen(entry)) {
      worker.forget(home.id);
      return;
    }
    const left = entry.home;
    entry.home = home;
    for (const row of entry.rows) row.leave();
    left.worker.forget(left.id);
  }

  #isOpen(entry: GrammarEntry): boolean {
    return !this.#closed && this.#cache.has(entry);
  }

  /** A new one, or the one with the fewest grammars. @returns null when it cannot be started. */
  async #slowWorker(): Promise<GrammarWorker | null> {
    if (this.#mayBeSlow()) {
      const started = await this.#start();
      if (!started.ok) return null;
      // Others may have come meanwhile.
      if (this.#mayBeSlow()) {
        started.value.giveWay();
        this.#slow.add(started.value);
        return started.value;
      }
      this.#drop(started.value, null);
    }
    const workers = [...this.#slow].sort((a, b) => this.#cache.heldIn(a) - this.#cache.heldIn(b));
    return workers[0] ?? null;
  }

  #lend(entry: GrammarEntry): Grammar {
    entry.holders += 1;
    let held = true;
    return {
      open: () => {
        entry.holders += 1;
        return new OpenRow(entry, this.#newId);
      },
      release: () => {
        if (held) entry.holders -= 1;
        held = false;
      },
    };
  }

  readonly #newId = (): number => {
    this.#ids += 1;
    return this.#ids;
  };

  /** @param error null: nobody needs to hear of it. */
  #drop(worker: GrammarWorker, error: GrammarWorkerLost | null): void {
    if (!this.#workers.delete(worker)) return;
    if (error !== null) this.#options.onFault?.('grammar', error);
    this.#cache.dropWorker(worker);
    this.#slow.delete(worker);
    void worker.stop();
  }

  async #servingWorker(which: Serving): Promise<Result<GrammarWorker, ApiError>> {
    for (;;) {
      const known = this.#serving.get(which);
      if (known === undefined) {
        const starting = this.#start();
        this.#serving.set(which, starting);
        return starting;
      }
      const running = await known;
      if (running.ok && this.#workers.has(running.value)) return running;
      if (this.#serving.get(which) === known) this.#serving.delete(which);
    }
  }

  async #start(): Promise<Result<GrammarWorker, ApiError>> {
    if (this.#closed) return err(CLOSED);
    const { startWorker, tokens, onFault } = this.#options;
    try {
      const worker = await startWorker({ tokens });
      this.#workers.add(worker);
      if (!this.#closed) return ok(worker);
      await worker.stop();
      return err(CLOSED);
    } catch (error) {
      onFault?.('grammar', error);
      const starved = error instanceof GrammarWorkerLost && error.reason === 'starved';
      return err(starved ? tooBusy('The grammar compiler did not start in time') : UNAVAILABLE);
    }
  }
}

/** The same for all who ask for the same; descriptions of functions are often written anew. */
function keyOf({ constraint, tools }: AskedForm): string {
  if (tools === null) return JSON.stringify([constraint]);
  const functions = tools.use.functions.map(({ name, parameters, strict }) => [name, parameters, strict]);
  return JSON.stringify([constraint, { ...tools, use: { ...tools.use, functions } }]);
}

/** What makes a form one that is never compiled. */
const REFUSALS: readonly string[] = ['invalid_request', 'unsupported_parameter'] satisfies ApiError['code'][];

const UNAVAILABLE: ApiError = {
  code: 'internal_error',
  message: 'Structured output is unavailable. Retry in a few seconds.',
};

const NOT_COMPILED: ApiError = { code: 'internal_error', message: 'The grammar could not be compiled.' };

const CLOSED: ApiError = {
  code: 'origin_unavailable',
  message: 'The server is stopping.',
  retryAfterMs: 1_000,
};

const tooBusy = (what: string): ApiError => ({
  code: 'origin_unavailable',
  message: `${what}: this server is too busy. Retry in a few seconds.`,
  retryAfterMs: BUSY_RETRY_MS,
});

const TOO_SLOW: ApiError = {
  code: 'invalid_request',
  message:
    `The grammar takes too long per token: more than ${MAX_SLOW_MASK_MS} ms on average over ${WINDOW}. ` +
    'Make it unambiguous: each text should have only one derivation.',
  param: null,
};

function lostAnswer({ reason }: GrammarWorkerLost): ApiError {
  if (reason === 'starved') return tooBusy("The next token's constraint was not computed in time");
  const message = reason === 'work' ? 'it takes too long' : 'the server lost its state';
  return {
    code: 'internal_error',
    message: `The answer can no longer be constrained by its schema or grammar: ${message}.`,
  };
}

const NOTHING = new Int32Array(0);

/** Where one answer stands. */
class OpenRow implements RowGrammar {
  readonly entry: GrammarEntry;
  mask: Int32Array = NOTHING;
  failure: ApiError | null = null;
  ready = false;
  /** Its mask is being found. */
  pending: MaskUpdate | null = null;
  readonly #newId: () => number;
  /** Where it is open; null = nowhere yet, or not any more. */
  #open: { readonly worker: GrammarWorker; readonly row: number } | null = null;
  /** All, so that it can begin anew elsewhere. */
  readonly #tokens: number[] = [];
  #taken = 0;
  /** The next step takes in what was taken in before, elsewhere: that says nothing about the next one. */
  #replays = false;
  /** What its last masks took, ms. */
  #times: number[] = [];
  #closed = false;

  constructor(entry: GrammarEntry, newId: () => number) {
    this.entry = entry;
    this.#newId = newId;
    entry.rows.add(this);
  }

  /** By its last masks, ms. */
  get spentMs(): number {
    return this.#times.reduce((sum, ms) => sum + ms, 0);
  }

  accept(id: number): void {
    this.#tokens.push(id);
    this.ready = false;
  }

  /** What the next step takes in. */
  take(): GrammarWorkerRow {
    if (this.#open === null) {
      const { worker, id } = this.entry.home;
      this.#open = { worker, row: this.#newId() };
      this.#replays = this.#tokens.length > 1;
      worker.open(this.#open.row, id);
    }
    const accepted = this.#tokens.slice(this.#taken);
    this.#taken = this.#tokens.length;
    return { row: this.#open.row, accepted };
  }

  /** @param at of the step's rows. @param words of a mask. */
  updated({ masks, rows }: Stepped, at: number, words: number): void {
    const { failure, ms } = rows[at]!;
    if (!this.#replays) this.#times = [...this.#times, ms].slice(-WINDOW);
    this.#replays = false;
    this.mask = masks.subarray(at * words, (at + 1) * words);
    if (failure !== null)
      this.failure = {
        code: 'invalid_request',
        message: `The answer cannot continue: its grammar ${failure}.`,
        param: null,
      };
    this.pending = null;
    this.ready = true;
  }

  fail(error: ApiError): void {
    this.failure ??= error;
    this.pending = null;
    this.ready = true;
  }

  /** Its grammar has another home: the next step begins anew there. What is being found is still right. */
  leave(): void {
    this.#open?.worker.close(this.#open.row);
    this.#open = null;
    this.#taken = 0;
    this.#times = [];
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.leave();
    this.entry.rows.delete(this);
    this.entry.holders -= 1;
  }
}
