/** A request's place in an experiment: its variant or shadow, and what is recorded of its outcome. */
import type { AdapterManifest } from '../../protocol/adapter-manifest.ts';
import { BASE_JUDGE, type ExperimentJudge, type Experiment } from '../../protocol/experiment.ts';
import { logLine } from '../log.ts';
import { pickVariant, type VariantPick, border, bucketOf } from './pick-variant.ts';
import { segmentKey, segmentOf } from './segments.ts';
import type { Caller } from '../access/ports.ts';
import type { Index, Lookup } from '../platform/ports.ts';
import type { StoredPair } from './pairs/ports.ts';
import type { ExperimentEntry, EventMark, ExperimentSink } from './ports.ts';
import type { Resolution, Resolved } from '../completions/resolve.ts';
import { keepAlive, type AppContext } from '../http/request.ts';
import type { CompletionEnding } from '../metering/ports.ts';
import { base64url } from '../../protocol/identity.ts';
import { derivedKey } from '../platform/derived-keys.ts';

export interface AssignDeps {
  experiments: Index<ExperimentEntry>;
  unitHash: UnitHasher;
}

/** Fields of a request that experiments need. */
export interface Participant {
  caller: Caller;
  /** The edge's own id, which decides shadowing: clients must not choose it. */
  requestId: string;
  /** The end user that it names. */
  user: string | null;
  header: (name: string) => string | null;
}

/** A request's place in an experiment. */
export interface Assignment {
  experiment: string;
  /** Version of its document. */
  version: number;
  seed: string;
  variant: string;
  /** Hash of the unit. */
  unit: string;
  /** false = a tester, who is not recorded. */
  counted: boolean;
  /** The request names no user, although users are the units: its unit is the API key. */
  nameless: boolean;
  /** Segment; absent without segments. */
  segment?: string;
  /** Metrics of classes; absent without any. */
  classMetrics?: readonly ClassMetric[];
}

interface ClassMetric {
  key: string;
  /** The class's label. */
  label: string;
}

/** The experiment's metrics that count classes. */
function classMetricsOf({ metrics }: Experiment): Pick<Assignment, 'classMetrics'> {
  const found = metrics.flatMap(({ key, class: label }) => (label === undefined ? [] : [{ key, label }]));
  return found.length === 0 ? {} : { classMetrics: found };
}

/** Runs in parallel to the answer; its own answer is discarded. */
export interface Shadow {
  experiment: string;
  seed: string;
  unit: string;
  /** Tenant that runs the experiment. */
  owner: string;
  manifest: AdapterManifest;
  /** Compare its answer with the one that is sent. */
  compare: boolean;
  /** Who judges which of the two answers is better; null = nobody. */
  judged: JudgedShadow | null;
}

export interface JudgedShadow {
  /** The experiment's name. */
  name: string;
  judge: ExperimentJudge;
  /** The judging model; null = the default base, or no model. */
  manifest: AdapterManifest | null;
  /** Hash of the unit, if it is a named user; null = no user is named. */
  user: string | null;
  /** Who asked, if the pair may make a row; see {@link learnerHash}. */
  learner: StoredPair['learner'];
}

interface Assigned {
  resolved: Resolved;
  assignment: Assignment | null;
  shadow: Shadow | null;
}

/** Credentials must not be used for targeting. */
const SECRET_HEADERS = new Set(['authorization', 'cookie', 'proxy-authorization']);

/**
 * Replaces the live version of a name with the request's variant, if it has an experiment; takes one more read,
 * of the experiment. On any error the live version is used.
 */
