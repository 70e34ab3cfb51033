/**
 * A whole graft in virtual time: isolates of the edge, Durable Objects, stores and origins run the product's own
 * code; what is around them is simulated. Everything that happens follows from the seed.
 */
import { createHash } from 'node:crypto';
import { type BaseInfo, CANCEL_PARAMETER } from '../../../protocol/origin-wire.ts';
import type { SigningKey } from '../../../protocol/signature.ts';
import { SCHEDULED_JOB_MS } from '../../../worker/limits.ts';
import { ORIGIN_QUESTION_MS } from '../../../worker/origins/limits.ts';
import { TINY_BASE } from '../../fakes/tiny-adapters.ts';
import { openSqlite } from '../../worker/platform/sqlite.ts';
import { mount, SimDisk } from './disk.ts';
import { EVENTS, type FaultKind, Faults } from './faults.ts';
import { stage } from './life-globals.ts';
import { Network, type Server } from './network.ts';
import { newLedger, type OriginLedger } from './origin-ledger.ts';
import type { OriginParams, OriginProcess } from './origin-program.ts';
import { type PlayedTrainings, playTrainings } from './played-training.ts';
import type { Programs } from './programs.ts';
import { type Random, randomOf } from './random.ts';
import {
  type ObjectClass,
  SimBucket,
  SimDatabase,
  SimKv,
  SimLocationCaches,
  SimObjects,
  type Surroundings,
} from './stores.ts';
import { type Life, VirtualTime } from './time.ts';
import { Trace } from './trace.ts';

const base64 = (fill: number): string => Buffer.alloc(32, fill).toString('base64');
const ORIGIN_KEY: SigningKey = { kid: 'k1', secret: new Uint8Array(32).fill(7) };

/** Of no graft but this. */
const ADMIN_KEY = 'ga_kNrWdq0uTI1c9VitU5k9iXcoyvd0bd6vc';

/** Small, so that batches, queues and memories are short of room. */
const BASE: BaseInfo = {
  ...TINY_BASE,
  context: 256,
  max_rank_sum: 64,
  attention: { heads: 1, kv_heads: 1 },
  modules: [...(TINY_BASE.modules ?? []), { name: 'model.layers.0.self_attn.v_proj', in: 8, out: 6 }],
};

interface Context {
  waitUntil(work: Promise<unknown>): void;
  passThroughOnException(): void;
}
interface Worker {
  fetch(request: Request, env: unknown, context: Context): Response | Promise<Response>;
  scheduled(controller: unknown, env: unknown, context: Context): Promise<void>;
}

interface Isolate {
  life: Life;
  /** Which instance of the program it runs. */
  instance: number;
  worker: Worker;
  env: unknown;
  /** Work after answers that has not ended, by what it belongs to. */
  pending: Set<string>;
}

interface OriginSlot {
  id: string;
  disk: SimDisk;
  /** null = it is not running. */
  running: { life: Life; process: OriginProcess; trainings: PlayedTrainings | null } | null;
  starts: number;
  /** It is started with `--train`. */
  trains: boolean;
  ledger: OriginLedger;
}

/** What a seed chooses once. */
interface Shape {
  isolates: number;
  origins: number;
  bucket: boolean;
  /** Usage and traffic lie in a database of their own. */
  usageApart: boolean;
  cryptoDelayMs: number;
}

const OBJECT_CLASSES = {
  POINTERS: 'PointerWriter',
  QUOTAS: 'QuotaCounter',
  EXPERIMENTS: 'ExperimentTally',
  PAIRS: 'PairTally',
  GATHERERS: 'Gatherer',
} as const;

/** An origin leaves 64 MiB free, and removes files until they are. */
const DISK_BYTES = 64 * 1024 ** 2 + 1_000_000;

/** Share of an upload's parts behind which the origin is killed, in seeds in which origins are killed. */
const KILLED_BETWEEN_PARTS = 0.02;

/** Share of origins that train, beside one. */
const TRAINERS = 0.4;

const CRON_MS = 60_000;
const PATIENCE_MS = 3_000;
/**
 * A run of the schedule, ms: jobs that ask others (drops, webhooks, pins, erasures, fine-tuning jobs) go on behind the
 * next ones after their time; origins have their own for their figures.
 */
