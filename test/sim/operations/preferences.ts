/** What users prefer of kept answers, and the rows that are made of it. */
import type { ImprovementRows } from '../../../protocol/admin-api/improvements.ts';
import { promptOf } from '../answers.ts';
import { codeOf } from '../client.ts';
import { wrongRow } from '../invariants/preferences.ts';
import type { Actor, Key, KeptAnswer, Outcome, Preferred, Simulation } from '../simulation.ts';
import { makeKey } from './keys.ts';
import {
  admin,
  committed,
  liveKeys,
  LOST,
  namesOf,
  type Operation,
  repeat,
  SECOND,
  usableVersions,
} from './operation.ts';

const PATH = '/v1/preferences';
/** A key may end, or be forgotten with what it kept, meanwhile. */
const KEY_ENDS = ['invalid_api_key', 'insufficient_scope'];

/** A key of which prompts are kept, and may improve adapters; another one now and then. */
async function improver(sim: Simulation, actor: Actor): Promise<{ outcome: Outcome; key: Key | null }> {
  const known = liveKeys(sim, actor).filter(({ id }) => sim.improvers.has(id));
  if (known.length > 0 && actor.random.chance(0.8)) return { outcome: 'done', key: actor.random.pick(known) };
  const made = await makeKey(sim, actor, {
    scopes: [`${actor.tenant.id}/**`],
    keep_prompts: 1,
    improve: true,
  });
  if (made.key !== null) {
    sim.keepers.add(made.key.id);
    sim.improvers.add(made.key.id);
  }
  return made;
}

/** Names whose versions can be compared. */
const comparable = (sim: Simulation, actor: Actor): string[] =>
  namesOf(sim, actor, 'live').filter((name) => usableVersions(sim, name).length > 1);

async function askVersion(
  sim: Simulation,
  actor: Actor,
  asked: { key: Key; model: string; content: string; user: string },
): Promise<KeptAnswer | null> {
  const { key, model, content, user } = asked;
  const maxTokens = 12;
  const answered = await sim.ask(actor, {
    path: '/v1/chat/completions',
    key: key.text,
    body: { model, messages: [{ role: 'user', content }], max_tokens: maxTokens, temperature: 0, user },
  });
  if (answered.kind === 'lost') actor.tenant.unended += maxTokens;
  if (answered.kind === 'lost' || answered.status !== 200) return null;
  const id = answered.headers.get('x-request-id');
  if (id === null || answered.headers.get('x-graft-adapter') !== model) return null;
  const { choices } = answered.json as { choices: { message: { content: string } }[] };
  return { id, content, text: choices[0]?.message.content ?? '' };
}

/** Asks two versions the same, and says which answer is better; some say it twice, or both ways. */
async function prefer(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, tenant } = actor;
  const { outcome: had, key } = await improver(sim, actor);
  if (key === null) return had;
  // They may have gone meanwhile.
  const names = comparable(sim, actor);
  if (names.length === 0) return 'refused';
  const name = random.pick(names);
  const versions = usableVersions(sim, name);
  const one = random.pick(versions);
  const other = random.pick(versions.filter((version) => version !== one));
  const content = `${promptOf(tenant.id)} ${sim.nextMark()}`;
  const user = `chooser-${random.below(1_000)}`;
  const chosen = await askVersion(sim, actor, { key, model: `${name}@${one}`, content, user });
  const rejected = await askVersion(sim, actor, { key, model: `${name}@${other}`, content, user });
  if (chosen === null || rejected === null) return 'refused';
  if (random.chance(0.5)) await sim.world.time.sleep(actor.life, random.below(20 * SECOND));
  const outcome = await tell(sim, actor, { key, name, chosen, rejected });
  if (outcome === 'done' && random.chance(0.1))
    await tell(sim, actor, { key, name, chosen: rejected, rejected: chosen });
  return outcome;
}

