/** One run: a world, its clients, the faults of its seed, and what must hold after every step and at the end. */
import { createHash } from 'node:crypto';
import type { TinyAdapter } from '../fakes/tiny-adapters.ts';
import { tinyAdapter } from '../fakes/tiny-adapters.ts';
import { ask, type Answered, type Ask, codeOf } from './client.ts';
import { checkAtRest, checkStores } from './at-rest.ts';
import { watchQuotas } from './invariants/quotas.ts';
import { watchSignatures } from './invariants/signatures.ts';
import { OPERATIONS, type OperationName } from './operations/index.ts';
import { Quotas } from './operations/quotas.ts';
import { Truth } from './truth.ts';
import type { FaultKind } from './world/faults.ts';
import { createOracle } from './world/expected-answer.ts';
import type { Programs } from './world/programs.ts';
import type { Random } from './world/random.ts';
import type { Life } from './world/time.ts';
import { World } from './world/world.ts';

/** An invariant of docs/internals/simulation.md does not hold. */
export class Breach extends Error {
  override readonly name = 'Breach';
  constructor(
    readonly invariant: string,
    message: string,
  ) {
    super(`${invariant}: ${message}`);
  }
}

export interface Key {
  id: string;
  text: string;
  tenant: string;
  scopes: readonly string[];
  /** When it ends, or ended, as was acknowledged: it was revoked, replaced, or expires; null = it does not. */
  revokedAt: number | null;
  /** Has limits, or may have. */
  limited: boolean;
  /** Id of the first key of its line, whose counter all of them share. */
  counter: string;
  /** Id of the key that it replaced. */
  replaces: string | null;
  /** Changes of it that have begun … */
  changes: number;
  /** … and not ended. */
  changing: number;
}

/** An experiment that a client has made. */
export interface Trial {
  id: string;
  name: string;
  /** Changes of it that have begun. */
  changes: number;
  /** User -> its variant, until something changes. */
  assigned: Map<string, { variant: string; changes: number }>;
  /** Who asked. */
  users: Set<string>;
  /** Ids of answers, for feedback. */
  answers: string[];
  over: boolean;
}

/** What one client has made or learnt; others of its tenant do the same at once. */
export interface Tenant {
  id: string;
  adminKey: string;
  keys: Key[];
  /** Names that it has published, or tried to. */
  names: string[];
  files: { adapter: TinyAdapter; parent: string | null }[];
  /** Tokens that it was told of in whole answers. */
  receivedTokens: number;
  /** Completions sent. */
  sent: number;
  /** Tokens, at most, of answers of which it did not see the end. */
  unended: number;
  experiments: Trial[];
  /** Refusals of grants, and acceptances, that have begun. */
  refusals: number;
  /** Everything of it is being erased … */
  erasing: boolean;
  /** … and was, so often. */
  erasures: number;
  /** Changes of its limits that have begun. */
  limitings: number;
}

export interface Actor {
  life: Life;
  random: Random;
  tenant: Tenant;
}

/** How an operation ended: done; refused, as it may be; or lost on the way, so that nobody knows. */
export type Outcome = 'done' | 'refused' | 'lost';

export interface Counts {
  done: number;
  refused: number;
  lost: number;
}

/** All operations, however they ended. */
export const countsOf = (operations: ReadonlyMap<OperationName, Counts>): number =>
  [...operations.values()].reduce((sum, { done, refused, lost }) => sum + done + refused + lost, 0);

export interface SimulateOptions {
  programs: Programs;
  seed: string;
  /** Of all clients together. */
  operations: number;
  /** Begins no more than so many of them, at the same pace. */
  stopAfter?: number;
  /** Virtual minutes at least. */
  minutes: number;
  /** Only these kinds of faults. */
  faults?: readonly FaultKind[];
  keepTrace?: boolean;
}

export interface Report {
  seed: string;
  breach: string | null;
  hash: string;
  operations: Map<OperationName, Counts>;
  faults: ReadonlyMap<FaultKind, number>;
  codes: ReadonlyMap<string, number>;
  marks: ReadonlyMap<string, number>;
  virtualMinutes: number;
  events: number;
  trace: readonly string[];
}