export async function assignVariant(
  deps: AssignDeps,
  participant: Participant,
  resolved: Resolved,
): Promise<Assigned> {
  const { resolution, liveName } = resolved;
  const { manifest } = resolution;
  const stay: Assigned = { resolved, assignment: null, shadow: null };
  const id = manifest?.experiment;
  if (id === undefined || manifest === null || liveName === null || resolution.degraded !== null) return stay;
  const found = await deps.experiments.get(id);
  const trouble = troubleOf(found, manifest.name);
  if (found.state !== 'found' || trouble !== null) {
    logLine('experiment_lookup_trouble', { experiment: id, reason: trouble });
    return stay;
  }
  const { value: entry, stale } = found;
  const { caller } = participant;
  // A key that refuses remembered data gets no variant from remembered data.
  if (stale && caller.degrade === 'refuse') return stay;
  const unit = unitOf(entry.document.unit, {
    tenant: caller.tenant,
    keyId: caller.counter ?? caller.keyId,
    user: participant.user,
  });
  const header = (name: string): string | null =>
    SECRET_HEADERS.has(name) ? null : participant.header(name);
  const pick = pickVariant(entry.document, {
    ...{ unit, tenant: caller.tenant, name: liveName, header },
  });
  const variant = await variantOf(entry, pick, resolved);
  const wantsShadow = isShadowed(entry, pick, participant.requestId);
  if (variant === null && !wantsShadow) return stay;
  const { seed, version } = entry.document;
  const served = variant?.manifest ?? manifest;
  const nameless = entry.document.unit === 'user' && participant.user === null;
  const segment =
    entry.document.segment_by === undefined
      ? {}
      : { segment: segmentKey(segmentOf(entry.document, { tenant: caller.tenant, name: liveName, header })) };
  const hash = await deps.unitHash({ experiment: id, seed, unit });
  const user = entry.document.unit === 'user' && !nameless ? hash : null;
  return {
    resolved: variant === null ? resolved : { ...resolved, resolution: runs(resolution, variant, stale) },
    assignment:
      variant === null
        ? null
        : {
            ...{ experiment: id, version, seed, unit: hash, nameless },
            ...{ variant: variant.key, counted: variant.counted, ...segment },
            ...classMetricsOf(entry.document),
          },
    shadow: wantsShadow
      ? await shadowOf(entry, resolved, {
          ...{ unit: hash, user, caller, served },
          learner: async () =>
            caller.improve === true
              ? { key: caller.keyId, user: await learnerHash(deps.unitHash, caller, participant.user) }
              : null,
        })
      : null,
  };
}

function troubleOf(found: Lookup<ExperimentEntry>, name: string): string | null {
  if (found.state === 'trouble') return found.reason;
  if (found.state !== 'found') return found.state;
  return found.value.document.name === name ? null : 'it belongs to another name';
}

interface Variant {
  key: string;
  counted: boolean;
  manifest: AdapterManifest;
}

/**
 * The variant, if the caller may use it. For counted units all variants must be usable: if only some callers
 * could get the treatment, the arms would differ.
 */
async function variantOf(
  entry: ExperimentEntry,
  pick: VariantPick,
  resolved: Resolved,
): Promise<Variant | null> {
  if (pick.kind === 'none') return null;
  const { variant, counted } = pick;
  const manifest = entry.adapters[variant.key];
  if (manifest === undefined) return null;
  const needed = counted ? Object.values(entry.adapters) : [manifest];
  for (const one of needed) if (!(await mayRun(resolved, one))) return null;
  return { key: variant.key, counted, manifest };
}

async function mayRun({ allows }: Resolved, manifest: AdapterManifest): Promise<boolean> {
  if (manifest.withdrawn === true) return false;
  const decided = await allows(manifest);
  return decided.ok && decided.value.allowed;
}

const runs = (live: Resolution, { manifest }: Variant, stale: boolean): Resolution => ({
  ...live,
  manifest,
  base: manifest.base.id,
  chain: manifest.chain,
  chainId: manifest.chainId,
  stale: live.stale || stale,
});

/** A share of the requests of possible participants; decided by the request's id. */
function isShadowed({ document, shadow }: ExperimentEntry, pick: VariantPick, requestId: string): boolean {
  if (document.shadow === undefined || shadow === undefined) return false;
  const concerned = pick.kind === 'variant' ? pick.counted : pick.reason === 'not_covered';
  // No seed starts like this: shadowing must not depend on treatment.
  return concerned && bucketOf(`__shadow/${document.seed}`, requestId) < border(document.shadow.sample);
}

async function shadowOf(
  entry: ExperimentEntry,
  resolved: Resolved,
  of: {
    unit: string;
    user: string | null;
    caller: Caller;
    served: AdapterManifest;
    learner: () => Promise<StoredPair['learner']>;
  },
): Promise<Shadow | null> {
  const { id, owner, document, shadow: manifest } = entry;
  const { unit, user, caller, served } = of;
  if (manifest === undefined || !(await mayRun(resolved, manifest))) return null;
  const compare = document.shadow?.compare ?? false;
  const judge = isOfPair(entry, caller, served) ? await judgeOf(entry, resolved) : null;
  const judged = judge === null ? null : { ...judge, user, learner: await of.learner() };
  return { experiment: id, seed: document.seed, unit, owner, manifest, compare, judged };
}

