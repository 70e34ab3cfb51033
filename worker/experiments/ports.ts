/** Ports of experiments: their documents, and what is counted of them. One contract suite a port (test/contracts). */
import { z } from 'zod';
import { AdapterManifest } from '../../protocol/adapter-manifest.ts';
import {
  ExperimentId,
  type ExperimentEvaluation,
  type ExperimentProposal,
} from '../../protocol/admin-api/experiments.ts';
import type { Result } from '../../protocol/api-error.ts';
import { Experiment, type ExperimentStatus } from '../../protocol/experiment.ts';
import type { MeteredAnswer } from '../metering/ports.ts';
import type { Conflict, ExperimentAction } from '../registry/ports.ts';
import type { Index, Page } from '../platform/ports.ts';
import type { PairInWork } from './pairs/ports.ts';
import type { Moments } from './statistics/moments.ts';
import type { Sketch } from './statistics/sketch.ts';

/** The value of KV `experiment:<id>`: all that the hot path needs of a live experiment, in one read. */
export const ExperimentEntry = z.strictObject({
  id: ExperimentId,
  /** Tenant that owns the name. */
  owner: z.string().min(1),
  document: Experiment,
  /** What each variant stands for, by its key. */
  adapters: z.record(z.string(), AdapterManifest),
  shadow: AdapterManifest.optional(),
  /** The model that judges; the base has none. */
  judge: AdapterManifest.optional(),
});
export type ExperimentEntry = z.infer<typeof ExperimentEntry>;

export interface ExperimentIndex extends Index<ExperimentEntry> {
  /** @throws StoreUnavailable */
  put(entry: ExperimentEntry): Promise<void>;
  /** Leaves a signed mark: there is no such experiment any more. @throws StoreUnavailable */
  remove(id: string): Promise<void>;
}

export interface ExperimentRow {
  id: string;
  owner: string;
  document: Experiment;
  /** All seeds that it has had, the present one last. */
  seeds: string[];
  createdAt: number;
  createdBy: string;
  /** When the present seed went live, unix ms; null = it never did. */
  startedAt: number | null;
  /** When the present coverage was set, unix ms. */
  coverageAt: number | null;
  /** Units of the present seed when that was. */
  stepUnits: number;
  /** When it was decided, unix ms. */
  endedAt: number | null;
  /** The winner that was proposed under the present seed. */
  proposal: ExperimentProposal | null;
  /** The latest look; null before the first. */
  evaluation: ExperimentEvaluation | null;
}

/** One evaluation, kept so that intervals can be drawn over time. */
export interface LookRow {
  experiment: string;
  seed: string;
  at: number;
  evaluation: ExperimentEvaluation;
}

/** Of the name's live version. */
export interface Flip {
  from: number;
  to: number;
}

/** Who changed an experiment, and why; written into the history of its name. */
export interface ExperimentNote {
  actor: string;
  at: number;
  action: ExperimentAction;
  why: string | null;
}

/**
 * System of record of experiments. Throws StoreUnavailable. What the registry says of a name's pointer has its
 * experiment too.
 */
