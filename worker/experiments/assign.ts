/**
 * A request's place in an experiment: which variant or shadow it gets, and what is recorded of its outcome.
 */
import type { AdapterManifest } from '../../protocol/adapter-manifest.ts';
import { BASE_JUDGE, type ExperimentJudge, type Experiment } from '../../protocol/experiment.ts';
import { logLine } from '../log.ts';
import { pickVariant, type VariantPick, border, bucketOf } from './pick-variant.ts';
import { segmentKey, segmentOf } from './segments.ts';
import type { Caller } from '../access/ports.ts';
import type { Index, Lookup } from '../platform/ports.ts';
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

/** What a request says that experiments ask about. */
export interface Participant {
  caller: Caller;
  /** The edge's own, which decides who is shadowed: no client may choose it. */
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
  /** false = a tester, of whom nothing is recorded. */
  counted: boolean;
  /** The request names no user, though that is what the experiment deals: its unit is the API key. */
  nameless: boolean;
  /** What it is told by besides; absent where the experiment is told by nothing. */
  segment?: string;
}

/** What is to be run beside the answer, its own answer thrown away. */
export interface Shadow {
  experiment: string;
  seed: string;
  unit: string;
  /** Tenant that runs the experiment. */
  owner: string;
  manifest: AdapterManifest;
  /** Its answer is compared with the one that is sent. */
  compare: boolean;
  /** Who says which of the two answers is better; null = nobody. */
  judged: JudgedShadow | null;
}

export interface JudgedShadow {
  /** That the experiment is on. */
  name: string;
  judge: ExperimentJudge;
  /** The model that judges; null = the default base, or no model. */
  manifest: AdapterManifest | null;
  /** Hash of the unit, where it is a user that the request names; null = nobody is named. */
  user: string | null;
}

interface Assigned {
  resolved: Resolved;
  assignment: Assignment | null;
  shadow: Shadow | null;
}

/** Credentials are nobody's to target by. */
const SECRET_HEADERS = new Set(['authorization', 'cookie', 'proxy-authorization']);

/**
 * Puts the request's variant in the place of the live version of a name that has an experiment; one read more, of the
 * experiment. Whatever is wrong with that leaves the live version.
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
  // Who refuses what is only remembered is not given another adapter by what is only remembered.
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
          },
    shadow: wantsShadow ? await shadowOf(entry, resolved, { unit: hash, user, caller, served }) : null,
  };
}

function troubleOf(found: Lookup<ExperimentEntry>, name: string): string | null {
  if (found.state === 'trouble') return found.reason;
  if (found.state !== 'found') return found.state;
  return found.value.document.name === name ? null : 'it is that of another name';
}

interface Variant {
  key: string;
  counted: boolean;
  manifest: AdapterManifest;
}

/**
 * The variant, if the caller may use it. Of those who are counted all variants are asked for: if only some of them could
 * get the treatment, the arms would not be alike.
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

/** A share of the requests of those who are, or could come to be, in the experiment; decided by the request's id. */
function isShadowed({ document, shadow }: ExperimentEntry, pick: VariantPick, requestId: string): boolean {
  if (document.shadow === undefined || shadow === undefined) return false;
  const concerned = pick.kind === 'variant' ? pick.counted : pick.reason === 'not_covered';
  // No seed begins so: who is shadowed must not depend on who is treated.
  return concerned && bucketOf(`__shadow/${document.seed}`, requestId) < border(document.shadow.sample);
}

async function shadowOf(
  entry: ExperimentEntry,
  resolved: Resolved,
  of: { unit: string; user: string | null; caller: Caller; served: AdapterManifest },
): Promise<Shadow | null> {
  const { id, owner, document, shadow: manifest } = entry;
  const { unit, user, caller, served } = of;
  if (manifest === undefined || !(await mayRun(resolved, manifest))) return null;
  const compare = document.shadow?.compare ?? false;
  const judged = isOfPair(entry, caller, served) ? await judgeOf(entry, resolved, user) : null;
  return { experiment: id, seed: document.seed, unit, owner, manifest, compare, judged };
}

/** Control's answers to the owner's own keys: what others ask is nothing for the owner's judge to see. */
function isOfPair({ owner, document, adapters }: ExperimentEntry, caller: Caller, served: AdapterManifest) {
  const control = adapters[document.variants[0]?.key ?? ''];
  return caller.tenant === owner && served.chainId === control?.chainId;
}

