/**
 * Fine-tuning jobs of this origin: what each waits for, one training at a time, its pauses, its deaths and its end.
 * Edges ask, and the origin never calls out.
 */
import { type ApiError, err, ok, type Result } from '../../protocol/api-error.ts';
import {
  diedForMemory,
  type TrainingEnd,
  type TrainingEvent,
  type TrainingFailure,
} from '../../protocol/training.ts';
import {
  type JobDeclaration,
  type JobEvent,
  type JobFailure,
  type JobList,
  type JobReport,
  type JobState,
  MAX_JOB_EVENTS_AT_ONCE,
  type TrainingJobId,
} from '../../protocol/training-jobs.ts';
import type { AdapterFileStore } from '../adapter-files/adapter-store.ts';
import {
  type JobRecord,
  type JobResult,
  type JobStore,
  partBytes,
  partCount,
  type StoredJob,
} from './job-store.ts';
import type { StartTraining, Training } from './start-training.ts';

/** An origin deletes a job that no edge has asked about for so long: its edge is gone. */
export const JOB_UNHEARD_MS = 24 * 60 * 60 * 1000;
/**
 * … or, of a job that holds the origin and has not begun, for so long. Edges ask every minute; one that comes back
 * declares it again.
 */
export const JOB_UNBEGUN_MS = 15 * 60 * 1000;
/** After a start, edges have at least this long to ask. */
const HEARD_AGAIN_MS = 60 * 60 * 1000;
/** Between two looks at what a job waits for. */
export const JOB_TICK_MS = 2_000;
/** From the signal to save and end until it is killed: a step of a large base takes half a minute. */
export const STOP_PATIENCE_MS = 40_000;
/** Jobs on the disk of an origin: the one that goes on, paused ones, and those whose result nobody has fetched. */
export const MAX_HELD_JOBS = 16;
/** Lines of a story with a step's loss. */
export const STORY_STEPS = 1_000;
/** Lines of a story, however often it is paused. */
const MAX_EVENTS = 5_000;
/** Starts of the origin that a training does not survive: it may be what kills it. */
const MAX_UNFINISHED_STARTS = 3;
const BUSY_RETRY_MS = 15_000;
const DISK_RETRY_MS = 10_000;

export type JobOutcome = 'done' | 'failed' | 'deleted';

export interface JobsOptions {
  store: JobStore;
  /** Digest of the base. */
  base: string;
  files: Pick<AdapterFileStore, 'status' | 'read' | 'keep'>;
  start: StartTraining;
  /** @returns why there is too little memory for it now; null = it fits. */
  memoryProblem: (declaration: JobDeclaration) => string | null;
  /** Wall clock, unix ms. */
  now: () => number;
  /** Calls back once. @returns what cancels it. */
  timer: (ms: number, callback: () => void) => () => void;
  onEnd: (id: TrainingJobId, outcome: JobOutcome) => void;
  /** Why a training failed, for the operator; owners are told less of what lies on this machine. */
  onTrouble: (id: TrainingJobId, code: JobFailure, reason: string) => void;
  onFault: (error: unknown) => void;
}

interface Job {
  readonly id: TrainingJobId;
  readonly record: JobRecord;
  readonly parts: Set<number>;
  readonly events: JobEvent[];
  /** Lets the origin evict the files of its chain again. */
  letGo: (() => void) | null;
  /** Of what is left, as the program said last; null = not known. */
  secondsLeft: number | null;
}

type WhyStopped = 'paused' | 'too_long' | 'dropped' | 'halted';

interface Running {
  readonly job: Job;
  readonly training: Training;
  readonly startedAt: number;
  /** null = it was not told to end. */
  why: WhyStopped | null;
  readonly cancels: (() => void)[];
  /** A step whose line waits for its held-out loss. */
  step: { step: number; loss: number } | null;
  /** Settles when its end has been dealt with. */
  over: Promise<void>;
}

const NOT_THERE: ApiError = { code: 'not_found', message: 'This origin has no such job.' };

