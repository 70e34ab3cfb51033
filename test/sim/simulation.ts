/** What one run knows: its world, its tenants, what D1 has committed, and what has failed. */
import { createHash } from 'node:crypto';
import { tinyAdapter, type TinyAdapter } from '../fakes/tiny-adapters.ts';
import { ask, type Answered, type Ask, codeOf } from './client.ts';
import { Exams } from './exams.ts';
import { Acknowledged } from './invariants/acknowledged.ts';
import { Limits } from './invariants/limits.ts';
import { watchQuotas } from './invariants/quotas.ts';
import { watchSenders } from './invariants/senders.ts';
import { watchSignatures } from './invariants/signatures.ts';
import { Receivers } from './receivers.ts';
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
  /** It has the right to train. */
  trains: boolean;
  /** Changes of it that have begun … */
  changes: number;
  /** … and not ended. */
  changing: number;
}

export interface KeptAnswer {
  /** Of its request. */
  id: string;
  content: string;
  text: string;
}

/** Which of two answers a user preferred, as a client has told, or tried to. */
export interface Preferred {
  tenant: string;
  name: string;
  key: Key;
  chosen: KeptAnswer;
  rejected: KeptAnswer;
  /** When it was first asked for, ms. */
  askedAt: number;
  isAcknowledged: boolean;
}

/** A file of rows that a client has sent, or tried to. */
export interface SentRows {
  /** null = it was not told, or the file was refused. */
  id: string | null;
  tenant: string;
  text: string;
  /** Its deletion has been asked for. */
  going: boolean;
}

/** A job that was acknowledged. */
export interface KnownJob {
  id: string;
  tenant: string;
  name: string;
  /** Name of the adapter that it trains on; null = the base. */
  parent: string | null;
  keyId: string;
  rows: SentRows;
  /** Digest of what the whole training makes. */
  digest: string;
  /** … and of what is to be kept of earlier steps, by step. */
  checkpoints: ReadonlyMap<number, string>;
  /** What its owner was told that these have become, `name@version`. */
  staged: Map<number, string>;
  createdAt: number;
  /** Its cancellation has been asked for … */
  going: boolean;
  /** … and acknowledged. */
  cancelled: boolean;
  /** Its owner has paused it last. */
  paused: boolean;
  /** Its owner knows that it has ended. */
  ended: boolean;
  /** What its owner was told that it has become, `name@version`. */
  model: string | null;
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
  /** Whole answers, and the tokens that it was told of. */
  received: { from: number; until: number; tokens: number }[];
  /** Tokens, at most, of answers of which it did not see the end. */
  unended: number;
  experiments: Trial[];
  /** Refusals of grants, and acceptances, that have begun. */
  refusals: number;
  /** Of them, without an answer. */
  refusing: number;
  /** Everything of it is being erased … */
  erasing: boolean;
  /** … and was, so often … */
  erasures: number;
  /** … with its usage, last at this time, ms. */
  usageErasedAt: number;
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
export const countsOf = (operations: ReadonlyMap<string, Counts>): number =>
  [...operations.values()].reduce((sum, { done, refused, lost }) => sum + done + refused + lost, 0);

export interface SimulateOptions {
  programs: Programs;
  seed: string;
  /** Of all clients together. */
  operations: number;
  /** Begins at most this many of them, at the same pace. */
  stopAfter?: number;
  /** Virtual minutes at least. */
  minutes: number;
  /** Only these kinds of faults. */
  faults?: readonly FaultKind[];
  keepTrace?: boolean;
}

/** Where prompts are asked. */
const COMPLETION_PATH = /^\/v1\/(?!files|fine_tuning)/;
/** Most adapters are small; parents and children differ. */
const RANKS = [2, 4, 2, 1, 2, 8, 2];

export class Simulation {
  readonly world: World;
  readonly truth: Truth;
  readonly oracle: ReturnType<typeof createOracle>;
  readonly tenants: Tenant[] = [];
  readonly quotas = new Limits();
  readonly receivers: Receivers;
  /** Kept evaluations that were sent. */
  readonly exams = new Exams();
  /** Grants, refusals, removals and evaluations that were acknowledged. */
  readonly promised = new Acknowledged(() => this.world.time.now);
  /** Prefixes that the operator has reserved. */
  readonly reserved = new Set<string>();
  /** Somebody damages values in KV, and repairs it; in other seeds graft must make up for everything by itself. */
  readonly isTampered: boolean;
  /** Records in KV that somebody has damaged, `name <name>` or `key <id>`: these alone may need a repair. */
  readonly tampered = new Set<string>();
  /** Keys in KV of parts that are damaged for now: whoever damaged one has its bytes to put back. */
  readonly damagedParts = new Set<string>();
  /** Names that were pinned, and not unpinned. */
  readonly pinned = new Set<string>();
  /** Whether names are pinned for longer than a moment. */
  readonly pinsLast: boolean;
  readonly counts = new Map<string, Counts>();
  /** How often each code refused each operation. */
  readonly codes = new Map<string, number>();
  readonly operations: number;
  begun = 0;
  breach: Breach | null = null;
  /** Versions that a client was told of, `name@version`, and their names. */
  readonly acknowledged = new Map<string, string>();
  /** Names that somebody has asked to erase; with `cascade` others go, too. */
  readonly erased = new Set<string>();
  /** When a client began to send a file, by digest. */
  readonly sentAt = new Map<string, number>();
  /** What was asked with a key, as JSON, by the key's text. */
  readonly asked = new Map<string, string[]>();
  /** Ids of keys that keep prompts … */
  readonly keepers = new Set<string>();
  /** … and of those that were revoked with what they kept. */
  readonly forgotten = new Set<string>();
  /** First ids of lines of keys that somebody has asked to revoke with what they kept. */
  readonly forgetting = new Set<string>();
  /** Ids of keys whose prompts may improve adapters. */
  readonly improvers = new Set<string>();
  readonly preferred: Preferred[] = [];
  /** Files of rows that clients have sent, or tried to. */
  readonly rows: SentRows[] = [];
  /** Fine-tuning jobs that were acknowledged, by id. */
  readonly jobs = new Map<string, KnownJob>();
  /** Tokens that origins make for no answer. */
  unbilledTokens = 0;
  /** What the counters of keys answer. */
  readonly counters = watchQuotas((invariant, what) => this.fail(invariant, what));
  #next = 0;

