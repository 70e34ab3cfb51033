/** What operations of clients share: names to use, requests of the admin API, and what they may be refused with. */
import { codeOf, type Answered } from '../client.ts';
import { checkCompletion, checkPrivacy, type Completion, promptOf } from '../answers.ts';
import type { Random } from '../world/random.ts';
import type { Actor, Key, Outcome, Simulation } from '../simulation.ts';
import type { NameState } from '../truth.ts';

export interface Operation {
  weight: number;
  /** Whether there is something to do it with. */
  possible: (sim: Simulation, actor: Actor) => boolean;
  run: (sim: Simulation, actor: Actor) => Promise<Outcome>;
}

export const SECOND = 1_000;
export const always = (): boolean => true;

/** Kinds of names that an operation can do something with. */
const KINDS = {
  any: () => true,
  live: ({ version, removed }) => version !== null && !removed,
  removed: ({ removed }) => removed,
  /** Has a version that is not live and may become it. */
  movable: ({ version, removed, alias }, versions) =>
    !removed && alias === null && versions.some((one) => one !== version),
  /** Has more than one, of which the live one is not the first. */
  returnable: ({ version, removed }, versions) =>
    version !== null && !removed && versions.some((one) => one < version),
} as const satisfies Record<string, (state: NameState, versions: readonly number[]) => boolean>;

/** The tenant's names of a kind, as D1 has them now. */
export const namesOf = (sim: Simulation, actor: Actor, kind: keyof typeof KINDS): string[] =>
  sim.truth.names.keys().filter((name) => isOfKind(sim, actor, kind, name));

function isOfKind(sim: Simulation, { tenant }: Actor, kind: keyof typeof KINDS, name: string): boolean {
  const state = sim.truth.names.now(name);
  return state?.owner === tenant.id && KINDS[kind](state, usableVersions(sim, name));
}

export const usableVersions = (sim: Simulation, name: string): number[] =>
  sim.truth.versionsOf(name).filter((version) => !sim.truth.retired.has(`${name}@${version}`));

export const has =
  (kind: keyof typeof KINDS) =>
  (sim: Simulation, actor: Actor): boolean =>
    sim.truth.names.keys().some((name) => isOfKind(sim, actor, kind, name));

/** Mostly one with which the operation succeeds, sometimes any. */
export function pickName(sim: Simulation, actor: Actor, kind: keyof typeof KINDS): string {
  const good = actor.random.chance(0.9) ? namesOf(sim, actor, kind) : actor.tenant.names;
  return actor.random.pick(good.length > 0 ? good : namesOf(sim, actor, 'any'));
}
/** Keys that a client would use: none of them has ended, as far as it knows. */
export const liveKeys = (sim: Simulation, { tenant }: Actor): Key[] =>
  tenant.keys.filter(({ revokedAt }) => revokedAt === null || revokedAt > sim.world.time.now);

/** Those without an end. */
export const lastingKeys = ({ tenant }: Actor): Key[] =>
  tenant.keys.filter(({ revokedAt }) => revokedAt === null);

/** Codes that a correct request may get, at any time: something is short, away or changed by another. */
const MAY_BE = new Set([
  'registry_unavailable',
  'origin_unavailable',
  'origin_stopped',
  'origin_overloaded',
  'adapter_unavailable',
  'edge_busy',
  'rate_limited',
  'rate_limit_exceeded',
  'quota_exceeded',
  'version_conflict',
  'conflict',
  'deadline_exceeded',
  'queue_full',
  'internal_error',
]);

/** As {@link checkPrivacy}, of what tells the past: names that the tenant might use once, or asked for in vain. */
function checkPastPrivacy(sim: Simulation, tenant: string, answered: Answered, what: string): void {
  if (answered.kind !== 'answer') return;
  const text = answered.text.replaceAll(/"unknown_name":"[^"]*"/g, '');
  for (const [name] of text.matchAll(/\btenant\d(?:\/[a-z][a-z0-9-]*)+/g)) {
    const owner = name.split('/')[0] as string;
    if (owner !== tenant && !sim.truth.mightUse(tenant, { name, owner }, 0, answered.at))
      sim.fail("3 nothing of another tenant's", `${what} told ${tenant} of ${name}: ${text.slice(0, 300)}`);
  }
}