const SCHEDULE_MS = 5 * SCHEDULED_JOB_MS + ORIGIN_QUESTION_MS;
/** What each fault adds to that at most, if it bites the run: a hang, a pause before the next try, an alarm. */
const WAITS_MS: Partial<Record<FaultKind, number>> = {
  'kv-error': 2_000,
  'kv-error-after': 2_000,
  'kv-slow': 12_000,
  'kv-away': 12_000,
  'd1-error': 2_000,
  'd1-error-after': 2_000,
  'd1-slow': 12_000,
  'object-evicted': 2_000,
  'object-restarted': 2_000,
  'r2-error': 2_000,
  'net-delay': 3_000,
  'net-cut': 2_000,
  'net-silent': 30_000,
};
export class World {
  readonly time = new VirtualTime();
  readonly random: Random;
  readonly trace: Trace;
  readonly faults: Faults;
  readonly network: Network;
  readonly kv: SimKv;
  readonly #locationCaches: SimLocationCaches;
  readonly database: SimDatabase;
  /** Where usage and traffic lie: {@link database}, or one of its own. */
  readonly usageDatabase: SimDatabase;
  readonly bucket: SimBucket;
  readonly shape: Shape;
  readonly base = BASE;
  readonly adminKey = ADMIN_KEY;
  readonly isolates: Isolate[] = [];
  readonly origins: OriginSlot[] = [];
  readonly objects = new Map<string, SimObjects>();
  /** Tenants' applications, by host. */
  readonly receivers = new Map<string, Server>();
  /** How often each rare branch was reached. */
  readonly marks = new Map<string, number>();
  /** Lines of the product's logs that say that something unexpected happened. */
  readonly bugs: string[] = [];
  /** What an edge calls each of a request's calls of an origin, to cancel it. */
  readonly asked = new Map<string, string[]>();
  /** Runs of the schedule that took too long, though all stores answered at once. */
  readonly lateSchedules: string[] = [];
  readonly #programs: Programs;
  readonly #around: Surroundings;
  readonly #life: Life;
  #isolates = 0;