export interface ExperimentLedger {
  /**
   * A name, which must exist, has one experiment that is not archived: another one is a conflict, and so is a variant
   * or shadow that was retired.
   */
  create(params: { row: ExperimentRow; note: ExperimentNote }): Promise<Result<null, Conflict>>;
  get(id: string): Promise<ExperimentRow | null>;
  /** The name's experiment that is not archived. */
  ofName(name: string): Promise<ExperimentRow | null>;
  /** Newest first. @param owner null = all. @param name null = all. @param status all unless given. */
  list(params: {
    owner: string | null;
    name: string | null;
    status?: ExperimentStatus | null;
    cursor: string | null;
    limit: number;
  }): Promise<Page<ExperimentRow>>;
  /**
   * Takes the next ones, running or ramping, whose turn it is: those that were taken longest ago. All have had theirs
   * before one has it again, whatever became of it.
   */
  inTurn(params: { at: number; limit: number }): Promise<ExperimentRow[]>;
  /** Live experiments of this owner, but `except`, that may have a unit in common with this range of the namespace. */
  overlapping(params: {
    except: string;
    owner: string;
    namespace: NonNullable<Experiment['namespace']>;
  }): Promise<string[]>;
  /**
   * Puts `row` in the place of the document of version `row.document.version - 1` and writes history: both or nothing.
   * The evaluation is left as it is, and so is the proposal of a variant that is not dropped; a new seed has neither. A
   * conflict as well when a variant or shadow was retired, or
   * when it would be live beside an experiment of {@link overlapping}.
   * @param flip makes the winner the name's live version in the same transaction; a conflict when another version than
   * `from` is live by then.
   */
  save(params: { row: ExperimentRow; note: ExperimentNote; flip?: Flip }): Promise<Result<null, Conflict>>;
  /**
   * Adds a look and makes it the row's evaluation. Looks are thinned: never more than `keep` of one seed.
   * @param proposal what is proposed now; one that the seed has stays, and a variant that was dropped is not proposed.
   */
  look(params: { row: LookRow; keep: number; proposal?: ExperimentProposal }): Promise<void>;
  /**
   * Those that were decided at `endedBefore` or earlier, or are archived, and have not had their last look, oldest first.
   */
  unsettled(params: { endedBefore: number; limit: number }): Promise<ExperimentRow[]>;
  /** Has had its last look. */
  settle(id: string): Promise<void>;
  /** Oldest first. */
  looks(params: { experiment: string; seed: string; limit: number }): Promise<LookRow[]>;
  /** KV has what the document of this version says. */
  written(params: { id: string; version: number }): Promise<void>;
  /** Experiments that were live at some time and of whose present document KV has not been told. */
  behind(limit: number): Promise<ExperimentRow[]>;
  /** Experiments of this owner that are not archived and name this version as a variant or a shadow. */
  using(params: { name: string; version: number; owner: string }): Promise<string[]>;
}

/**
 * What is counted of an answer beside its values. `answered`: it has ended, and takes part in all other marks;
 * `nameless`: its request named no user, though that is what the experiment deals; `cold`: it waited for an adapter.
 */
export type EventMark = 'answered' | 'nameless' | 'cold';

/** One request of one unit: when its answer begins, without values, and when it has ended. */
export interface ExperimentEvent {
  experiment: string;
  seed: string;
  variant: string;
  /** Hash of the unit; nobody can tell the user from it, and it is another one under another seed. */
  unit: string;
  /** Unix ms. */
  at: number;
  /** Automatic metrics, by key. */
  values: Readonly<Record<string, number>>;
  /** Of a shadow: counted apart, never as a unit. */
  shadow: boolean;
  /** None unless given. */
  marks?: readonly EventMark[];
  /** See `segmentKey`; absent where the experiment is told by none. A unit's first one counts. */
  segment?: string;
}

export interface ExperimentSink {
  /** Never throws and never waits. @param keepAlive lets the writing go on after the response. */
  record(event: ExperimentEvent, keepAlive: (work: Promise<unknown>) => void): void;
}

/** An answer that is compared with another one. */
export type ShadowedAnswer = Pick<MeteredAnswer, 'response' | 'note' | 'ended'>;

/** Runs a shadow beside an answer, and records what it was like. */
export interface ShadowRunner {
  /**
   * Runs nothing while too many run, or while the origins of its base are busy. Never throws and never waits.
   * @param params.base id of the base that runs it.
   * @param params.ask its signal aborts when it has taken too long, of which nothing is recorded.
   * @param params.answer what the user gets. @param params.compare whether the shadow's is compared with it.
   * @param params.pair judges which of the two is better; nobody does unless given.
   * @returns the body to send to the user: the answer's own, or what goes by it on its way to a comparison.
   */
  run(params: {
    event: Pick<ExperimentEvent, 'experiment' | 'seed' | 'unit'>;
    ask: (signal: AbortSignal) => Promise<ShadowedAnswer & { cold?: boolean }>;
    answer: ShadowedAnswer;
    compare: boolean;
    pair?: PairInWork | null;
    base: string;
    keepAlive: (work: Promise<unknown>) => void;
  }): Response['body'];
}

