/** Ports of experiments: documents and counts. One contract suite per port (test/contracts). */
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

/** The value of KV `experiment:<id>`: everything that the hot path needs of a live experiment, in one read. */
export const ExperimentEntry = z.strictObject({
  id: ExperimentId,
  /** Tenant that owns the name. */
  owner: z.string().min(1),
  document: Experiment,
  /** Each variant's version, by key. */
  adapters: z.record(z.string(), AdapterManifest),
  shadow: AdapterManifest.optional(),
  /** The judging model; the base has none. */
  judge: AdapterManifest.optional(),
});
export type ExperimentEntry = z.infer<typeof ExperimentEntry>;

export interface ExperimentIndex extends Index<ExperimentEntry> {
  /** @throws StoreUnavailable */
  put(entry: ExperimentEntry): Promise<void>;
  /** Leaves a signed tombstone. @throws StoreUnavailable */
  remove(id: string): Promise<void>;
}

export interface ExperimentRow {
  id: string;
  owner: string;
  document: Experiment;
  /** All its seeds, the current one last. */
  seeds: string[];
  createdAt: number;
  createdBy: string;
  /** When the current seed went live, unix ms; null = never. */
  startedAt: number | null;
  /** When the current coverage was set, unix ms. */
  coverageAt: number | null;
  /** Units of the current seed at that time. */
  stepUnits: number;
  /** When it was decided, unix ms. */
  endedAt: number | null;
  /** The proposed winner under the current seed. */
  proposal: ExperimentProposal | null;
  /** The latest look; null before the first. */
  evaluation: ExperimentEvaluation | null;
}

/** One evaluation, kept for charts of intervals over time. */
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

/** Actor and reason of a change, for the history of its name. */
export interface ExperimentNote {
  actor: string;
  at: number;
  action: ExperimentAction;
  why: string | null;
}

/**
 * D1's record of experiments. Throws StoreUnavailable. A name's pointer in the registry includes its
 * experiment.
 */
export interface ExperimentLedger {
  /**
   * An existing name has at most one experiment that is not archived: another is a conflict, and so is a
   * retired variant or shadow.
   */
  create(params: { row: ExperimentRow; note: ExperimentNote }): Promise<Result<null, Conflict>>;
  get(id: string): Promise<ExperimentRow | null>;
  /** The name's experiment that is not archived. */
  ofName(name: string): Promise<ExperimentRow | null>;
  /** Newest first. @param owner null = all. @param name null = all. @param status default: all. */
  list(params: {
    owner: string | null;
    name: string | null;
    status?: ExperimentStatus | null;
    cursor: string | null;
    limit: number;
  }): Promise<Page<ExperimentRow>>;
  /**
   * Takes the next running or ramping ones in turn: those taken longest ago. Each gets its turn before any is
   * taken again, whatever the outcome.
   */
  inTurn(params: { at: number; limit: number }): Promise<ExperimentRow[]>;
  /** Live experiments of this owner, except `except`, that may share a unit with this range of the namespace. */
  overlapping(params: {
    except: string;
    owner: string;
    namespace: NonNullable<Experiment['namespace']>;
  }): Promise<string[]>;
  /**
   * Replaces the document of version `row.document.version - 1` with `row` and writes history: both or nothing.
   * The evaluation stays, and so does the proposal of a variant that is not dropped; a new seed has neither.
   * Also a conflict when a variant or shadow was retired, or when it would be live at the same time as an
   * experiment of {@link overlapping}.
   * @param flip makes the winner the name's live version in the same transaction; a conflict if another version
   * than `from` is live by then.
   */
  save(params: { row: ExperimentRow; note: ExperimentNote; flip?: Flip }): Promise<Result<null, Conflict>>;
  /**
   * Adds a look and makes it the row's evaluation. Looks are thinned out: never more than `keep` of one seed.
   * @param proposal the current proposal; an existing one of the seed stays, and a dropped variant is not
   * proposed.
   */
  look(params: { row: LookRow; keep: number; proposal?: ExperimentProposal }): Promise<void>;
  /** Those decided at `endedBefore` or earlier, or archived, without their last look, oldest first. */
  unsettled(params: { endedBefore: number; limit: number }): Promise<ExperimentRow[]>;
  /** Has had its last look. */
  settle(id: string): Promise<void>;
  /** Oldest first. */
  looks(params: { experiment: string; seed: string; limit: number }): Promise<LookRow[]>;
  /** KV is up to date with this version of the document. */
  written(params: { id: string; version: number }): Promise<void>;
  /** Experiments that were live at some time and whose current document is not in KV yet. */
  behind(limit: number): Promise<ExperimentRow[]>;
  /** Experiments of this owner that are not archived and use this version as a variant or a shadow. */
  using(params: { name: string; version: number; owner: string }): Promise<string[]>;
}