  constructor(
    seed: string,
    programs: Programs,
    options: { faults?: readonly FaultKind[]; keepTrace?: boolean } = {},
  ) {
    this.#programs = programs;
    this.random = randomOf(`graft ${seed}`);
    this.#life = this.time.life('world', this.random);
    this.trace = new Trace(() => this.time.now, options.keepTrace ?? false);
    this.faults = new Faults(
      this.random.fork('faults'),
      () => this.time.now,
      (kind, what) => this.trace.note('fault', `${kind} ${what}`),
      options.faults,
    );
    const shaping = this.random.fork('shape');
    this.shape = {
      isolates: shaping.between(2, 5),
      origins: shaping.between(1, 4),
      bucket: shaping.chance(0.4),
      usageApart: this.random.fork('usage apart').chance(0.4),
      cryptoDelayMs: shaping.pick([0, 0, 0, 2]),
    };
    this.#around = {
      time: this.time,
      random: this.random.fork('stores'),
      faults: this.faults,
      note: this.trace.note,
    };
    this.network = new Network({ ...this.#around, random: this.random.fork('network') });
    this.kv = new SimKv(this.#around);
    this.#locationCaches = new SimLocationCaches({
      ...this.#around,
      random: this.random.fork('location caches'),
    });
    this.database = new SimDatabase(this.#around, openSqlite());
    this.usageDatabase = this.shape.usageApart
      ? new SimDatabase({ ...this.#around, random: this.random.fork('usage database') }, openSqlite())
      : this.database;
    this.bucket = new SimBucket(this.#around);
    for (const [binding, name] of Object.entries(OBJECT_CLASSES))
      this.objects.set(
        binding,
        new SimObjects(this.#around, name, (life) => ({
          make: this.#programs.worker(0)[name] as ObjectClass,
          env: this.#envOf(life, 'home'),
        })),
      );
  }

  /** Starts origins and isolates. Nothing fails before. */
  async start(): Promise<void> {
    stage.time = this.time;
    stage.cryptoDelayMs = this.shape.cryptoDelayMs;
    stage.marks = this.marks;
    this.faults.on = false;
    const training = this.random.fork('training');
    for (let at = 0; at < this.shape.origins; at += 1) {
      const id = `o${at + 1}`;
      this.origins.push({
        id,
        disk: new SimDisk(this.#around, id, DISK_BYTES),
        running: null,
        starts: 0,
        trains: at === 0 || training.chance(TRAINERS),
        ledger: newLedger(),
      });
    }
    for (const slot of this.origins) this.startOrigin(slot);
    await this.until(() => this.origins.every(({ running }) => running !== null), 'the origins start');
    for (let at = 0; at < this.shape.isolates; at += 1) this.isolates.push(this.#startIsolate());
    this.#cron();
    this.faults.on = true;
    for (const kind of Object.keys(EVENTS) as (keyof typeof EVENTS)[]) this.#plan(kind);
  }

  /** Runs the world until something holds. @throws when nothing happens any more before. */
  async until(done: () => boolean, what: string, step: () => void = () => undefined): Promise<void> {
    let reached = false;
    await this.time.run(() => (reached ||= done()), step);
    if (!reached) throw new Error(`nothing happens any more before this: ${what}`);
  }

  /** A life of a client. */
  client(name: string): Life {
    return this.time.life(name, this.random.fork(name));
  }

  /** A request to the edge: some isolate gets it. */
  ask(life: Life, path: string, init: RequestInit, options: { reliable?: boolean } = {}): Promise<Response> {
    const choose = this.random.fork(`isolate ${this.trace.lines} ${path}`);
    return this.network.fetch(
      life,
      () => {
        if (this.isolates.length === 0) return null;
        return this.#serverOf(choose.pick(this.isolates));
      },
      `https://edge.test${path}`,
      init,
      { ...options, heard: true },
    );
  }

  #serverOf(isolate: Isolate): Server {
    return {
      life: isolate.life,
      handle: (request) =>
        isolate.worker.fetch(
          request,
          isolate.env,
          this.#contextOf(isolate, `${request.method} ${new URL(request.url).pathname}`),
        ),
    };
  }

  #contextOf(isolate: Isolate, what: string): Context {
    return {
      waitUntil: (work) => this.#pend(isolate, what, work),
      passThroughOnException: () => undefined,
    };
  }

  #pend(isolate: Isolate, what: string, work: Promise<unknown>): void {
    const label = `${what} since ${this.time.now} (${this.time.count})`;
    isolate.pending.add(label);
    const end = (): void => void isolate.pending.delete(label);
    work.then(end, end);
  }

  #startIsolate(): Isolate {
    this.#isolates += 1;
    const name = `isolate-${this.#isolates}`;
    const life = this.#programLife(name, (url, init) => this.#toOrigin(life, url, init));
    const location = this.random.pick(['here', 'there']);
    life.caches = this.#locationCaches.binding(life, location);
    this.trace.note(name, `starts ${location}`);
    let instance = 0;
    while (this.isolates.some((one) => one.instance === instance)) instance += 1;
    return {
      life,
      instance,
      worker: this.#programs.worker(instance)['default'] as Worker,
      env: this.#envOf(life, location),
      pending: new Set(),
    };
  }