  constructor(options: SimulateOptions) {
    this.operations = Math.min(options.operations, options.stopAfter ?? Infinity);
    this.world = new World(options.seed, options.programs, options);
    this.isTampered = this.world.random.fork('tampering').chance(0.35);
    this.pinsLast = this.world.random.fork('pins').chance(0.6);
    this.truth = new Truth(this.world);
    this.oracle = createOracle(this.world.base.context);
    const fail = (invariant: string, what: string): void => this.fail(invariant, what);
    this.receivers = new Receivers(this.world, fail);
    const watches = [watchSignatures(fail, this.world.faults), watchSenders(fail)];
    this.world.network.onAnswer = (exchange) => {
      for (const watch of watches) watch(exchange);
    };
    const objects = this.world.objects.get('QUOTAS');
    if (objects !== undefined) {
      objects.onAnswer = this.counters.answered;
      objects.onRestart = (id) => this.counters.restarted(id, this.world.time.now);
    }
  }

  fail(invariant: string, message: string): void {
    this.breach ??= new Breach(invariant, message);
  }

  /** Another file each time, with bytes of its own. */
  newFile(parent: string | null): TinyAdapter {
    this.#next += 1;
    const { bytes } = tinyAdapter({
      seed: 3,
      parent,
      rank: RANKS[this.#next % RANKS.length] as number,
      base: this.world.base.id,
      ...(this.#next % 3 === 0 ? { module: 'model.layers.0.self_attn.v_proj' } : {}),
    });
    // The last weight; each of these is a float of its own.
    bytes.writeFloatLE(1 + this.#next / 2 ** 20, bytes.length - 4);
    return { bytes, digest: sha256(bytes) };
  }

  /** Another one each time. */
  nextNumber(): number {
    this.#next += 1;
    return this.#next;
  }

  /** Another text each time, by which a change is found again. */
  nextMark(): string {
    return `change ${this.nextNumber()}`;
  }

  async ask(actor: Actor, given: Ask): Promise<Answered> {
    const from = this.world.time.now;
    if (given.path === '/admin/erase') {
      const { name, cascade } = given.body as { name?: string; cascade?: boolean };
      this.erased.add(name === undefined || cascade === true ? '**' : name);
      if (name !== undefined) this.erased.add(name);
    }
    if (given.key !== undefined && COMPLETION_PATH.test(given.path))
      this.asked.set(given.key, [...(this.asked.get(given.key) ?? []), JSON.stringify(given.body ?? null)]);
    const ended = this.promised.begin(actor.tenant.id, given);
    const answered = await ask(this.world, actor.life, given);
    ended(answered);
    this.quotas.note(this, given, answered, from);
    const code = codeOf(answered);
    if (code !== null) {
      const { reason } = (answered as { json: { error: { reason?: string } } }).json.error;
      const path = given.path.split('?')[0]?.replaceAll(/[0-9a-f]{16,}|(?<=-)[0-9a-z]{24}/g, '…');
      const label = [path, code, ...(reason === undefined ? [] : [reason])].join(' ');
      this.codes.set(label, (this.codes.get(label) ?? 0) + 1);
    }
    return answered;
  }
}

export const sha256 = (data: Uint8Array | string): string => createHash('sha256').update(data).digest('hex');