export class Simulation {
  readonly world: World;
  readonly truth: Truth;
  readonly oracle = createOracle();
  readonly tenants: Tenant[] = [];
  readonly quotas = new Quotas();
  /** `name@version` that an experiment was made with. */
  readonly variants = new Set<string>();
  /** Prefixes that the operator has reserved. */
  readonly reserved = new Set<string>();
  /** Values in KV that somebody damaged, and that no repair has mended since. */
  tampered = 0;
  /** Names that were pinned, and not unpinned. */
  readonly pinned = new Set<string>();
  readonly counts = new Map<OperationName, Counts>();
  /** How often each code refused each operation. */
  readonly codes = new Map<string, number>();
  readonly operations: number;
  begun = 0;
  breach: Breach | null = null;
  /** Keys in KV that somebody has written without the secret. */
  readonly forged = new Set<string>();
  /** Versions that a client was told of, `name@version`, and their names. */
  readonly acknowledged = new Map<string, string>();
  /** Names that somebody has asked to erase; with `cascade` others go, too. */
  readonly erased = new Set<string>();
  /** When a client began to send a file, by digest. */
  readonly sentAt = new Map<string, number>();
  /** Tokens that origins make for no answer. */
  unbilledTokens = 0;
  /** What the counters of keys answer. */
  readonly counters = watchQuotas((invariant, what) => this.fail(invariant, what));
  #next = 0;

  constructor(options: SimulateOptions) {
    this.operations = Math.min(options.operations, options.stopAfter ?? Infinity);
    this.world = new World(options.seed, options.programs, options);
    this.truth = new Truth(this.world);
    this.world.network.onAnswer = watchSignatures((invariant, what) => this.fail(invariant, what));
    const objects = this.world.objects.get('QUOTAS');
    if (objects !== undefined) {
      objects.onAnswer = this.counters.answered;
      objects.onRestart = this.counters.restarted;
    }
    for (const name of Object.keys(OPERATIONS) as OperationName[])
      this.counts.set(name, { done: 0, refused: 0, lost: 0 });
  }

  fail(invariant: string, message: string): void {
    this.breach ??= new Breach(invariant, message);
  }

