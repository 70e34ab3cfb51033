/** Somebody with the right to write KV writes what graft has not signed there; the operator mends it. */
import { type Mended, RepairAnswer } from '../../../protocol/admin-api/upkeep.ts';
import { tinyAdapter } from '../../fakes/tiny-adapters.ts';
import { type Actor, type Outcome, sha256, type Simulation } from '../simulation.ts';
import {
  committed,
  complete,
  liveKeys,
  namesOf,
  type Operation,
  pickName,
  repeat,
  SECOND,
} from './operation.ts';

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** Other bytes for a value: unsigned, of another key, cut, or no value at all. */
function forged(sim: Simulation, { random }: Actor, key: string): Uint8Array<ArrayBuffer> | null {
  const { kv } = sim.world;
  const own = kv.read(key);
  if (own === null) return null;
  const text = decoder.decode(own);
  const cut = text.indexOf('\n') + 1;
  const others = kv.keys(key.slice(0, key.indexOf(':') + 1)).filter((one) => one !== key);
  const other = others.length === 0 ? null : kv.read(random.pick(others));
  return random.pick([
    encoder.encode(text.slice(cut)),
    encoder.encode(text.slice(0, cut) + text.slice(cut).replace(/"version":\d+/, '"version":1')),
    encoder.encode(`${text.slice(0, cut)}${text.slice(cut).replace('"scopes":[', '"scopes":["**",')}`),
    encoder.encode(text.slice(0, random.below(text.length))),
    random.bytes(random.between(1, 80)),
    ...(other === null ? [] : [other]),
  ]);
}

/** Page by page, until it has been through. @returns what it mended, as far as it was answered. */
export async function repairAll(
  sim: Simulation,
  actor: Actor,
  { dryRun = false }: { dryRun?: boolean } = {},
): Promise<{ outcome: Outcome; mended: Mended[] }> {
  const mended: Mended[] = [];
  let cursor: string | null = null;
  for (let page = 0; page < 60; page += 1) {
    const { outcome, json } = await repeat(sim, actor, {
      path: '/admin/repair',
      body: { cursor, dry_run: dryRun },
      key: sim.world.adminKey,
    });
    if (outcome !== 'done') return { outcome, mended };
    const answer = RepairAnswer.parse(json);
    mended.push(...answer.mended);
    ({ cursor } = answer);
    // What it has read may come from KV's cache: at rest it is done once more.
    if (cursor === null) return { outcome, mended };
  }
  return { outcome: 'refused', mended };
}

const repair = async (sim: Simulation, actor: Actor): Promise<Outcome> =>
  (await repairAll(sim, actor)).outcome;

/** A file that is not an adapter of this base: truncated, corrupted, of another base, or on an unknown parent. */
function damagedFile(sim: Simulation, { random }: Actor): Buffer {
  const { bytes } = sim.newFile(null);
  const header = Buffer.from(bytes);
  // No JSON has this.
  header[8 + random.below(30)] = 1;
  return random.pick([
    bytes.subarray(0, random.below(bytes.length)),
    Buffer.concat([bytes, Buffer.from(random.bytes(random.between(1, 9)))]),
    Buffer.from(random.bytes(random.between(0, 400))),
    header,
    tinyAdapter({ seed: random.below(100), rank: 2, base: sha256('another base') }).bytes,
    tinyAdapter({ seed: random.below(100), rank: 2, parent: sha256('a parent'), base: sim.world.base.id })
      .bytes,
  ]);
}

/** A damaged file in KV's inbox becomes no version: `drop-error:` says why, and the file is removed. */
async function dropDamaged(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, tenant } = actor;
  const { kv, time } = sim.world;
  const above = pickName(sim, actor, 'any');
  const name = random.chance(0.5) || above.split('/').length > 6 ? above : `${above}/bad`;
  const bytes = Uint8Array.from(damagedFile(sim, actor));
  if (!kv.put(`drop:${name}`, bytes)) return 'refused';
  if (random.chance(0.5) && liveKeys(sim, actor).length > 0) await complete(sim, actor, { model: name });
  for (let tries = 0; tries < 10; tries += 1) {
    await time.sleep(actor.life, 30 * SECOND);
    const digest = sha256(bytes);
    const rows = await committed(sim, 'SELECT version FROM versions WHERE digest = ?', digest);
    if (rows.length > 0)
      sim.fail('what is damaged is no version', `${tenant.id} dropped ${digest} for ${name}, and it is one`);
    if (kv.read(`drop:${name}`) !== null) continue;
    const said = kv.read(`drop-error:${name}`);
    if (said === null) return 'refused';
    const { code } = JSON.parse(decoder.decode(said)) as { code?: string };
    return code === undefined ? 'refused' : 'done';
  }
  return 'lost';
}