export class Jobs {
  readonly #options: JobsOptions;
  readonly #jobs = new Map<TrainingJobId, Job>();
  #running: Running | null = null;
  /** Between `begin` and `halt`. */
  #isOpen = false;
  #cancelTick: (() => void) | null = null;
  /** Changes come one after the other. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: JobsOptions) {
    this.#options = options;
    const { store, now } = options;
    for (const stored of store.found) this.#jobs.set(stored.id, readStored(stored, now()));
  }

  /** Trainings that run now: 0 or 1. */
  get running(): number {
    return this.#running === null ? 0 : 1;
  }

  /** Goes on with what ran, and looks after the jobs from now on. */
  begin(): void {
    this.#isOpen = true;
    this.#tick();
  }

  /** Makes the training save a checkpoint and end, and starts none: the next start of the origin goes on with it. */
  async halt(): Promise<void> {
    this.#isOpen = false;
    this.#cancelTick?.();
    // One may just be starting.
    await this.#inTurn(() => Promise.resolve());
    this.#stop('halted');
    await this.#running?.over;
    await this.#options.store.flush();
  }

  list(): JobList {
    const jobs = [...this.#jobs.values()].map((job) => ({
      id: job.id,
      tenant: job.record.declaration.tenant,
      state: this.#stateOf(job),
    }));
    return { trains: true, jobs };
  }

  /**
   * Errors: `version_conflict` (another declaration has this id), `queue_full` (another job goes on here),
   * `invalid_request` (too little memory).
   */
  declare(id: TrainingJobId, declaration: JobDeclaration): Promise<Result<JobReport, ApiError>> {
    return this.#change(id, async (known) => {
      if (known !== null) {
        if (JSON.stringify(known.record.declaration) === JSON.stringify(declaration)) return ok(undefined);
        return err({ code: 'version_conflict', message: 'This id belongs to a job with other settings.' });
      }
      const busy = this.#busy(null);
      if (busy !== null) return err(busy);
      const problem = this.#options.memoryProblem(declaration);
      if (problem !== null) return err({ code: 'invalid_request', message: problem, param: null });
      const record: JobRecord = {
        declaration,
        base: this.#options.base,
        heard_at: this.#options.now(),
        paused: false,
        received: false,
        ran_ms: 0,
        step: 0,
        steps: 0,
        tokens: 0,
        deaths: 0,
        unfinished_starts: 0,
        end: null,
      };
      try {
        await this.#options.store.save(id, record);
      } catch (error) {
        // A full disk may have taken the folder and not the record.
        await this.#options.store.remove(id);
        throw error;
      }
      this.#jobs.set(id, newJob({ id, record, parts: new Set(), events: [] }));
      return ok(undefined);
    });
  }

  /** @returns bytes of a part of its rows, or null if there is no such job or part. */
  partBytes(id: TrainingJobId, part: number): number | null {
    const job = this.#jobs.get(id);
    const bytes = job === undefined ? 0 : partBytes(job.record.declaration, part);
    return bytes === 0 ? null : bytes;
  }

  /** Errors: `invalid_request` (the part's length, or the sha256 of the whole, is another). */
  putPart(id: TrainingJobId, part: number, bytes: Uint8Array): Promise<Result<JobReport, ApiError>> {
    return this.#change(id, async (job) => {
      if (job === null) return err(NOT_THERE);
      const { record, parts } = job;
      if (record.received || record.end !== null || parts.has(part)) return ok(undefined);
      const { declaration } = record;
      const wanted = partBytes(declaration, part);
      if (wanted === 0 || bytes.length !== wanted) {
        const message = `Part ${part} has ${wanted} bytes; the request has ${bytes.length}.`;
        return err({ code: 'invalid_request', message, param: String(part) });
      }
      await this.#options.store.putPart(id, part, bytes);
      parts.add(part);
      if (parts.size < partCount(declaration)) return ok(undefined);
      // Whether they are the declared rows or not, and if the disk is full: then they are sent again.
      parts.clear();
      const wrong = await this.#options.store.joinParts(id, declaration);
      if (wrong !== null) {
        const message = 'The rows are not those that were declared: their sha256 differs.';
        return err({ code: 'invalid_request', message, param: `${wrong}.sha256` });
      }
      await this.#save(job, { received: true });
      return ok(undefined);
    });
  }

  /** @param after number of the last event that the edge has. */
  async report(id: TrainingJobId, after: number): Promise<Result<JobReport, ApiError>> {
    const job = this.#jobs.get(id);
    if (job === undefined) return err(NOT_THERE);
    job.record.heard_at = this.#options.now();
    return ok(await this.#reportOf(job, after));
  }

  /** It may be waiting, too: then it does not start. Changes nothing at a job that has ended. */
  pause(id: TrainingJobId): Promise<Result<JobReport, ApiError>> {
    return this.#change(id, async (job) => {
      if (job === null) return err(NOT_THERE);
      if (job.record.end !== null || job.record.paused) return ok(undefined);
      await this.#save(job, { paused: true });
      if (this.#running?.job !== job) this.#tell(job, 'info', 'Paused.');
      return ok(undefined);
    });
  }

  /** Errors: `queue_full`: another job goes on here. */
  resume(id: TrainingJobId): Promise<Result<JobReport, ApiError>> {
    return this.#change(id, async (job) => {
      if (job === null) return err(NOT_THERE);
      if (job.record.end !== null || !job.record.paused) return ok(undefined);
      const busy = this.#busy(job);
      if (busy !== null) return err(busy);
      await this.#save(job, { paused: false });
      this.#tell(job, 'info', 'Resumed.');
      return ok(undefined);
    });
  }

  /** Ends it and removes all that is of it, before it resolves. @returns whether there was such a job. */
  remove(id: TrainingJobId): Promise<boolean> {
    return this.#inTurn(() => this.#remove(id));
  }

  /** These adapters are erased: jobs that train on one fail, and their copies are removed before it resolves. */
  dropAdapters(digests: ReadonlySet<string>): Promise<void> {
    return this.#inTurn(async () => {
      for (const job of this.#jobs.values()) {
        if (job.record.end !== null || !digestsOf(job).some((digest) => digests.has(digest))) continue;
        const running = this.#running;
        if (running?.job === job) {
          running.why = 'dropped';
          running.training.kill();
          await running.training.ended;
          this.#forget(running);
        }
        await this.#fail(job, 'base_mismatch', DROPPED);
      }
    });
  }

  /**
   * @param step of a checkpoint; null = the result.
   * @returns where the packed adapter is, and its bytes; null unless the job is done and has it.
   */
  result(id: TrainingJobId, step: number | null = null): { path: string; bytes: number } | null {
    const { store, now } = this.#options;
    const job = this.#jobs.get(id);
    if (job?.record.end?.state !== 'done') return null;
    job.record.heard_at = now();
    const { result, checkpoints } = job.record.end;
    if (step === null) return { path: store.resultPath(id), bytes: result.bytes };
    const checkpoint = checkpoints.find(({ card }) => card.steps === step);
    return checkpoint === undefined
      ? null
      : { path: store.checkpointPath(id, step), bytes: checkpoint.bytes };
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(work);
    this.#last = done.catch(() => undefined);
    return done;
  }

  /** Runs a change in its turn, then does what follows from it. */
  async #change(
    id: TrainingJobId,
    work: (job: Job | null) => Promise<Result<void, ApiError>>,
  ): Promise<Result<JobReport, ApiError>> {
    const changed = await this.#inTurn(async () => {
      try {
        const result = await work(this.#jobs.get(id) ?? null);
        await this.#drive();
        return result;
      } catch (error) {
        return err(diskRefusal(error));
      }
    });
    return changed.ok ? this.report(id, Infinity) : changed;
  }

  #tick(): void {
    void this.#inTurn(() => this.#look())
      .catch(this.#options.onFault)
      .finally(() => {
        if (this.#isOpen) this.#cancelTick = this.#options.timer(JOB_TICK_MS, () => this.#tick());
      });
  }

  async #look(): Promise<void> {
    const { now } = this.#options;
    for (const job of [...this.#jobs.values()])
      if (now() - job.record.heard_at > patienceWith(this.#stateOf(job))) await this.#remove(job.id);
    await this.#driveIfPossible();
  }

  /** A full disk is no fault, and may have room at the next look. */
  async #driveIfPossible(): Promise<void> {
    await this.#drive().catch((error: unknown) => {
      if (!isOfDisk(error)) this.#options.onFault(error);
    });
  }

  /** The job that goes on, or is about to: at most one. */
  #current(): Job | null {
    for (const job of this.#jobs.values()) if (job.record.end === null && !job.record.paused) return job;
    return null;
  }

  #busy(except: Job | null): ApiError | null {
    const current = this.#current();
    const retryAfterMs = BUSY_RETRY_MS;
    if (current !== null && current !== except)
      return { code: 'queue_full', message: 'Another job is trained on this origin.', retryAfterMs };
    if (except === null && this.#jobs.size >= MAX_HELD_JOBS)
      return { code: 'queue_full', message: 'This origin has as many jobs as it keeps.', retryAfterMs };
    return null;
  }

  /** Stops what should not run, and starts what can. */
  async #drive(): Promise<void> {
    const current = this.#current();
    for (const job of this.#jobs.values())
      if (job !== current) {
        job.letGo?.();
        job.letGo = null;
      }
    if (this.#running !== null && this.#running.job !== current) this.#stop('paused');
    if (current === null) return;
    if (!this.#hasChain(current)) current.letGo ??= this.#options.files.keep(digestsOf(current));
    if (!this.#isOpen || !current.record.received) return;
    if (this.#running !== null || !(await this.#takeChain(current))) return;
    await this.#start(current);
  }

  /** Copies the adapters of the chain when all are there. @returns whether they are. */
  async #takeChain(job: Job): Promise<boolean> {
    const { store, files } = this.#options;
    if ((await this.#missingAdapters(job)).length > 0) return false;
    for (const digest of digestsOf(job)) {
      if (store.hasAdapter(job.id, digest)) continue;
      const bytes = await files.read(digest);
      if (bytes === null) return false;
      await store.putAdapter(job.id, digest, bytes);
    }
    job.letGo?.();
    job.letGo = null;
    return true;
  }

  async #missingAdapters(job: Job): Promise<string[]> {
    const { store, files } = this.#options;
    if (job.record.end !== null) return [];
    const missing: string[] = [];
    for (const digest of digestsOf(job))
      if (!store.hasAdapter(job.id, digest) && (await files.status(digest)) !== 'held') missing.push(digest);
    return missing;
  }

  /** Its copies of the adapters are all there. */
  #hasChain(job: Job): boolean {
    return digestsOf(job).every((digest) => this.#options.store.hasAdapter(job.id, digest));
  }

  async #start(job: Job): Promise<void> {
    const { store, start, now, timer, base } = this.#options;
    const { declaration, ran_ms: ranMs, unfinished_starts: starts } = job.record;
    if (job.record.base !== base) return this.#fail(job, 'base_mismatch', OTHER_BASE);
    const left = declaration.max_seconds * 1_000 - ranMs;
    if (left <= 0) return this.#fail(job, 'too_long', tooLong(declaration));
    if (starts >= MAX_UNFINISHED_STARTS)
      return this.#fail(job, 'training_failed', 'The origin ended several times during this training.');
    const resume = store.hasCheckpoint(job.id);
    const { adapter, validation, checkpoints, ...paths } = await store.prepare(job.id);
    await this.#save(job, { unfinished_starts: starts + 1 });
    this.#tell(job, 'info', resume ? 'The training goes on from its checkpoint.' : 'The training starts.');
    const running: Running = {
      job,
      training: start({
        ...paths,
        validation: declaration.validation === undefined ? null : validation,
        checkpoints: declaration.checkpoints === true ? checkpoints : null,
        request: declaration.request,
        chain: declaration.chain.map((entry) => ({ ...entry, path: adapter(entry.digest) })),
        resume,
        onEvent: (event) => this.#hear(running, event),
      }),
      startedAt: now(),
      why: null,
      cancels: [],
      step: null,
      over: Promise.resolve(),
    };
    running.cancels.push(
      timer(left, () => {
        running.why ??= 'too_long';
        running.training.kill();
      }),
    );
    running.over = running.training.ended.then((end) =>
      this.#inTurn(() => this.#ended(running, end)).catch(this.#options.onFault),
    );
    this.#running = running;
  }

  /** Tells the training to save and end. */
  #stop(why: WhyStopped): void {
    const running = this.#running;
    if (running === null || running.why !== null) return;
    running.why = why;
    running.training.stop();
    running.cancels.push(this.#options.timer(STOP_PATIENCE_MS, () => running.training.kill()));
  }

  #forget(running: Running): void {
    for (const cancel of running.cancels) cancel();
    if (this.#running === running) this.#running = null;
  }

  #ranMs(job: Job): number {
    const { now } = this.#options;
    const { ran_ms: before } = job.record;
    return this.#running?.job === job ? before + Math.max(0, now() - this.#running.startedAt) : before;
  }

  #hear(running: Running, event: TrainingEvent): void {
    const { job } = running;
    if (event.event !== 'held_out') this.#tellStep(running, null);
    switch (event.event) {
      case 'rows':
        return this.#tell(job, 'info', rowsText(event));
      case 'plan':
        job.record.steps = event.steps;
        job.secondsLeft = event.seconds;
        return;
      case 'step':
        job.record.step = event.step;
        job.record.steps = event.steps;
        job.record.tokens = event.tokens;
        job.secondsLeft = event.seconds_left;
        running.step = { step: event.step, loss: event.loss };
        return;
      case 'held_out':
        if (running.step?.step !== event.step) running.step = null;
        return this.#tellStep(running, { step: event.step, loss: event.loss });
      case 'saved':
        job.record.unfinished_starts = 0;
        void this.#inTurn(() => this.#save(job, {})).catch(() => undefined);
        return;
      default:
    }
  }

  /** A line for a step, unless an earlier run told it, or it is one of very many. */
  #tellStep(running: Running, heldOut: { step: number; loss: number } | null): void {
    const { job, step: trained } = running;
    const step = heldOut?.step ?? trained?.step;
    running.step = null;
    if (step === undefined) return;
    const { steps } = job.record;
    const told = job.events.findLast(({ metrics }) => metrics !== null)?.metrics ?? null;
    // An earlier run may have ended between a step and its score.
    const isNew =
      told === null ||
      step > told.step ||
      (step === told.step && heldOut !== null && told.valid_loss === null);
    const isShown = heldOut !== null || step === steps || step % Math.ceil(steps / STORY_STEPS) === 0;
    if (!isNew || !isShown) return;
    const losses = [
      ...(trained === null ? [] : [`training loss ${shortNumber(trained.loss)}`]),
      ...(heldOut === null ? [] : [`validation loss ${shortNumber(heldOut.loss)}`]),
    ].join(', ');
    const where = step === 0 ? 'Before the first step' : `Step ${step} of ${steps}`;
    this.#tell(job, 'info', `${where}: ${losses}`, {
      step,
      total_steps: steps,
      train_loss: trained?.loss ?? null,
      valid_loss: heldOut?.loss ?? null,
    });
  }

  #tell(job: Job, level: JobEvent['level'], message: string, metrics: JobEvent['metrics'] = null): void {
    if (job.events.length >= MAX_EVENTS && level !== 'error') return;
    const number = (job.events.at(-1)?.number ?? 0) + 1;
    const event: JobEvent = { number, at: this.#options.now(), level, message: shortText(message), metrics };
    job.events.push(event);
    this.#options.store.tell(job.id, event);
  }

  /** A training's process has ended. */
  async #ended(running: Running, end: TrainingEnd): Promise<void> {
    const { job, why } = running;
    // Dealt with by whoever killed it.
    if (this.#jobs.get(job.id) !== job || why === 'dropped') return;
    const ranMs = this.#ranMs(job);
    this.#tellStep(running, null);
    this.#forget(running);
    job.secondsLeft = null;
    await this.#saveIfPossible(job, { ran_ms: ranMs, unfinished_starts: 0 });
    await this.#settle(job, why, end);
    // One that somebody else stopped goes on at the next look: the whole machine may be ending.
    if (end.event !== 'stopped' || why !== null) await this.#driveIfPossible();
  }

  async #settle(job: Job, why: WhyStopped | null, end: TrainingEnd): Promise<void> {
    const { store, onTrouble } = this.#options;
    if (end.event === 'ready') {
      let result: { bytes: number; digest: string };
      const checkpoints: JobResult[] = [];
      try {
        for (const card of end.checkpoints ?? [])
          checkpoints.push({ ...(await store.readCheckpoint(job.id, card.steps)), card });
        result = await store.takeResult(job.id);
      } catch (error) {
        onTrouble(job.id, 'training_failed', String(error));
        return this.#fail(job, 'training_failed', FAILED);
      }
      this.#tell(job, 'info', 'The training is done.');
      return this.#finish(job, { state: 'done', result: { ...result, card: end.card }, checkpoints });
    }
    if (why === 'too_long') return this.#fail(job, 'too_long', tooLong(job.record.declaration));
    if (end.event === 'failed') {
      // What is wrong with rows may quote them, and their owner hears of it.
      if (!OWN_WORDS.has(end.code)) onTrouble(job.id, end.code, end.message);
      // Only a power cut damages a checkpoint: from the start, once.
      if (end.code === 'checkpoint_damaged' && job.record.deaths === 0) {
        await store.dropCheckpoint(job.id);
        await this.#saveIfPossible(job, { deaths: 1 });
        return this.#tell(job, 'warn', 'The checkpoint is damaged. The training starts again.');
      }
      return this.#fail(job, end.code, failureText(end));
    }
    if (end.event === 'stopped' || why !== null) {
      const { step, steps } = job.record;
      if (why === 'paused')
        this.#tell(job, 'info', step === 0 ? 'Paused.' : `Paused at step ${step} of ${steps}.`);
      return;
    }
    onTrouble(job.id, 'training_failed', `${end.signal ?? `code ${end.exitCode}`}: ${end.log.join('\n')}`);
    if (diedForMemory(end)) return this.#fail(job, 'out_of_memory', NEEDS_MEMORY);
    if (job.record.deaths > 0) return this.#fail(job, 'training_failed', FAILED);
    await this.#saveIfPossible(job, { deaths: 1 });
    this.#tell(job, 'warn', 'The training ended unexpectedly. It is started again.');
  }

  async #fail(job: Job, code: JobFailure, message: string): Promise<void> {
    this.#tell(job, 'error', message);
    await this.#finish(job, { state: 'failed', failure: { code, message: shortText(message) } });
  }

  async #finish(job: Job, end: JobRecord['end'] & object): Promise<void> {
    const { store, onEnd } = this.#options;
    job.letGo?.();
    job.letGo = null;
    const isSaved = await this.#saveIfPossible(job, { end });
    await store.strip(job.id, { checkpoints: end.state === 'failed' });
    // On a full disk there is room now.
    if (!isSaved) await this.#saveIfPossible(job, { end });
    onEnd(job.id, end.state);
  }

  async #remove(id: TrainingJobId): Promise<boolean> {
    const job = this.#jobs.get(id);
    if (job === undefined) return false;
    const running = this.#running;
    this.#jobs.delete(id);
    if (running?.job === job) {
      running.training.kill();
      // Not `over`, which may be waiting for this turn to end.
      await running.training.ended;
      this.#forget(running);
    }
    job.letGo?.();
    await this.#options.store.remove(id);
    if (job.record.end === null) this.#options.onEnd(id, 'deleted');
    await this.#driveIfPossible();
    return true;
  }

  /** Changes the record on the disk, then here: where the disk is full, nothing has changed. */
  async #save(job: Job, change: Partial<JobRecord>): Promise<void> {
    // What was still to be written of one that is deleted would bring it back.
    if (this.#jobs.get(job.id) !== job) return;
    await this.#options.store.save(job.id, { ...job.record, ran_ms: this.#ranMs(job), ...change });
    Object.assign(job.record, change);
  }

  /** Where the disk is full, it is changed here alone. @returns whether it is written. */
  async #saveIfPossible(job: Job, change: Partial<JobRecord>): Promise<boolean> {
    Object.assign(job.record, change);
    try {
      await this.#save(job, change);
      return true;
    } catch (error) {
      if (isOfDisk(error)) return false;
      throw error;
    }
  }

  #stateOf(job: Job): JobState {
    const { record } = job;
    if (record.end !== null) return record.end.state;
    if (record.paused) return 'paused';
    if (!record.received) return 'receiving';
    return this.#hasChain(job) ? 'running' : 'waiting';
  }

  async #reportOf(job: Job, after: number): Promise<JobReport> {
    const { id, record, parts, events, secondsLeft } = job;
    const { end } = record;
    const count = record.received || end !== null ? 0 : partCount(record.declaration);
    return {
      id,
      state: this.#stateOf(job),
      missing_parts: Array.from({ length: count }, (_, part) => part).filter((part) => !parts.has(part)),
      missing_adapters: await this.#missingAdapters(job),
      step: record.step,
      steps: record.steps,
      tokens: record.tokens,
      seconds_left: end === null ? secondsLeft : null,
      failure: end?.state === 'failed' ? end.failure : null,
      result: end?.state === 'done' ? end.result : null,
      checkpoints: end?.state === 'done' ? end.checkpoints : [],
      events: events.filter(({ number }) => number > after).slice(0, MAX_JOB_EVENTS_AT_ONCE),
    };
  }
}