/** Control's answers to the owner's own keys: the owner's judge must not see others' prompts. */
function isOfPair({ owner, document, adapters }: ExperimentEntry, caller: Caller, served: AdapterManifest) {
  const control = adapters[document.variants[0]?.key ?? ''];
  return caller.tenant === owner && served.chainId === control?.chainId;
}

/**
 * The judge is called for the owner, whatever the caller's key may use; adapters that are not the owner's must
 * be usable by the key too.
 */
async function judgeOf(
  { owner, document, judge: manifest }: ExperimentEntry,
  resolved: Resolved,
): Promise<Omit<JudgedShadow, 'user' | 'learner'> | null> {
  const { judge, name } = document;
  if (judge === undefined) return null;
  if (manifest === undefined)
    return judge.model === undefined || judge.model === BASE_JUDGE ? { name, judge, manifest: null } : null;
  const isOwn = manifest.withdrawn !== true && manifest.chain.every((part) => part.owner === owner);
  return isOwn || (await mayRun(resolved, manifest)) ? { name, judge, manifest } : null;
}

/** The request's user and key. */
interface UnitSource {
  tenant: string;
  /** Stable across rotations of a key: its `counter`, otherwise its id. */
  keyId: string;
  /** `safety_identifier` of the body, otherwise its `user`, otherwise the header `x-graft-user`. */
  user: string | null;
}

/** The header that names the end user if the body does not. */
export const USER_HEADER = 'x-graft-user';

/** An empty text names nobody. @returns the end user that the request names, or null. */
export function endUser(named: {
  safetyIdentifier: string | null | undefined;
  user: string | null | undefined;
  header: string | null | undefined;
}): string | null {
  return named.safetyIdentifier || named.user || named.header || null;
}

/**
 * The unit: `<tenant>/user/<user>` or `<tenant>/key/<key>`. Users of two tenants with the same name are two
 * units, and a user named like a key is not that key.
 */
export function unitOf(unit: Experiment['unit'], { tenant, keyId, user }: UnitSource): string {
  return unit === 'user' && user !== null ? `${tenant}/user/${user}` : `${tenant}/key/${keyId}`;
}

/**
 * Pseudonym of whoever asks, the same in all requests to a tenant: what one user can teach an adapter is limited. A
 * request that names no user is its key's.
 */
export const learnerHash = (
  unitHash: UnitHasher,
  { tenant, counter, keyId }: Pick<Caller, 'tenant' | 'counter' | 'keyId'>,
  user: string | null,
): Promise<string> =>
  unitHash({
    experiment: '',
    seed: 'improve',
    unit: unitOf('user', { tenant, keyId: counter ?? keyId, user }),
  });

export interface Outcome {
  /** HTTP status; 499 when the client disconnected, 502 when the stream was cut off. */
  status: number;
  /** The stream fell silent. */
  stalled: boolean;
  promptTokens: number;
  completionTokens: number;
  /** `length`: truncated by its length limit; null = unknown. */
  finish: 'stop' | 'length' | null;
  /** To the first token of a stream, otherwise to the end; of an abandoned answer, to that moment. */
  ttftMs: number;
  /** To the end, or until the client disconnected. */
  latencyMs: number;
  /** It waited for an adapter to be sent to the origin or read into memory. */
  cold: boolean;
  /** The variant was unavailable, and the key's policy allowed a fallback. */
  stoodIn: boolean;
}

const FAILED_ADAPTER = 422;
const CLIENT_LEFT = 499;

/**
 * @returns null for outcomes that say nothing about an adapter: client errors (4xx), and rate limits (429). A
 * failure is recorded only as such, with whether it kept its reader waiting: the speed of failing is not the
 * adapter's speed. An abandoned answer is recorded with its duration so far: omitting it would make a slow
 * adapter look fast. A cold start is recorded without times: they are those of the load.
 */
export function outcomeValues(outcome: Outcome): Record<string, number> | null {
  const { status, stoodIn, finish } = outcome;
  const left = status === CLIENT_LEFT;
  if (stoodIn || status === FAILED_ADAPTER || status >= 500)
    return { error_rate: 1, left_rate: left || outcome.stalled ? 1 : 0 };
  if (status >= 400 && !left) return null;
  const times = { ttft_ms: Math.max(0, outcome.ttftMs), latency_ms: Math.max(0, outcome.latencyMs) };
  const waited = outcome.cold ? {} : times;
  if (left) return { ...waited, error_rate: 0, left_rate: 1 };
  return {
    ...waited,
    output_tokens: outcome.completionTokens,
    error_rate: 0,
    left_rate: 0,
    ...(finish === null ? {} : { length_rate: finish === 'length' ? 1 : 0 }),
    cost: outcome.promptTokens + outcome.completionTokens,
  };
}