/** One request of the admin API. `done` unless it was refused or lost. */
export async function admin(
  sim: Simulation,
  actor: Actor,
  given: {
    method?: string;
    path: string;
    body?: object | Uint8Array<ArrayBuffer>;
    headers?: Record<string, string>;
    key?: string;
    past?: boolean;
  },
  refusals: readonly string[] = [],
): Promise<{ outcome: Outcome; json: unknown; answered: Answered }> {
  const { erasures } = actor.tenant;
  const from = sim.world.time.now;
  const key = given.key ?? actor.tenant.adminKey;
  const { past = false, ...asked } = given;
  const answered = await sim.ask(actor, { ...asked, key });
  // The operator may see everything.
  if (key !== sim.world.adminKey)
    (past ? checkPastPrivacy : checkPrivacy)(sim, actor.tenant.id, answered, given.path);
  if (answered.kind === 'lost') return { outcome: 'lost', json: undefined, answered };
  if (answered.status < 300) return { outcome: 'done', json: answered.json, answered };
  const code = codeOf(answered);
  if (code === null || (answered.status >= 500 && code === 'internal_error'))
    sim.fail(
      'errors have a code',
      `${given.path} answered ${answered.status}: ${answered.text.slice(0, 300)}`,
    );
  else if (
    // A tenant that is erased meanwhile is refused everything.
    !actor.tenant.erasing &&
    erasures === actor.tenant.erasures &&
    !sim.truth.erasedDuring(actor.tenant.id, from) &&
    !mayBeErasedLate(sim, actor) &&
    !MAY_BE.has(code) &&
    !refusals.includes(code) &&
    code !== 'not_found' &&
    code !== 'model_not_found'
  )
    sim.fail(
      'a correct request is not refused',
      `${given.path} ${JSON.stringify(given.body)?.slice(0, 200)}: ${answered.text.slice(0, 300)}`,
    );
  return { outcome: 'refused', json: answered.json, answered };
}

/** An erasure that was lost on the way, or arrives twice, may end the keys that its tenant was given since. */
const mayBeErasedLate = ({ world }: Simulation, { tenant }: Actor): boolean =>
  tenant.erasures > 0 &&
  (['net-cut', 'net-silent', 'net-delay', 'net-twice'] as const).some((kind) =>
    world.faults.bitten.has(kind),
  );

/** Prefixes that the operator reserves and releases. */
export const ROOMS = ['hall', 'attic'];

/** A name of the tenant, old or new, up to four parts deep. */
export function someName({ tenant, random }: Actor, fresh: boolean): string {
  if (!fresh && tenant.names.length > 0) return random.pick(tenant.names);
  const parts = Array.from({ length: random.between(1, 3) }, () => random.pick(['a', 'b', 'c', 'd', 'e']));
  // Whoever takes these first has them, unless they are reserved.
  return [random.chance(0.04) ? random.pick(ROOMS) : tenant.id, ...parts].join('/');
}

/** What an acknowledged change of a name must mean. @returns what is wrong, or null. */
type Meaning = (
  sim: Simulation,
  given: { name: string; body: Body; json: unknown; from: number },
) => string | null;
type Body = Record<string, unknown>;

/**
 * A request that changes a name. One in three repeats it until it is answered, and each of a name that is given; then it
 * must have been done once.
 * @param twice whether a repetition after a lost answer may change something again.
 */
export const onName =
  (
    path: string,
    kind: keyof typeof KINDS,
    body: (sim: Simulation, actor: Actor, name: string) => Body,
    meaning: Meaning = () => null,
    { twice = false, refusals = [] }: { twice?: boolean; refusals?: readonly string[] } = {},
  ) =>
  async (sim: Simulation, actor: Actor, one?: string): Promise<Outcome> => {
    const name = one ?? pickName(sim, actor, kind);
    const why = sim.nextMark();
    const from = sim.world.time.now;
    const given = { path, body: { name, why, ...body(sim, actor, name) } };
    const allowed = [...NAME_REFUSALS, ...refusals];
    const ended = actor.random.chance(one === undefined ? 0.35 : 1)
      ? await repeat(sim, actor, given, allowed)
      : { ...(await admin(sim, actor, given, allowed)), lost: false };
    const { expect } = given.body as { expect?: number };
    if (!twice || expect !== undefined || !ended.lost)
      await checkOnce(sim, { name, why, path, from: twice && expect === undefined ? from : null });
    if (ended.outcome === 'done') {
      const wrong = meaning(sim, { name, body: given.body, json: ended.json, from });
      if (wrong !== null) sim.fail(LOST, `${path} ${JSON.stringify(given.body)}: ${wrong}`);
    }
    return ended.outcome;
  };

export const LOST = '1 nothing acknowledged is lost';

/**
 * A change that its client repeated is in the history once, unless another came between.
 * @param from when it was first asked for, ms: once it has been served since, a repetition is another change.
 */