  /** Another file each time, with bytes of its own. */
  newFile(parent: string | null): TinyAdapter {
    this.#next += 1;
    const { bytes } = tinyAdapter({ seed: 3, parent, rank: 2, base: this.world.base.id });
    // The last weight; each of these is a float of its own.
    bytes.writeFloatLE(1 + this.#next / 2 ** 20, bytes.length - 4);
    return { bytes, digest: sha256(bytes) };
  }

  /** Another text each time, by which a change is found again. */
  nextMark(): string {
    this.#next += 1;
    return `change ${this.#next}`;
  }

  async ask(actor: Actor, given: Ask): Promise<Answered> {
    const from = this.world.time.now;
    if (given.path === '/admin/erase') {
      const { name, cascade } = given.body as { name?: string; cascade?: boolean };
      this.erased.add(name === undefined || cascade === true ? '**' : name);
      if (name !== undefined) this.erased.add(name);
    }
    const answered = await ask(this.world, actor.life, given);
    this.quotas.note(this, given, answered, from);
    const code = codeOf(answered);
    if (code !== null) {
      const { reason } = (answered as { json: { error: { reason?: string } } }).json.error;
      const path = given.path.split('?')[0]?.replaceAll(/[0-9a-f]{16,}/g, '…');
      const label = [path, code, ...(reason === undefined ? [] : [reason])].join(' ');
      this.codes.set(label, (this.codes.get(label) ?? 0) + 1);
    }
    return answered;
  }
}

/** Most operations follow soon, so that they meet each other; now and then a client pauses, so that time passes. */
const SOON_MS = 1_500;
const PAUSES = 0.2;

export async function simulate(options: SimulateOptions): Promise<Report> {
  const sim = new Simulation(options);
  const { world } = sim;
  const minMs = options.minutes * 60_000;
  let problem: Error | null = null;
  const unhandled = (error: unknown): void =>
    sim.fail('no bug', `unhandled rejection: ${String((error as Error).stack ?? error)}`);
  process.on('unhandledRejection', unhandled);
  try {
    await world.start();
    await setUp(sim);
    const random = world.random.fork('clients');
    const actors = sim.tenants.flatMap((tenant) =>
      Array.from({ length: random.between(2, 4) }, (_, at): Actor => {
        const life = world.client(`${tenant.id}-${at + 1}`);
        return { life, random: life.random, tenant };
      }),
    );
    // So many operations take the time that they should.
    const pause = (minMs * actors.length) / options.operations / PAUSES;
    const began = world.time.now;
    let busy = actors.length;
    for (const actor of actors)
      world.time.after(actor.life, 1 + actor.random.below(1_000), () => {
        runActor(sim, actor, pause).then(
          () => void (busy -= 1),
          (error: unknown) => {
            problem = error as Error;
          },
        );
      });
    const over = (): boolean => problem !== null || sim.breach !== null;
    await world.until(
      () => over() || (busy === 0 && world.time.now - began >= minMs),
      'the clients end',
      () => step(sim),
    );
    if (!over()) {
      world.calm();
      await checkAtRest(sim, over);
    }
    if (!over()) await checkStores(sim, over);
  } catch (error) {
    problem = error as Error;
  } finally {
    process.off('unhandledRejection', unhandled);
  }
  const failed = sim.breach ?? problem;
  if (failed !== null) world.trace.note('breach', String(failed));
  return {
    seed: options.seed,
    breach: failed === null ? null : failed instanceof Breach ? failed.message : String(failed.stack),
    hash: world.trace.digest(),
    operations: sim.counts,
    faults: world.faults.bitten,
    codes: sim.codes,
    marks: world.marks,
    virtualMinutes: (world.time.now - 1_790_000_000_000) / 60_000,
    events: world.time.count,
    trace: options.keepTrace === true ? world.trace.all() : world.trace.last(50),
  };
}

/** Tenants with an admin key and a few keys each, and a first version of something. */
async function setUp(sim: Simulation): Promise<void> {
  const { world } = sim;
  world.faults.on = false;
  const random = world.random.fork('tenants');
  const many = random.between(2, 4);
  let left = many;
  let problem: unknown = null;
  for (let at = 0; at < many; at += 1) {
    const id = `tenant${at + 1}`;
    const life = world.client(`${id}-setup`);
    world.time.after(life, 1, () => {
      void (async () => {
        try {
          const made = await ask(world, life, {
            path: '/admin/keys',
            key: world.adminKey,
            body: { kind: 'admin', tenant: id, scopes: [`${id}/**`] },
            reliable: true,
          });
          if (made.kind !== 'answer' || made.status !== 201)
            throw new Error(`no admin key: ${JSON.stringify(made)}`);
          const { key } = made.json as { key: string };
          const room = await ask(world, life, {
            path: '/admin/rooms',
            key: world.adminKey,
            body: { name: id, tenant: id },
            reliable: true,
          });
          if (room.kind !== 'answer' || room.status >= 300)
            throw new Error(`no room: ${JSON.stringify(room)}`);
          sim.tenants.push({
            id,
            adminKey: key,
            keys: [],
            names: [],
            files: [],
            receivedTokens: 0,
            sent: 0,
            unended: 0,
            limitings: 0,
            experiments: [],
            refusals: 0,
            erasing: false,
            erasures: 0,
          });
        } catch (error) {
          problem = error;
        } finally {
          left -= 1;
        }
      })();
    });
  }
  await world.until(() => left === 0, 'the tenants are there');
  if (problem !== null) throw problem as Error;
  sim.tenants.sort((a, b) => (a.id < b.id ? -1 : 1));
  world.faults.on = true;
}

async function runActor(sim: Simulation, actor: Actor, pauseMs: number): Promise<void> {
  const { world } = sim;
  const names = Object.keys(OPERATIONS) as OperationName[];
  while (sim.begun < sim.operations && sim.breach === null) {
    sim.begun += 1;
    const possible = names.filter((name) => OPERATIONS[name].possible(sim, actor));
    const name = actor.random.weighted(possible.map((one) => [OPERATIONS[one].weight, one] as const));
    world.trace.note(actor.life.name, name);
    const outcome = await OPERATIONS[name].run(sim, actor);
    world.trace.note(actor.life.name, `${name} ${outcome}`);
    const counts = sim.counts.get(name) as Counts;
    counts[outcome] += 1;
    await world.time.sleep(
      actor.life,
      1 + actor.random.below(actor.random.chance(PAUSES) ? 2 * pauseMs : SOON_MS),
    );
  }
}

/** After every event: what can be seen at once. */
function step(sim: Simulation): void {
  const [bug] = sim.world.allBugs();
  if (bug !== undefined) sim.fail('no bug', bug);
  for (const { ledger } of sim.world.origins)
    for (const { invariant, what } of ledger.breaches) sim.fail(invariant, what);
  const [late] = sim.world.lateSchedules;
  if (late !== undefined) sim.fail('7 the schedule ends', late);
}

export const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');
export { codeOf };