/** The judge is asked for the owner, whatever the caller's key opens; what is not the owner's the key must open too. */
async function judgeOf(
  { owner, document, judge: manifest }: ExperimentEntry,
  resolved: Resolved,
  user: string | null,
): Promise<JudgedShadow | null> {
  const { judge, name } = document;
  if (judge === undefined) return null;
  if (manifest === undefined)
    return judge.model === undefined || judge.model === BASE_JUDGE
      ? { name, judge, user, manifest: null }
      : null;
  const isOwn = manifest.withdrawn !== true && manifest.chain.every((part) => part.owner === owner);
  return isOwn || (await mayRun(resolved, manifest)) ? { name, judge, user, manifest } : null;
}

/** What a request says about who makes it. */
interface UnitSource {
  tenant: string;
  /** What stays the same when a key is rotated: its `counter`, else its id. */
  keyId: string;
  /** `safety_identifier` of the body, else its `user`, else the header `x-graft-user`. */
  user: string | null;
}

/** The header that names the end user when the body does not. */
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
 * Who stays on one side: `<tenant>/user/<user>` or `<tenant>/key/<key>`. Two tenants' users of the same name are two
 * units, and a user who is called like a key is not that key.
 */
export function unitOf(unit: Experiment['unit'], { tenant, keyId, user }: UnitSource): string {
  return unit === 'user' && user !== null ? `${tenant}/user/${user}` : `${tenant}/key/${keyId}`;
}

export interface Outcome {
  /** HTTP status; 499 when the client left, 502 when the stream broke off. */
  status: number;
  /** The stream fell silent. */
  stalled: boolean;
  promptTokens: number;
  completionTokens: number;
  /** `length`: cut at its length; null when nobody says. */
  finish: 'stop' | 'length' | null;
  /** To the first token of a stream, to the end of anything else, and of what was left before either to then. */
  ttftMs: number;
  /** To the end, or until the client left. */
  latencyMs: number;
  /** It waited for an adapter to be brought to the origin or read into memory. */
  cold: boolean;
  /** The variant could not be had, and the key's policy let something else answer. */
  stoodIn: boolean;
}

const FAILED_ADAPTER = 422;
const CLIENT_LEFT = 499;

/**
 * @returns null for what says nothing of an adapter: the client's own mistakes (4xx), and refusals for too much (429). Of
 * a failure only that it was one, and whether it kept its reader waiting: how fast an adapter fails is not its speed. Of
 * an answer that was left how long it took until then: to leave it out would make a slow adapter look fast. Of a cold
 * start no times: they are those of the load.
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

/** Whether a shadow says what the user was told: the metric `disagreement` of its requests. @param told, @param shadow the texts of all choices, in order. @returns 0 when they are the same but for outer space. */
export function disagreement(told: readonly string[], shadow: readonly string[]): 0 | 1 {
  const same = told.length === shadow.length && told.every((text, i) => text.trim() === shadow[i]?.trim());
  return same ? 0 : 1;
}

interface RecordDeps {
  experimentSink: ExperimentSink;
  /** Unix ms. */
  now: () => number;
}

/** How a request with a place in an experiment fared; filled in while it is served. */
export interface RequestOutcome {
  assignment: Assignment | null;
  /** Something else answered in the variant's place. */
  stoodIn: boolean;
  /** It waited for an adapter: the next request by this name will not. */
  cold: boolean;
}

/** What is still under way may be left, stall, or outlive this isolate: its unit counts from now on. */
export const recordBeginning = (deps: RecordDeps, context: AppContext, outcome: RequestOutcome): void =>
  record(deps, context, outcome, { values: {}, marks: [] });

export const recordEnding = (
  deps: RecordDeps,
  context: AppContext,
  outcome: RequestOutcome,
  ending: CompletionEnding,
): void =>
  record(deps, context, outcome, {
    values: valuesOf(context, outcome, ending),
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

/** @returns nothing of what says nothing of the variant; its unit is exposed all the same. */
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

/** Bytes of the hash that are kept: two of a billion units are the same with probability 1.5e-21. */
const BYTES = 16;

/** Makes of a unit what is stored and sent of it. */
type UnitHasher = (unit: { experiment: string; seed: string; unit: string }) => Promise<string>;

/**
 * 22 characters of HMAC-SHA-256 over experiment, seed and unit: nobody without the secret can find out whose they are
 * by trying names, and the same person has another one in each experiment. Under another secret everybody is somebody
 * else: units that were seen before it was changed count again.
 * @param secret at least 32 random bytes.
 */
export function createUnitHasher(secret: Uint8Array<ArrayBuffer>): UnitHasher {
  const key = derivedKey(secret, 'graft-unit-v1');
  return async ({ experiment, seed, unit }) => {
    // JSON keeps the three apart whatever is in them.
    const message = new TextEncoder().encode(JSON.stringify([experiment, seed, unit]));
    const mac = await crypto.subtle.sign('HMAC', await key(), message);
    return base64url(new Uint8Array(mac, 0, BYTES));
  };
}