const digestsOf = ({ record }: Job): string[] => record.declaration.chain.map(({ digest }) => digest);

const newJob = ({ id, record, parts, events }: StoredJob): Job => ({
  id,
  record,
  parts: new Set(parts),
  events: [...events],
  letGo: null,
  secondsLeft: null,
});

const patienceWith = (state: JobState): number =>
  state === 'receiving' || state === 'waiting' ? JOB_UNBEGUN_MS : JOB_UNHEARD_MS;

function readStored(stored: StoredJob, now: number): Job {
  const { received, paused } = stored.record;
  const latest = received || paused ? now - JOB_UNHEARD_MS + HEARD_AGAIN_MS : now;
  const heard_at = Math.max(stored.record.heard_at, latest);
  return newJob({ ...stored, record: { ...stored.record, heard_at } });
}

const isOfDisk = (error: unknown): boolean => (error as NodeJS.ErrnoException).code !== undefined;

/** @throws `error` when it is not the file system's. */
function diskRefusal(error: unknown): ApiError {
  if (!isOfDisk(error)) throw error;
  const { code } = error as NodeJS.ErrnoException;
  return {
    code: 'origin_unavailable',
    message: `The origin's disk cannot store the job (${code}).`,
    retryAfterMs: DISK_RETRY_MS,
  };
}