/** Parts of files of the tenant's live versions, as KV has them. */
function partsInKv(sim: Simulation, actor: Actor): { key: string; name: string }[] {
  return namesOf(sim, actor, 'live').flatMap((name) => {
    const version = sim.truth.names.now(name)?.version;
    const chain = sim.truth.versions.get(`${name}@${version}`)?.chain ?? [];
    return chain
      .flatMap(({ digest }) => sim.world.kv.keys(`blob:${digest}:`))
      .filter((key) => !sim.damagedParts.has(key))
      .map((key) => ({ key, name }));
  });
}

/** A part of a file has other bytes for a while: no origin takes it, and no answer is made of it. */
async function damagePart(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const { kv, time } = sim.world;
  const { key, name } = random.pick(partsInKv(sim, actor));
  const whole = kv.read(key);
  if (whole === null || whole.length === 0) return 'refused';
  const damaged = Uint8Array.from(whole);
  const at = random.below(damaged.length);
  damaged[at] = (damaged[at] as number) ^ (1 << random.below(8));
  if (!kv.put(key, random.chance(0.7) ? damaged : damaged.slice(0, at))) return 'refused';
  sim.damagedParts.add(key);
  const is = kv.read(key);
  // Origins that have the file already need no part of it.
  for (let times = random.between(1, 3); times > 0; times -= 1) {
    await complete(sim, actor, { model: name });
    await time.sleep(actor.life, random.below(20 * SECOND));
  }
  // Unless somebody has erased it meanwhile.
  while (kv.read(key) === is && !kv.put(key, whole)) await time.sleep(actor.life, SECOND);
  sim.damagedParts.delete(key);
  return (await complete(sim, actor, { model: name })) === 'done' ? 'done' : 'refused';
}

export const TAMPERING = {
  'drop what is damaged': {
    weight: 2,
    possible: (sim, actor) => namesOf(sim, actor, 'any').length > 0,
    run: dropDamaged,
  },
  'damage a part': {
    weight: 3,
    possible: (sim, actor) => partsInKv(sim, actor).length > 0 && liveKeys(sim, actor).length > 0,
    run: damagePart,
  },
  'tamper with KV': {
    weight: 4,
    possible: (sim, actor) =>
      sim.isTampered && namesOf(sim, actor, 'live').length > 0 && liveKeys(sim, actor).length > 0,
    run: async (sim, actor) => {
      const { random } = actor;
      const key = random.pick(liveKeys(sim, actor));
      const name = random.pick(namesOf(sim, actor, 'live'));
      const place = random.chance(0.7)
        ? `name:${name}`
        : `key:${sim.truth.keys.now(key.id)?.hash ?? sim.world.base.id}`;
      const bytes = forged(sim, actor, place);
      if (bytes === null || !sim.world.kv.put(place, bytes)) return 'refused';
      sim.tampered.add(place.startsWith('name:') ? `name ${name}` : `key ${key.id}`);
      // What is answered must be right all the same.
      for (let times = random.between(1, 3); times > 0; times -= 1) {
        await complete(sim, actor, { key, model: name });
        await sim.world.time.sleep(actor.life, random.below(40_000));
      }
      return repair(sim, actor);
    },
  },
  repair: {
    weight: 1,
    possible: ({ isTampered }) => isTampered,
    // Mostly only looked at: what it mends, nobody finds any more.
    run: async (sim, actor) => (await repairAll(sim, actor, { dryRun: actor.random.chance(0.8) })).outcome,
  },
} as const satisfies Record<string, Operation>;
