/** Experiments: made, started, ramped, ended; answers with users, and feedback on them. */
import { codeOf } from '../client.ts';
import type { Actor, Outcome, Simulation, Trial } from '../simulation.ts';
import { STALE_MS } from '../truth.ts';
import {
  admin,
  committed,
  lastingKeys,
  LOST,
  namesOf,
  type Operation,
  repeat,
  usableVersions,
} from './operation.ts';

export const REFUSALS = [
  'version_conflict',
  'conflict',
  'invalid_request',
  'adapter_invalid',
  'experiment_over',
];

const running = ({ tenant }: Actor): Trial[] => tenant.experiments.filter(({ over }) => !over);

/** Names that an experiment may be about: another version than the live one may be served, too. */
export const testable = (sim: Simulation, actor: Actor): string[] =>
  namesOf(sim, actor, 'live').filter(
    (name) =>
      usableVersions(sim, name).length > 1 && !actor.tenant.experiments.some((one) => one.name === name),
  );

/** Two versions of a name against each other. @param design what else the experiment has. */
export async function createTrial(
  sim: Simulation,
  actor: Actor,
  design: (variants: { adapter: string }[]) => object,
): Promise<{ outcome: Outcome; trial: Trial | null; json: unknown }> {
  const { random, tenant } = actor;
  const name = random.pick(testable(sim, actor));
  const live = sim.truth.names.now(name)?.version ?? 1;
  const other = random.pick(usableVersions(sim, name).filter((one) => one !== live));
  const variants = [live, other].map((version, at) => ({
    key: at === 0 ? 'control' : 'treatment',
    adapter: `${name}@${version}`,
    weight: 0.5,
  }));
  const metrics = [{ key: 'thumbs', kind: 'proportion', better: 'up' }];
  const body = { name, variants, metrics, ...design(variants) };
  const from = sim.world.time.now;
  const { outcome, json } = await admin(sim, actor, { path: '/admin/experiments', body }, REFUSALS);
  if (outcome !== 'done') return { outcome, trial: null, json };
  const { id } = json as { id: string };
  const rows = await committed(sim, 'SELECT id FROM experiments WHERE id = ?', id);
  if (rows.length === 0 && !sim.truth.erasedDuring(tenant.id, from))
    sim.fail(LOST, `experiment ${id} is not in D1`);
  const trial: Trial = {
    id,
    name,
    changes: 0,
    over: false,
    answers: [],
    assigned: new Map(),
    users: new Set(),
  };
  tenant.experiments.push(trial);
  return { outcome, trial, json };
}

async function create(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const { outcome, trial } = await createTrial(sim, actor, () => ({
    ...(random.chance(0.4)
      ? { ramp: { steps: [0.1, 0.5, 1], hold_minutes: random.below(3), min_units: 0 } }
      : {}),
    ...(random.chance(0.3) ? { guardrails: [] } : {}),
  }));
  return trial === null ? outcome : step(sim, actor, trial, 'start');
}

/** @param over whether it has ended then. */
export async function step(
  sim: Simulation,
  actor: Actor,
  trial: Trial,
  what: string,
  body: object = {},
  over = false,
): Promise<Outcome> {
  trial.changes += 1;
  const path = `/admin/experiments/${trial.id}/${what}`;
  const { outcome } = await repeat(sim, actor, { path, body }, REFUSALS);
  trial.changes += 1;
  // Whatever became of it, nobody goes on with it.
  if (over && outcome !== 'lost') trial.over = true;
  return outcome;
}

/** Frees its name. */
export async function archiveTrial(sim: Simulation, actor: Actor, trial: Trial): Promise<Outcome> {
  const outcome = await step(sim, actor, trial, 'archive');
  if (outcome === 'done') actor.tenant.experiments = actor.tenant.experiments.filter((one) => one !== trial);
  return outcome;
}

const onTrial =
  (what: string, body: (actor: Actor) => object = () => ({}), over = false) =>
  (sim: Simulation, actor: Actor): Promise<Outcome> =>
    step(sim, actor, actor.random.pick(running(actor)), what, body(actor), over);

/** Asks as one of a few users: each stays with its variant while nothing changes. */
async function askAsUser(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const trial = random.pick(running(actor));
  const user = `user-${random.below(12)}`;
  const { changes } = trial;
  const stream = random.chance(0.4);
  const content = random.pick(['hello world', 'what is it']);
  const maxTokens = random.between(1, 10);
  const from = sim.world.time.now;
  trial.users.add(user);
  const answered = await sim.ask(actor, {
    path: '/v1/chat/completions',
    key: random.pick(lastingKeys(actor)).text,
    ...(random.chance(0.5) ? { headers: { 'x-graft-user': user } } : {}),
    body: {
      ...{ model: trial.name, messages: [{ role: 'user', content }], max_tokens: maxTokens, stream, user },
      temperature: 0,
    },
  });
  if (answered.kind === 'lost') {
    actor.tenant.unended += maxTokens;
    return 'lost';
  }
  if (answered.status !== 200) return 'refused';
  const id = /"id":"([^"]+)"/.exec(answered.text)?.[1];
  const variant = answered.headers.get('x-graft-variant');
  // Another experiment of the name may have begun, or this one be over.
  if (variant === null || answered.headers.get('x-graft-experiment') !== trial.id) return 'done';
  // What answered in a variant's place is not rated.
  const isFallback = ['ancestor', 'base'].includes(answered.headers.get('x-graft-degraded') ?? '');
  if (id !== undefined && !isFallback) trial.answers.push(id);
  const adapter = answered.headers.get('x-graft-adapter') ?? '';
  const states = sim.truth.experiments.during(trial.id, from - STALE_MS, sim.world.time.now);
  if (
    answered.headers.get('x-graft-degraded') === null &&
    !states.some(({ isLive, variants }) => isLive && variants[variant] === adapter)
  )
    sim.fail(
      '2 tokens are made by a chain in force',
      `${variant} of ${trial.id} was ${adapter}, in D1 were ${JSON.stringify(states)}`,
    );
  const known = trial.assigned.get(user);
  // What was changed shortly before is not known everywhere.
  if (
    known !== undefined &&
    known.changes === changes &&
    trial.changes === changes &&
    known.variant !== variant
  )
    sim.fail(
      'a user stays with its variant',
      `${user} of ${trial.name} was ${known.variant}, and ${variant} at ${from}`,
    );
  if (trial.changes === changes) trial.assigned.set(user, { variant, changes });
  return 'done';
}