/**
 * Marks of an answer besides its values. `answered`: it has ended, and counts for all other marks; `nameless`:
 * its request named no user, although users are the units; `cold`: it waited for an adapter.
 */
export type EventMark = 'answered' | 'nameless' | 'cold';

/** One request of one unit: when its answer starts, without values, and when it has ended. */
export interface ExperimentEvent {
  experiment: string;
  seed: string;
  variant: string;
  /** Hash of the unit; it does not reveal the user, and differs by seed. */
  unit: string;
  /** Unix ms. */
  at: number;
  /** Automatic metrics, by key. */
  values: Readonly<Record<string, number>>;
  /** Of a shadow: counted separately, never as a unit. */
  shadow: boolean;
  /** None unless given. */
  marks?: readonly EventMark[];
  /** See `segmentKey`; absent without segments. A unit's first one counts. */
  segment?: string;
}

export interface ExperimentSink {
  /** Never throws and never waits. @param keepAlive lets the write continue after the response. */
  record(event: ExperimentEvent, keepAlive: (work: Promise<unknown>) => void): void;
}

/** An answer that is compared with another one. */
export type ShadowedAnswer = Pick<MeteredAnswer, 'response' | 'note' | 'ended'>;

/** Runs a shadow in parallel to an answer, and records its outcome. */
export interface ShadowRunner {
  /**
   * Runs nothing while too many shadows run, or while the base's origins are busy. Never throws and never
   * waits.
   * @param params.base id of the base that runs it.
   * @param params.ask its signal aborts after the time limit, and nothing is recorded.
   * @param params.answer the user's answer. @param params.compare whether to compare the shadow's with it.
   * @param params.pair judges which of the two is better; absent = nobody does.
   * @returns the body to send to the user: the answer's own, or a copy that passes through for comparison.
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

/** A value reported by an application for an answer. */
export interface FeedbackValue {
  /** Id of the exposure, in the answer's id. */
  token: string;
  /** Unix ms: until then the token is remembered. */
  expiresAt: number;
  /** The experiment's current one. A unit exposed under another seed is counted there. */
  seed: string;
  variant: string;
  unit: string;
  metric: string;
  value: number;
  /** The unit's own value from before the experiment, if the application knows it. */
  before: number | null;
}

/**
 * As in worker/experiments/statistics; the last five cover only units with an earlier value, if some have none.
 */
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
  /** Those whose request named no user, although users are the units … */
  nameless: number;
  /** … and the units of such requests: API keys. */
  namelessUnits: number;
  /** Answers that waited for an adapter; their times are in no metric. */
  cold: number;
}

/** Counts of one segment, like {@link TallySnapshot} for all. */
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
  /** Feedback for metrics that the experiment does not have, by name; `at`: the last, unix ms. */
  refused: Record<string, { n: number; at: number }>;
  /**
   * Spread of values, by metric's key, by variant's key; without rates, and without seeds older than this
   * feature.
   */
  sketches: Record<string, Record<string, Sketch>>;
  /** By segment's key; empty without segments. */
  segments: Record<string, SegmentTally>;
  /** Of the shadow's requests, by metric's key. */
  shadowSketches: Record<string, Sketch>;
}

/**
 * Counts events of experiments, each batch exactly once, and each token once per metric. Throws
 * StoreUnavailable.
 */
export interface ExperimentTallies {
  /**
   * Adds all events; after an error the same batch may be sent again until it succeeds: each event counts once.
   * @param batch.id a known one is not added again.
   */
  add(
    experiment: string,
    batch: { id: string; at: number; events: readonly ExperimentEvent[] },
  ): Promise<void>;
  /** @returns `repeated` when this token has reported this metric before; the first value stays. */
  feedback(experiment: string, ask: FeedbackValue & { at: number }): Promise<'counted' | 'repeated'>;
  /** Records feedback that was refused because the experiment has no such metric. */
  refused(
    experiment: string,
    ask: Pick<FeedbackValue, 'seed' | 'unit' | 'metric'> & { at: number },
  ): Promise<void>;
  /** Of one seed, over all shards. */
  snapshot(experiment: string, seed: string): Promise<TallySnapshot>;
  /** Deletes everything permanently: later data for it is discarded. */
  erase(experiment: string): Promise<void>;
}