  #programLife(name: string, fetch: Life['fetch']): Life {
    const life: Life = this.time.life(name, this.random.fork(name), {
      fetch,
      log: (line) => this.#logged(life, line),
    });
    return life;
  }

  /** Ends one without a word, and starts another. */
  dropIsolate(): void {
    const at = this.random.below(this.isolates.length);
    const [gone] = this.isolates.splice(at, 1);
    if (gone !== undefined) this.#end(gone.life);
    this.isolates.push(this.#startIsolate());
  }

  #end(life: Life): void {
    life.dead = true;
    this.network.ended(life);
  }

  #logged(life: Life, line: string): void {
    this.trace.note(life.name, line.slice(0, 300));
    if (/"event":"(unexpected_error|internal_error|bug)"/.test(line)) this.bugs.push(`${life.name}: ${line}`);
  }

  #toOrigin(life: Life, url: string, init: RequestInit): Promise<Response> {
    const { hostname, pathname, searchParams } = new URL(url);
    const requestId = new Headers(init.headers).get('x-request-id');
    const cancelId = searchParams.get(CANCEL_PARAMETER);
    if (requestId !== null && cancelId !== null)
      this.asked.set(requestId, [...(this.asked.get(requestId) ?? []), cancelId]);
    const slot = this.origins.find(({ id }) => hostname === `${id}.test`);
    const answered = this.network.fetch(life, () => this.#originServer(slot), url, init);
    if (init.method === 'PUT' && slot !== undefined && /\/parts\/\d+$/.test(pathname))
      answered.then(
        () => this.#killBetweenParts(slot),
        () => undefined,
      );
    return answered;
  }

  /** In the middle of an upload, which takes no time otherwise. */
  #killBetweenParts(slot: OriginSlot): void {
    if (slot.running === null || !this.faults.killsNow(KILLED_BETWEEN_PARTS)) return;
    this.faults.count('origin-killed', `${slot.running.life.name} between parts`);
    this.time.after(this.#life, 0, () => this.killOrigin(slot));
  }

  #originServer(slot: OriginSlot | undefined): Server | null {
    const running = slot?.running ?? null;
    return running === null
      ? null
      : { life: running.life, handle: (request) => running.process.fetch(request) };
  }

  #envOf(life: Life, location: string): Record<string, unknown> {
    const ids = this.origins.map(({ id }) => ({ id, url: `http://${id}.test` }));
    const objects = [...this.objects].map(([binding, kind]) => [binding, kind.binding(life)]);
    return {
      ADAPTERS: this.kv.binding(life, location),
      DB: this.database.binding(life),
      ...(this.shape.usageApart ? { DB_USAGE: this.usageDatabase.binding(life) } : {}),
      ...(this.shape.bucket ? { BLOBS: this.bucket.binding(life) } : {}),
      ...Object.fromEntries(objects),
      CALL_OUT: {
        fetch: (url: string, init: RequestInit) =>
          this.network.fetch(life, () => this.receivers.get(new URL(url).host) ?? null, url, init),
      },
      ORIGINS: JSON.stringify(ids),
      GRAFT_ORIGIN_KEYS: `${ORIGIN_KEY.kid}:${Buffer.from(ORIGIN_KEY.secret).toString('base64')}`,
      GRAFT_MAC_KEY: base64(9),
      GRAFT_ADMIN_KEY_SHA256: createHash('sha256').update(this.adminKey).digest('hex'),
      DROPS: 'on',
      KV_CACHE: 'on',
    };
  }

  /** A new process on the origin's disk, ready after some seconds. */
  startOrigin(slot: OriginSlot): void {
    const random = this.random.fork(`${slot.id} start ${slot.starts}`);
    slot.starts += 1;
    const life = this.#programLife(`${slot.id}#${slot.starts}`, () =>
      Promise.reject(new Error('an origin never calls out')),
    );
    const slots = random.between(2, 6);
    // Where nothing but rows is short, tenants have their fair share of them.
    const isRoomy = random.chance(0.25);
    const trainings = slot.trains
      ? playTrainings(
          { ...this.#around, random: random.fork('trainings') },
          { disk: slot.disk, origin: life, base: this.base },
        )
      : null;
    const params: OriginParams = {
      id: slot.id,
      keys: [ORIGIN_KEY],
      base: this.base,
      runner: {
        slots,
        kvTokens:
          isRoomy || random.chance(0.2) ? (slots + 1) * this.base.context : random.between(400, 1_500),
        chunk: 16,
        blocks: random.pick([0, 20]),
      },
      stepMs: random.weighted<() => number>([
        [78, () => random.between(5, 40)],
        [10, () => random.between(100, 300)],
        // A long answer takes minutes.
        [12, () => random.between(1_000, 2_000)],
      ])(),
      loadMs: random.chance(0.15) ? random.between(10_000, 45_000) : random.between(20, 400),
      maxQueue: random.between(2, 12),
      adapterBytes: isRoomy || random.chance(0.15) ? 40_000 : random.between(2_000, 20_000),
      diskBytes: random.between(3_000, 40_000),
      ledger: slot.ledger,
      startTraining: trainings?.start ?? null,
    };
    slot.disk.decay();
    mount(life, slot.disk);
    this.time.after(life, random.between(200, 3_000), () => {
      this.#programs.origin.startOrigin(params).then(
        (process) => {
          slot.running = { life, process, trainings };
          this.trace.note(life.name, 'ready');
        },
        (error: unknown) => this.bugs.push(`${life.name} does not start: ${String((error as Error).stack)}`),
      );
    });
  }

  killOrigin(slot: OriginSlot): void {
    if (slot.running === null) return;
    this.#checkOrigin(slot);
    this.#end(slot.running.life);
    slot.running.trainings?.orphan();
    slot.running = null;
    this.time.after(this.#life, this.random.below(20_000), () => this.startOrigin(slot));
  }

  /** Unexpected exceptions of a process, before it is forgotten. */
  #checkOrigin(slot: OriginSlot): void {
    for (const fault of slot.running?.process.faults() ?? [])
      this.bugs.push(`${slot.running?.life.name}: ${fault}`);
  }

  /** The first unexpected exception so far. */
  firstBug(): string | undefined {
    if (this.bugs.length > 0) return this.bugs[0];
    for (const { running } of this.origins) {
      if (running === null || !running.process.isFaulty()) continue;
      return `${running.life.name}: ${running.process.faults()[0]}`;
    }
    return undefined;
  }

  #cron(): void {
    this.time.after(this.#life, CRON_MS, () => {
      this.#cron();
      this.runSchedule();
    });
  }

  /** How long stores and the network may have kept a run of the schedule waiting so far, ms. */
  #faultMs(): number {
    return [...this.faults.bitten].reduce((sum, [kind, times]) => sum + times * (WAITS_MS[kind] ?? 0), 0);
  }

  /** As the cron trigger does, in some isolate. */
  runSchedule(): void {
    const isolate = this.random.pick(this.isolates);
    this.time.after(isolate.life, 0, () => {
      const work = isolate.worker.scheduled({}, isolate.env, this.#contextOf(isolate, 'schedule'));
      this.#pend(isolate, 'schedule', work);
      const [began, waited] = [this.time.now, this.#faultMs()];
      const ended = (): void => {
        const ms = this.time.now - began;
        if (ms > SCHEDULE_MS + this.#faultMs() - waited)
          this.lateSchedules.push(`a run took ${ms} ms in ${isolate.life.name}`);
      };
      work.then(ended, ended);
      work.catch((error: unknown) =>
        this.trace.note(isolate.life.name, `the schedule failed: ${String(error)}`),
      );
    });
  }

  #plan(kind: keyof typeof EVENTS): void {
    const ms = this.faults.nextIn(kind);
    if (ms === null) return;
    this.time.after(this.#life, ms, () => {
      this.#plan(kind);
      if (this.faults.on) this.#happen(kind);
    });
  }

  #happen(kind: keyof typeof EVENTS): void {
    const { random, faults, time } = this;
    // Counted at each call that it bites.
    if (kind === 'kv-away') {
      faults.kvAwayUntil = time.now + random.between(5_000, 40_000);
      return;
    }
    if (kind === 'isolate-dropped') {
      faults.count(kind, '');
      return this.dropIsolate();
    }
    if (kind === 'clock-skewed') {
      const { life } = random.pick(this.isolates);
      life.skewMs = random.pick([-1, 1]) * random.below(40_000);
      return faults.count(kind, `${life.name} ${life.skewMs} ms`);
    }
    const slot = random.pick(this.origins);
    const { running } = slot;
    if (running === null || running.life.stopped) return;
    faults.count(kind, running.life.name);
    if (kind === 'origin-killed') return this.killOrigin(slot);
    if (kind === 'origin-drained')
      return void time.after(running.life, 0, () =>
        running.process
          .drain(PATIENCE_MS)
          .then(() =>
            time.after(this.#life, 0, () => void (slot.running === running && this.killOrigin(slot))),
          ),
      );
    running.life.stopped = true;
    // Mostly seconds, sometimes minutes; in the middle of a training often so long that its job begins elsewhere.
    const isLong = random.chance(running.trainings?.isBusy() === true ? 0.6 : 0.2);
    const ms = random.below(isLong ? 300_000 : 40_000);
    time.after(this.#life, ms, () => time.resume(running.life));
  }

  /** No fault any more: what is stopped goes on, what has ended starts. */
  calm(): void {
    this.faults.on = false;
    this.trace.note('world', 'calm');
    for (const { life } of this.isolates) life.skewMs = 0;
    for (const { running } of this.origins)
      if (running?.life.stopped === true) this.time.resume(running.life);
  }
}