/** Rates an answer, sometimes twice: it counts once. */
async function rate(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const trial = random.pick(running(actor).filter(({ answers }) => answers.length > 0));
  const id = random.pick(trial.answers);
  const given = {
    path: '/v1/feedback',
    body: { id, metric: 'thumbs', value: random.below(2) },
    key: random.pick(lastingKeys(actor)).text,
  };
  const from = sim.world.time.now;
  const first = await admin(sim, actor, given, [...REFUSALS, 'invalid_api_key', 'experiment_over']);
  if (first.outcome !== 'done' || random.chance(0.5)) return first.outcome;
  const second = await admin(sim, actor, given, [...REFUSALS, 'invalid_api_key', 'experiment_over']);
  // One that was erased meanwhile counts nothing, and says so to nobody.
  const there = await committed(
    sim,
    `SELECT id FROM experiments WHERE id = ? AND NOT EXISTS (
       SELECT 1 FROM erasures WHERE step IN ('planned', 'keys', 'experiments'))`,
    trial.id,
  );
  const isThere = there.length > 0 && !sim.truth.erasedDuring(actor.tenant.id, from);
  if (isThere && second.outcome === 'done' && (second.json as { status: string }).status !== 'repeated')
    sim.fail('5 an exposure counts once', `${id} was rated twice: ${JSON.stringify(second.json)}`);
  if (isThere && codeOf(second.answered) === 'exposure_forged') sim.fail(LOST, `${id} is no answer any more`);
  return first.outcome;
}

/** Each user counts once: no look has more units than users and keys that asked. */
async function look(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const trial = random.pick(running(actor));
  const path = `/admin/experiments/${trial.id}`;
  const { outcome, json } = await admin(
    sim,
    actor,
    random.chance(0.5) ? { path } : { path: `${path}/evaluate`, body: {} },
    REFUSALS,
  );
  if (outcome !== 'done') return outcome;
  const { evaluation } = json as { evaluation: { units: Record<string, number> } | null };
  const units = Object.values(evaluation?.units ?? {}).reduce((sum, one) => sum + one, 0);
  const most = trial.users.size + sim.tenants.reduce((sum, { keys }) => sum + keys.length, 0);
  if (units > most)
    sim.fail('5 an exposure counts once', `${trial.name} has ${units} units, of at most ${most} who asked`);
  return outcome;
}

const some = (_sim: Simulation, actor: Actor): boolean => running(actor).length > 0;

export const EXPERIMENTS = {
  'start an experiment': {
    weight: 10,
    possible: (sim, actor) => testable(sim, actor).length > 0,
    run: create,
  },
  'ask as a user': {
    weight: 20,
    possible: (sim, actor) => some(sim, actor) && lastingKeys(actor).length > 0,
    run: askAsUser,
  },
  rate: {
    weight: 12,
    possible: (_sim, actor) =>
      running(actor).some(({ answers }) => answers.length > 0) && lastingKeys(actor).length > 0,
    run: rate,
  },
  'look at an experiment': { weight: 4, possible: some, run: look },
  'ramp an experiment': {
    weight: 3,
    possible: some,
    run: onTrial('ramp', ({ random }) => ({ coverage: random.pick([0.5, 0.8, 1]) })),
  },
  'kill an experiment': {
    weight: 3,
    possible: some,
    run: onTrial('kill', ({ random }) => ({ killed: random.chance(0.6) })),
  },
  'stop an experiment': {
    weight: 1.5,
    possible: some,
    run: onTrial('stop', () => ({}), true),
  },
  'promote a variant': {
    weight: 2.5,
    possible: some,
    run: onTrial('promote', ({ random }) => ({ variant: random.pick(['control', 'treatment']) }), true),
  },
  'archive an experiment': {
    weight: 8,
    possible: (_sim, { tenant }) => tenant.experiments.some(({ over }) => over),
    run: (sim, actor) =>
      archiveTrial(sim, actor, actor.random.pick(actor.tenant.experiments.filter(({ over }) => over))),
  },
  'list experiments': {
    weight: 1,
    possible: () => true,
    run: async (sim, actor) => (await admin(sim, actor, { path: '/admin/experiments', past: true })).outcome,
  },
} as const satisfies Record<string, Operation>;
