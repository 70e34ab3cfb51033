/**
 * An origin that trains, without a model: the wire of protocol/training-jobs.ts, checked strictly. A test says how far
 * its jobs are, and what they result in.
 */
import { createHash } from 'node:crypto';
import { errorResponse, type ApiError } from '../../protocol/api-error.ts';
import type { TrainingCard } from '../../protocol/training.ts';
import {
  JobDeclaration,
  JobReport,
  MAX_JOB_EVENTS_AT_ONCE,
  ROWS_PART_BYTES,
  TrainingJobId,
  type JobEvent,
  type JobFailure,
  type JobList,
  type JobState,
} from '../../protocol/training-jobs.ts';
import { sameJson } from '../../protocol/identity.ts';
import { trainingCard } from '../contracts/sample-training.ts';
import type { TinyAdapter } from './tiny-adapters.ts';

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');

interface FakeJob {
  declaration: JobDeclaration;
  parts: Map<number, Buffer>;
  state: JobState;
  step: number;
  events: JobEvent[];
  failure: JobReport['failure'];
  adapter: TinyAdapter | null;
  card: TrainingCard | null;
  /** By step. */
  checkpoints: Map<number, { adapter: TinyAdapter; card: TrainingCard }>;
}

const STEPS = 90;
export const TOKENS_PER_STEP = 10;
/** One is running there: it takes no other. */
const OCCUPIES: readonly JobState[] = ['receiving', 'waiting', 'running'];

export class FakeJobOrigin {
  /** False as without `--train`. */
  trains = true;
  /** It answers nothing. */
  isAway = false;
  /** The next declarations are refused so. */
  refusal: ApiError | null = null;
  readonly jobs = new Map<string, FakeJob>();
  /** Digests of adapters that were sent here. */
  readonly files = new Set<string>();
  /** What it was asked for, as `PUT parts/0`. */
  readonly asked: string[] = [];
  readonly #now: () => number;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** @returns null for what is not about jobs, or adapters' files. */
  answer(method: string, path: string, init: RequestInit, url: string): Response | null {
    const part = /^\/adapters\/([0-9a-f]{64})\/parts\/0$/.exec(path);
    if (this.isAway) throw new Error('connect ECONNREFUSED');
    if (method === 'PUT' && part !== null) {
      this.files.add(part[1] ?? '');
      return null;
    }
    if (path === '/jobs') return this.#list();
    const [, id = '', rest = ''] = /^\/jobs\/([^/]+)(?:\/(.*))?$/.exec(path) ?? [];
    if (id === '') return null;
    TrainingJobId.parse(id);
    this.asked.push(rest === '' ? method : `${method} ${rest}`);
    return this.#about(id, { method, rest, init, search: new URL(url).searchParams });
  }

  /** The only one. */
  get only(): [id: string, job: FakeJob] {
    const [first, ...more] = this.jobs;
    if (first === undefined || more.length > 0) throw new Error(`${this.jobs.size} jobs`);
    return first;
  }

  /** It trains, and has come this far. */
  step(step: number, { train = 2 / step, valid = null as number | null } = {}): void {
    const [, job] = this.only;
    this.#wake(job);
    if (job.state !== 'running') throw new Error(`it is ${job.state}`);
    job.step = step;
    const metrics = { step, total_steps: STEPS, train_loss: train, valid_loss: valid };
    this.#tell(job, `Step ${step}/${STEPS}`, metrics);
  }

  /** Its result is there. @param checkpoints by step, where they were asked for. */
  finish(
    adapter: TinyAdapter,
    card: Partial<TrainingCard> = {},
    checkpoints: Readonly<Record<number, TinyAdapter>> = {},
  ): void {
    const [, job] = this.only;
    this.#wake(job);
    const { rows, validation, chain } = job.declaration;
    const of = trainingCard();
    job.state = 'done';
    job.adapter = adapter;
    const ofFiles = {
      sha256: rows.sha256,
      ...(validation === undefined ? {} : { held_out_sha256: validation.sha256 }),
    };
    job.card = { ...of, rows: { ...of.rows, ...ofFiles }, chain, ...card };
    if (job.declaration.checkpoints !== true) return;
    for (const [key, one] of Object.entries(checkpoints)) {
      const steps = Number(key);
      const earlier = { steps, curve: [[steps, 2 / steps, 3 / steps]] satisfies TrainingCard['curve'] };
      const scores = { loss_before: 2.4, loss: 3 / steps, exact: 1, rows: 40 };
      job.checkpoints.set(steps, { adapter: one, card: { ...job.card, ...earlier, scores } });
    }
  }

  fail(code: JobFailure, message: string): void {
    const [, job] = this.only;
    job.state = 'failed';
    job.failure = { code, message };
  }

  /** Of both files, one behind the other. */
  rowsOf(id: string): Buffer {
    const { parts } = this.jobs.get(id) ?? { parts: new Map<number, Buffer>() };
    return Buffer.concat([...parts].sort(([a], [b]) => a - b).map(([, bytes]) => bytes));
  }