/** A value that an application reported for an answer. */
export interface FeedbackValue {
  /** Id of the exposure, in the answer's id. */
  token: string;
  /** Unix ms: until then the token is remembered. */
  expiresAt: number;
  /** The experiment's present one. A unit that was exposed under another one is counted there. */
  seed: string;
  variant: string;
  unit: string;
  metric: string;
  value: number;
  /** The unit's own value from before the experiment, where the application knows it. */
  before: number | null;
}

/** As worker/experiments/statistics has it; the last five, of those alone, where some units have a value from before. */
export interface TallyMoments {
  n: number;
  sum: number;
  sumSquares: number;
  paired?: number;
  pairedSum?: number;
  preSum?: number;
  preSumSquares?: number;
  products?: number;
}

/** Of one variant. */
export interface TallyCounts {
  /** Answers that have ended. */
  answers: number;
  /** Those of them whose request named no user, though that is what the experiment deals … */
  nameless: number;
  /** … and the units that such requests are: API keys. */
  namelessUnits: number;
  /** Answers that waited for an adapter; their times are in no metric. */
  cold: number;
}

/** What is counted of one segment, as {@link TallySnapshot} has it of all. */
export interface SegmentTally {
  units: Record<string, number>;
  metrics: Record<string, Record<string, Moments>>;
}

export interface TallySnapshot {
  /** Units by variant's key. */
  units: Record<string, number>;
  /** One value a unit (the mean of its own), by metric's key, by variant's key. */
  metrics: Record<string, Record<string, TallyMoments>>;
  /** Requests of the shadow, not units, by metric's key. */
  shadow: Record<string, TallyMoments>;
  /** By variant's key. */
  counts: Record<string, TallyCounts>;
  /** Feedback that the experiment has no metric for, by what it called the metric; `at`: the last, unix ms. */
  refused: Record<string, { n: number; at: number }>;
  /** How values are spread, by metric's key, by variant's key; without rates, and what was begun before it was kept. */
  sketches: Record<string, Record<string, Sketch>>;
  /** By segment's key; none where the experiment is told by none. */
  segments: Record<string, SegmentTally>;
  /** Of the shadow's requests, by metric's key. */
  shadowSketches: Record<string, Sketch>;
}

/** Counts what happens in experiments, exactly once a batch, and once a token and metric. Throws StoreUnavailable. */
export interface ExperimentTallies {
  /**
   * Adds all events; when it throws, the same batch may be sent again until it does not: each event counts once.
   * @param batch.id one that was added already is not added again.
   */
  add(
    experiment: string,
    batch: { id: string; at: number; events: readonly ExperimentEvent[] },
  ): Promise<void>;
  /** @returns `repeated` when this token has given this metric before; the first value stays. */
  feedback(experiment: string, ask: FeedbackValue & { at: number }): Promise<'counted' | 'repeated'>;
  /** Notes that feedback was refused because the experiment has no such metric. */
  refused(
    experiment: string,
    ask: Pick<FeedbackValue, 'seed' | 'unit' | 'metric'> & { at: number },
  ): Promise<void>;
  /** Of one seed, all shards together. */
  snapshot(experiment: string, seed: string): Promise<TallySnapshot>;
  /** Forgets all of it, for good: what comes for it from here on is thrown away. */
  erase(experiment: string): Promise<void>;
}

/** Port of what experiments tell by webhooks. One contract suite (test/contracts). */

export interface WebhookMessageRow {
  /** What happened, so that it is told once: of the experiment, its seed and what it is about. */
  id: string;
  experiment: string;
  url: string;
  /** JSON. */
  body: string;
  /** Sendings that have failed. */
  tries: number;
}

/** What is to be sent. Throws StoreUnavailable. */
export interface WebhookOutbox {
  /** To be sent at once; nothing when a message of this id was ever added. @param at unix ms. */
  add(message: Omit<WebhookMessageRow, 'tries'>, at: number): Promise<void>;
  /** It did not happen after all. One that was sent stays. */
  retract(id: string): Promise<void>;
  /** Those whose time has come, oldest first. */
  due(params: { now: number; limit: number }): Promise<WebhookMessageRow[]>;
  /** It was sent, or is given up: it is due no more. */
  done(id: string): Promise<void>;
  /** A sending has failed. */
  later(id: string, nextAt: number): Promise<void>;
  /** Forgets messages that were made before, unix ms. */
  forget(before: number): Promise<void>;
}