/** Of a report and its events. */
const MAX_MESSAGE = 2_000;
const shortText = (text: string): string => text.slice(0, MAX_MESSAGE);

/** Three digits, such as 2.41 and 0.0123. */
const shortNumber = (value: number): string => String(Number(value.toPrecision(3)));

const tooLong = ({ max_seconds: seconds }: JobDeclaration): string =>
  `The training was ended after ${seconds} seconds, the most that a job may run. Train on fewer rows, or for fewer epochs.`;

function rowsText({ trained, held_out: heldOut, left_out: leftOut, tokens }: RowsEvent): string {
  const parts = [
    `${trained} ${trained === 1 ? 'row' : 'rows'} to train on (${tokens} tokens)`,
    ...(heldOut === 0 ? [] : [`${heldOut} held out`]),
    ...(leftOut === 0 ? [] : [`${leftOut} left out: too long, or without an answer`]),
  ];
  return `${parts.join(', ')}.`;
}
type RowsEvent = Extract<TrainingEvent, { event: 'rows' }>;

const NEEDS_MEMORY =
  'The origin has not enough memory for this training. Use a smaller batch, shorter rows or a lower rank.';
const OTHER_BASE = 'The origin was started again with another base.';
const DROPPED = 'An adapter that the job trains on was erased.';
const FAILED = "The training failed. The origin's log has the reason.";

/** Failures whose message is about rows and settings alone, and not about the origin's files. */
const OWN_WORDS: ReadonlySet<TrainingFailure> = new Set([
  'rows_invalid',
  'no_rows',
  'settings_invalid',
  'loss_not_finite',
]);

const FAILURE_TEXTS: Readonly<Partial<Record<TrainingFailure, string>>> = {
  out_of_memory: NEEDS_MEMORY,
  disk_full: "The origin's disk is full.",
  base_mismatch: "The job's chain does not fit the base of this origin.",
};

/** For the owner: flags of `graft train` by their names in a request. */
const failureText = ({ code, message }: { code: TrainingFailure; message: string }): string =>
  OWN_WORDS.has(code)
    ? `${message.replace(/--([a-z][a-z-]*)/g, (_, flag: string) => flag.replaceAll('-', '_'))}${/[.!?]$/.test(message) ? '' : '.'}`
    : (FAILURE_TEXTS[code] ?? FAILED);