  #list(): Response {
    const jobs = [...this.jobs].map(([id, { declaration, state }]) => ({
      id,
      tenant: declaration.tenant,
      state,
    }));
    return Response.json({ trains: this.trains, jobs } satisfies JobList);
  }

  #about(
    id: string,
    of: { method: string; rest: string; init: RequestInit; search: URLSearchParams },
  ): Response {
    const { method, rest, init, search } = of;
    const job = this.jobs.get(id);
    if (method === 'DELETE') return Response.json({ deleted: this.jobs.delete(id) });
    if (method === 'PUT' && rest === '') return this.#declare(id, String(init.body));
    if (job === undefined) return errorResponse({ code: 'not_found', message: 'No such job.' });
    const part = /^parts\/(\d+)$/.exec(rest)?.[1];
    if (method === 'PUT' && part !== undefined) return this.#take(id, job, Number(part), init.body);
    if (method === 'POST' && rest === 'pause') job.state = 'paused';
    if (method === 'POST' && rest === 'resume') {
      if (this.#isOccupied(id)) return errorResponse(FULL);
      job.state = 'running';
    }
    if (method === 'GET' && rest === 'result') {
      const step = search.get('step');
      const adapter = step === null ? job.adapter : job.checkpoints.get(Number(step))?.adapter;
      if (adapter == null) return errorResponse({ code: 'not_found', message: 'Not done.' });
      const [begin, end] = [Number(search.get('begin')), Number(search.get('end'))];
      return new Response(new Uint8Array(adapter.bytes.subarray(begin, end)));
    }
    return this.#report(id, job, Number(search.get('after') ?? 0));
  }

  #declare(id: string, body: string): Response {
    if (this.refusal !== null) return errorResponse(this.refusal);
    const declaration = JobDeclaration.parse(JSON.parse(body));
    const known = this.jobs.get(id);
    if (known !== undefined && !sameJson(known.declaration, declaration))
      return errorResponse({ code: 'version_conflict', message: 'Another declaration.' });
    if (known === undefined && this.#isOccupied(id)) return errorResponse(FULL);
    const job: FakeJob = known ?? {
      declaration,
      parts: new Map(),
      state: 'receiving',
      step: 0,
      events: [],
      failure: null,
      adapter: null,
      card: null,
      checkpoints: new Map(),
    };
    this.jobs.set(id, job);
    return this.#report(id, job, 0);
  }

  #take(id: string, job: FakeJob, index: number, body: unknown): Response {
    if (!(body instanceof Uint8Array)) throw new Error('rows are bytes');
    const { rows, validation } = job.declaration;
    const own = Math.ceil(rows.bytes / ROWS_PART_BYTES);
    const [of, part] = index < own ? [rows, index] : [validation, index - own];
    const length = Math.min(ROWS_PART_BYTES, (of?.bytes ?? 0) - part * ROWS_PART_BYTES);
    if (body.length !== length) throw new Error(`part ${index} has ${body.length} bytes`);
    job.parts.set(index, Buffer.from(body));
    if (this.#missing(job).length === 0) {
      const all = this.rowsOf(id);
      const files = [all.subarray(0, rows.bytes), all.subarray(rows.bytes)];
      for (const [at, wanted] of [rows, validation].entries())
        if (wanted !== undefined && sha256(files[at]!) !== wanted.sha256) throw new Error('other rows');
      if (job.state === 'receiving') job.state = 'waiting';
    }
    return this.#report(id, job, 0);
  }

  #isOccupied(id: string): boolean {
    return [...this.jobs].some(([other, { state }]) => other !== id && OCCUPIES.includes(state));
  }

  #missing({ declaration, parts }: FakeJob): number[] {
    const { rows, validation } = declaration;
    const many =
      Math.ceil(rows.bytes / ROWS_PART_BYTES) + Math.ceil((validation?.bytes ?? 0) / ROWS_PART_BYTES);
    return Array.from({ length: many }, (_, i) => i).filter((i) => !parts.has(i));
  }

  #lacks({ declaration }: FakeJob): string[] {
    return declaration.chain.map(({ digest }) => digest).filter((digest) => !this.files.has(digest));
  }

  #wake(job: FakeJob): void {
    if (job.state === 'waiting' && this.#lacks(job).length === 0) job.state = 'running';
  }

  #tell(job: FakeJob, message: string, metrics: JobEvent['metrics']): void {
    job.events.push({ number: job.events.length + 1, at: this.#now(), level: 'info', message, metrics });
  }

  #report(id: string, job: FakeJob, after: number): Response {
    this.#wake(job);
    const { state, step, failure, adapter, card, checkpoints } = job;
    const report: JobReport = {
      id: id as JobReport['id'],
      state,
      missing_parts: this.#missing(job),
      missing_adapters: this.#lacks(job),
      step,
      steps: STEPS,
      tokens: step * TOKENS_PER_STEP,
      seconds_left: state === 'running' ? STEPS - step : null,
      failure,
      result:
        state === 'done' && adapter !== null && card !== null
          ? { bytes: adapter.bytes.length, digest: adapter.digest, card }
          : null,
      checkpoints: [...checkpoints.values()].map((one) => ({
        ...{ bytes: one.adapter.bytes.length, digest: one.adapter.digest, card: one.card },
      })),
      events: job.events.filter(({ number }) => number > after).slice(0, MAX_JOB_EVENTS_AT_ONCE),
    };
    return Response.json(JobReport.parse(report));
  }
}

const FULL: ApiError = { code: 'queue_full', message: 'Another job runs here.', retryAfterMs: 15_000 };