async function checkOnce(
  sim: Simulation,
  { name, why, path, from }: { name: string; why: string; path: string; from: number | null },
): Promise<void> {
  // A request that arrives twice may be two.
  if (sim.world.faults.bitten.has('net-twice')) return;
  const rows = await committed<{ id: number; why: string | null; to_version: number }>(
    sim,
    'SELECT id, why, to_version FROM history WHERE name = ? ORDER BY id',
    name,
  );
  const repeated = rows.some(
    (row, at) =>
      row.why === why &&
      rows[at + 1]?.why === why &&
      (from === null || !sim.truth.servedSince(name, row.to_version, from)),
  );
  if (repeated) sim.fail('a repetition changes nothing', `${path} of ${name} was done twice (${why})`);
}

/** Whether the name was so at some moment since the request. */
export const wasOnce =
  (is: (state: NameState, given: { body: Body; json: unknown }) => boolean): Meaning =>
  (sim, { name, body, json, from }) => {
    const states = sim.truth.names.during(name, from, sim.world.time.now);
    return states.some((state) => is(state, { body, json }))
      ? null
      : `answered ${JSON.stringify(json)}, D1 had ${JSON.stringify(states)}`;
  };

export const NAME_REFUSALS = ['adapter_invalid', 'invalid_request', 'conflict', 'version_conflict'];

export const someVersion = (sim: Simulation, actor: Actor, name: string): number => {
  const versions = usableVersions(sim, name);
  return versions.length === 0 ? 1 : actor.random.pick(versions);
};

export const pickOr = (random: Random, names: readonly string[], instead: string): string =>
  names.length === 0 ? instead : random.pick(names);

/** Names of others that the tenant was given. */
export const grantedNames = (sim: Simulation, { tenant }: Actor): string[] =>
  sim.truth.grants.keys().flatMap((key) => {
    const grant = sim.truth.grants.now(key);
    const mine = grant !== undefined && (grant.tenant === tenant.id || grant.tenant === '*');
    return mine ? [grant.scope.replace('/**', '')] : [];
  });

/** Rows of D1 as it has committed them. */
export async function committed<T>(
  sim: Simulation,
  sql: string,
  ...values: (string | number)[]
): Promise<T[]> {
  const { results } = await sim.world.database.truth
    .prepare(sql)
    .bind(...values)
    .all<T>();
  return results;
}

/** As a client does that wants it done: again after 503, or when nobody knows. @returns the last answer. */
export async function repeat(
  sim: Simulation,
  actor: Actor,
  given: Parameters<typeof admin>[2],
  refusals: readonly string[] = [],
): Promise<Awaited<ReturnType<typeof admin>> & { lost: boolean; tries: number }> {
  let lost = false;
  let asked = given;
  // Some repeat it word for word.
  const isReader = actor.random.chance(0.6);
  for (let tries = 1; ; tries += 1) {
    const last = await admin(sim, actor, asked, refusals);
    const { answered, outcome } = last;
    lost ||= outcome === 'lost';
    const again = answered.kind === 'lost' || answered.status === 503;
    if (!again || tries === TRIES) return { ...last, lost, tries };
    // A rollback is to be repeated with the version that the error names.
    const to = /with `to: (\d+)`/.exec(answered.kind === 'answer' ? answered.text : '')?.[1];
    if (to !== undefined && isReader) asked = { ...given, body: { ...given.body, to: Number(to) } };
    await sim.world.time.sleep(actor.life, actor.random.between(200, 6_000));
  }
}
const TRIES = 5;

/** A completion with one of the tenant's keys. @param how what is not left to chance. */
export async function complete(
  sim: Simulation,
  actor: Actor,
  how: Partial<Completion> = {},
): Promise<Outcome> {
  const { random } = actor;
  const keys = random.chance(0.05) ? actor.tenant.keys : liveKeys(sim, actor);
  const key = random.pick(keys.length > 0 ? keys : actor.tenant.keys);
  const others = sim.tenants.flatMap(({ names }) => names);
  const name = random.weighted<string>([
    [1, 'base'],
    [7, pickOr(random, namesOf(sim, actor, 'live'), 'base')],
    [1, pickOr(random, actor.tenant.names, 'base')],
    [1, pickOr(random, others, 'base')],
    [1, pickOr(random, grantedNames(sim, actor), 'base')],
    [1, someName(actor, true)],
  ]);
  const version = random.chance(0.1) ? `@${random.between(1, 3)}` : '';
  return checkCompletion(sim, actor, {
    key,
    model: name === 'base' ? name : `${name}${version}`,
    // No other tenant may ever see this.
    content: `${promptOf(actor.tenant.id)} ${random.pick(['asks', 'what is it', 'hello '.repeat(random.between(2, 12))])}`,
    maxTokens: random.chance(0.15) ? random.between(60, 200) : random.between(1, 24),
    stream: random.chance(0.5),
    leaveAfterMs: null,
    slowMs: null,
    ...how,
  });
}