async function tell(
  sim: Simulation,
  actor: Actor,
  { key, ...sides }: Pick<Preferred, 'key' | 'name' | 'chosen' | 'rejected'>,
): Promise<Outcome> {
  const { tenant, random } = actor;
  const from = sim.world.time.now;
  const preferred: Preferred = { tenant: tenant.id, key, ...sides, askedAt: from, isAcknowledged: false };
  sim.preferred.push(preferred);
  const given = {
    path: PATH,
    body: { chosen: sides.chosen.id, rejected: sides.rejected.id },
    key: key.text,
  };
  const { outcome, json, tries } = await repeat(sim, actor, given, KEY_ENDS);
  if (outcome !== 'done') return outcome;
  preferred.isAcknowledged = true;
  const what = `${JSON.stringify(given.body)} of ${tenant.id}`;
  const mayBeTwice = tries > 1 || sim.world.faults.bitten.has('net-twice');
  const { status } = json as { status: string };
  if (status !== 'recorded' && !mayBeTwice) sim.fail(LOST, `${what}, told for the first time, is ${status}`);
  const mayBeGone = (): boolean => sim.truth.erasedDuring(tenant.id, from) || sim.forgetting.has(key.counter);
  const there = await committed(
    sim,
    'SELECT at FROM preferences WHERE tenant = ? AND chosen = ? AND rejected = ?',
    ...[tenant.id, sides.chosen.id, sides.rejected.id],
  );
  if (there.length === 0 && !mayBeGone()) sim.fail(LOST, `${what} was acknowledged and is not in D1`);
  if (random.chance(0.7)) return outcome;
  const again = await admin(sim, actor, given, KEY_ENDS);
  if (again.outcome === 'done' && (again.json as { status: string }).status !== 'known' && !mayBeGone())
    sim.fail('a repetition changes nothing', `${what} is told twice, and ${JSON.stringify(again.json)}`);
  return outcome;
}

/** Decisions on a name's answers of which D1 has a text. */
const decided = async (sim: Simulation, tenant: string, name: string): Promise<number> =>
  (
    await committed(
      sim,
      `SELECT 1 FROM preferences p WHERE tenant = ?1 AND expires_at > ?3 AND EXISTS (
         SELECT 1 FROM kept_prompts k WHERE k.tenant = ?1 AND k.id = p.chosen AND k.name = ?2 AND k.expires_at > ?3)`,
      // An isolate's clock may be wrong.
      ...[tenant, name, sim.world.time.now + 60 * SECOND],
    )
  ).length;

/** Rows for a name's next version: only a key that may read prompts has them made, of what its own tenant's users said. */
async function makeRows(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, tenant } = actor;
  const readers = await repeat(sim, actor, {
    path: '/admin/keys',
    body: { kind: 'admin', tenant: tenant.id, scopes: [`${tenant.id}/**`], prompts: true },
    key: sim.world.adminKey,
  });
  if (readers.outcome !== 'done') return readers.outcome;
  const names = namesOf(sim, actor, 'any');
  if (names.length === 0) return 'refused';
  const named = sim.preferred.filter((one) => one.tenant === tenant.id && names.includes(one.name));
  const name = named.length > 0 ? random.pick(named).name : random.pick(names);
  const asked = { path: '/admin/improvements', body: { name, method: random.pick(['sft', 'dpo']) } };
  const others = sim.tenants.filter((one) => one !== tenant).map(({ adminKey }) => adminKey);
  for (const stranger of [tenant.adminKey, random.pick(others)]) {
    const answered = await sim.ask(actor, { ...asked, key: stranger });
    if (answered.kind === 'answer' && (answered.status === 200 || codeOf(answered) === null))
      sim.fail("3 nothing of another tenant's", `/admin/improvements: ${answered.text.slice(0, 300)}`);
  }
  const from = sim.world.time.now;
  const before = await decided(sim, tenant.id, name);
  const { outcome, json } = await admin(sim, actor, {
    ...asked,
    key: (readers.json as { key: string }).key,
  });
  if (outcome !== 'done') return outcome;
  const { rows, left_out: left } = json as ImprovementRows;
  for (const { by, row } of rows) {
    const wrong = by === 'judge' ? null : wrongRow(sim, { tenant: tenant.id, name }, row);
    if (wrong !== null) sim.fail('rows are made of what was preferred', `${name} of ${tenant.id}: ${wrong}`);
  }
  const counted = left.reduce((sum, { count }) => sum + count, rows.length);
  const least = Math.min(before, await decided(sim, tenant.id, name));
  if (counted < least && !sim.truth.erasedDuring(tenant.id, from))
    sim.fail(
      'rows are made of what was preferred',
      `${name} of ${tenant.id} has ${least} decisions: ${JSON.stringify(json).slice(0, 400)}`,
    );
  return outcome;
}

export const PREFERENCES = {
  'prefer an answer': {
    weight: 3,
    possible: (sim, actor) => comparable(sim, actor).length > 0,
    run: prefer,
  },
  'make rows of preferences': {
    weight: 1,
    possible: (sim, actor) => sim.tenants.length > 1 && namesOf(sim, actor, 'any').length > 0,
    run: makeRows,
  },
} as const satisfies Record<string, Operation>;