/**
 * Whether a shadow's answer differs from the user's: the metric `disagreement`. @param told, @param shadow the
 * texts of all choices, in order. @returns 0 when they are equal except for outer white space.
 */
export function disagreement(told: readonly string[], shadow: readonly string[]): 0 | 1 {
  const same = told.length === shadow.length && told.every((text, i) => text.trim() === shadow[i]?.trim());
  return same ? 0 : 1;
}

interface RecordDeps {
  experimentSink: ExperimentSink;
  /** Unix ms. */
  now: () => number;
}

/** How a request in an experiment fared; filled in while it is served. */
export interface RequestOutcome {
  assignment: Assignment | null;
  /** Another model answered instead of the variant. */
  stoodIn: boolean;
  /** It waited for an adapter: the next request for this name will not. */
  cold: boolean;
  /** Of a classification: how many texts got which label; null = none, or the origin does not say. */
  classes: ReadonlyMap<string, number> | null;
}

/** A pending answer may be abandoned, stall, or outlive this isolate: its unit counts from now on. */
export const recordBeginning = (deps: RecordDeps, context: AppContext, outcome: RequestOutcome): void =>
  record(deps, context, outcome, { values: {}, marks: [] });

export const recordEnding = (
  deps: RecordDeps,
  context: AppContext,
  outcome: RequestOutcome,
  ending: CompletionEnding,
): void =>
  record(deps, context, outcome, {
    values: { ...valuesOf(context, outcome, ending), ...sharesOf(outcome, ending) },
    marks: outcome.cold ? ['answered', 'cold'] : ['answered'],
  });

function record(
  deps: RecordDeps,
  context: AppContext,
  { assignment }: RequestOutcome,
  { values, marks }: { values: Record<string, number>; marks: readonly EventMark[] },
): void {
  if (assignment === null || !assignment.counted) return;
  const { experiment, seed, variant, unit } = assignment;
  deps.experimentSink.record(
    {
      ...{ experiment, seed, variant, unit, at: deps.now(), values, shadow: false },
      marks: assignment.nameless ? [...marks, 'nameless'] : marks,
      ...(assignment.segment === undefined ? {} : { segment: assignment.segment }),
    },
    (work) => keepAlive(context, work),
  );
}

/** @returns nothing for outcomes that say nothing about the variant; its unit is exposed all the same. */
function valuesOf(
  context: AppContext,
  { stoodIn, cold }: RequestOutcome,
  ending: CompletionEnding,
): Record<string, number> {
  const { startedAt } = context.get('trace');
  const { firstAt, endedAt } = ending;
  const ttftMs = (firstAt ?? endedAt) - startedAt;
  return outcomeValues({ ...ending, ttftMs, latencyMs: endedAt - startedAt, stoodIn, cold }) ?? {};
}

/** The share of the texts that got each class which the experiment counts. */
function sharesOf(
  { assignment, classes, stoodIn }: RequestOutcome,
  { status }: CompletionEnding,
): Record<string, number> {
  if (assignment?.classMetrics === undefined || classes === null || stoodIn || status >= 400) return {};
  const texts = [...classes.values()].reduce((sum, count) => sum + count, 0);
  if (texts === 0) return {};
  return Object.fromEntries(
    assignment.classMetrics.map(({ key, label }) => [key, (classes.get(label) ?? 0) / texts]),
  );
}

/** Bytes of the hash that are kept: two of a billion units collide with probability 1.5e-21. */
const BYTES = 16;

/** Pseudonymises a unit for storage and tokens. */
type UnitHasher = (unit: { experiment: string; seed: string; unit: string }) => Promise<string>;

/**
 * 22 characters of HMAC-SHA-256 over experiment, seed and unit: nobody without the secret can find out whose
 * they are by trying names, and the same person has a different one in each experiment. A new secret changes
 * all of them: units seen before are counted again.
 * @param secret at least 32 random bytes.
 */
export function createUnitHasher(secret: Uint8Array<ArrayBuffer>): UnitHasher {
  const key = derivedKey(secret, 'graft-unit-v1');
  return async ({ experiment, seed, unit }) => {
    // JSON keeps the three apart whatever they contain.
    const message = new TextEncoder().encode(JSON.stringify([experiment, seed, unit]));
    const mac = await crypto.subtle.sign('HMAC', await key(), message);
    return base64url(new Uint8Array(mac, 0, BYTES));
  };
}
