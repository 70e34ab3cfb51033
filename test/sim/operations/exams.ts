/** Kept evaluations: kept, listed, read back, scored, removed, and scored before a publication. */
import type { EvaluationList, EvaluationScore } from '../../../protocol/admin-api/evaluations.ts';
import type { ChainEntry } from '../../../protocol/identity.ts';
import { codeOf } from '../client.ts';
import { examDigest, examOf, type ExamRow } from '../exams.ts';
import { wrongScore } from '../invariants/exams.ts';
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { STALE_MS } from '../truth.ts';
import { chainIdOf } from '../world/played-training.ts';
import { publish } from './names.ts';
import {
  admin,
  committed,
  has,
  LOST,
  NAME_REFUSALS,
  namesOf,
  type Operation,
  pickName,
  repeat,
  usableVersions,
} from './operation.ts';
import { upload } from './uploads.ts';

const PATH = '/admin/evaluations';
const LABELS = ['exam', 'quiz'];
/** A name or its key may be gone, or its tenant have no room. */
const REFUSALS = [...NAME_REFUSALS, 'insufficient_quota'];
/** Tokens of an expected answer; a question and it must fit the context. */
const EXPECTED_TOKENS = 100;
const MOST_ROWS = 5;
/** Requests that it takes to score the most rows, and some that are refused for now. */
const MOST_TRIES = 8;

type Chain = readonly ChainEntry[];

/** Chains of a name's live version at some moment since then, and shortly before. */
const liveChains = (sim: Simulation, name: string, from: number): Chain[] =>
  sim.truth.names
    .during(name, from - STALE_MS, sim.world.time.now)
    .flatMap(({ version }) => (version === null ? [] : sim.truth.chainsAs(`${name}@${version}`)));

/** Half of them are what the live version answers. */
function someRows(sim: Simulation, actor: Actor, name: string): ExamRow[] {
  const { random, tenant } = actor;
  const [chain = []] = liveChains(sim, name, sim.world.time.now);
  const number = sim.nextNumber();
  return Array.from({ length: random.between(1, MOST_ROWS) }, (_, at) => {
    const user = `${examOf(number, tenant.id)} asks ${at}`;
    const { text, tokens } = sim.oracle.answer({ content: user, chain, maxTokens: EXPECTED_TOKENS });
    const isWhole = tokens < EXPECTED_TOKENS && text !== '';
    return { user, expected: isWhole && random.chance(0.7) ? text : random.pick(['nothing', 'it answers']) };
  });
}

/** Evaluations of the tenant's names, as D1 has them. */
const examsOf = async (sim: Simulation, actor: Actor): Promise<{ name: string; label: string }[]> => {
  const names = new Set(namesOf(sim, actor, 'any'));
  const rows = await committed<{ name: string; label: string }>(sim, 'SELECT name, label FROM evaluations');
  return rows.filter(({ name }) => names.has(name));
};

const hasExam: Operation['possible'] = (sim, actor) => {
  const names = new Set(namesOf(sim, actor, 'live'));
  return sim.exams.all.some(({ name }) => names.has(name));
};

const onExam =
  (run: (sim: Simulation, actor: Actor, exam: { name: string; label: string }) => Promise<Outcome>) =>
  async (sim: Simulation, actor: Actor): Promise<Outcome> => {
    const exams = await examsOf(sim, actor);
    return exams.length === 0 ? 'refused' : run(sim, actor, actor.random.pick(exams));
  };

const once = async (
  ...given: Parameters<typeof admin>
): Promise<Awaited<ReturnType<typeof admin>> & { lost: boolean }> => {
  const done = await admin(...given);
  return { ...done, lost: done.outcome === 'lost' };
};

async function keep(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const known = await examsOf(sim, actor);
  const again = known.length > 0 && random.chance(0.4) ? random.pick(known) : null;
  // They may have gone meanwhile.
  if (namesOf(sim, actor, 'any').length === 0) return 'refused';
  const name = again?.name ?? pickName(sim, actor, 'live');
  const label = again?.label ?? random.pick(LABELS);
  const { sent } = sim.exams.of(name, label);
  const before = random.chance(0.2) && sent.size > 0 ? random.pick([...sent.values()]) : null;
  const rows = before ?? someRows(sim, actor, name);
  const digest = examDigest(rows);
  sent.set(digest, rows);
  const ended = sim.exams.of(name, label).begin();
  const given = { path: PATH, body: { name, label, rows } };
  const { outcome, json, lost } = await (random.chance(0.4) ? repeat : once)(sim, actor, given, REFUSALS);
  ended({ lost, at: sim.world.time.now });
  const view = json as { sha256?: string; rows?: number };
  if (outcome === 'done' && (view.sha256 !== digest || view.rows !== rows.length))
    sim.fail(LOST, `${label} of ${name} was sent as ${digest}, and is ${JSON.stringify(json)}`);
  return outcome;
}

/** @returns a function that says whether nobody has changed it since. */
function watch(sim: Simulation, { name, label }: { name: string; label: string }): () => boolean {
  const isStill = sim.exams.of(name, label).watch(sim.world.time.now);
  // What arrives twice may be done again later.
  return () => isStill() && !sim.world.faults.bitten.has('net-twice');
}

/** All rows, page by page: those of one state, unless it is changed meanwhile. */
async function read(
  sim: Simulation,
  actor: Actor,
  { name, label }: { name: string; label: string },
): Promise<Outcome> {
  const exam = sim.exams.of(name, label);
  const isStill = watch(sim, { name, label });
  const found: string[] = [];
  const pathOf = (cursor: string | null): string =>
    `${PATH}/rows?${new URLSearchParams({ name, label, ...(cursor === null ? {} : { cursor }) })}`;
  for (const other of sim.tenants.filter((one) => one !== actor.tenant).slice(0, 1)) {
    const key = actor.random.chance(0.5) ? other.adminKey : sim.world.adminKey;
    const stranger = await sim.ask(actor, { path: pathOf(null), key });
    if (stranger.kind === 'answer' && (stranger.status === 200 || codeOf(stranger) === null))
      sim.fail("3 nothing of another tenant's", `${pathOf(null)}: ${stranger.text.slice(0, 300)}`);
  }
  let cursor: string | null = null;
  do {
    const page: Awaited<ReturnType<typeof repeat>> = await repeat(
      sim,
      actor,
      { path: pathOf(cursor) },
      REFUSALS,
    );
    if (page.outcome !== 'done') return page.outcome;
    const part = page.json as { rows: ExamRow[]; cursor: string | null };
    found.push(...part.rows.map((row) => JSON.stringify(row)));
    ({ cursor } = part);
  } while (cursor !== null);
  const sent = [...exam.sent.values()].map((rows) => rows.map((row) => JSON.stringify(row)));
  const isRight = isStill()
    ? sent.some((rows) => JSON.stringify(rows) === JSON.stringify(found))
    : found.every((row) => sent.some((rows) => rows.includes(row)));
  if (!isRight) sim.fail(LOST, `${label} of ${name} has ${found.join(', ')}`);
  return 'done';
}

interface Scoring {
  name: string;
  label: string;
  /** What the request says of what is scored. */
  what: object;
  /** One of them is. */
  chains: (from: number) => readonly Chain[];
}

/** Until all rows are scored. @returns the last score. */
async function scoreAll(
  sim: Simulation,
  actor: Actor,
  { name, label, what, chains }: Scoring,
): Promise<{ outcome: Outcome; score: EvaluationScore | null }> {
  const { random } = actor;
  const from = sim.world.time.now;
  let again = random.chance(0.1);
  if (again) sim.exams.of(name, label).begin()({ lost: true, at: from });
  for (let tries = 0; tries < MOST_TRIES; tries += 1) {
    const body = { name, label, ...what, ...(again ? { again } : {}) };
    const { outcome, json, answered } = await admin(sim, actor, { path: `${PATH}/score`, body }, REFUSALS);
    again = false;
    if (outcome === 'done') {
      const score = json as EvaluationScore;
      const wrong = wrongScore(sim, { name, score, chains: chains(from) });
      if (wrong !== null) sim.fail('a score is what the chain answers', `${JSON.stringify(body)}: ${wrong}`);
      if (score.scored === score.rows) return { outcome, score };
      continue;
    }
    // Before a version of its own is there, a client goes on after what passes.
    const passes = answered.kind === 'lost' || answered.status === 503 || answered.status === 429;
    if (!passes) return { outcome, score: null };
    await sim.world.time.sleep(actor.life, random.between(200, 6_000));
  }
  return { outcome: 'refused', score: null };
}

async function score(
  sim: Simulation,
  actor: Actor,
  { name, label }: { name: string; label: string },
): Promise<Outcome> {
  const versions = usableVersions(sim, name);
  const id =
    versions.length > 0 && actor.random.chance(0.6) ? `${name}@${actor.random.pick(versions)}` : null;
  const { outcome } = await scoreAll(sim, actor, {
    ...{ name, label, what: id === null ? {} : { adapter: id } },
    chains: (from) => (id === null ? liveChains(sim, name, from) : sim.truth.chainsAs(id)),
  });
  return outcome;
}

async function list(sim: Simulation, actor: Actor, name: string): Promise<EvaluationList | Outcome> {
  const { outcome, json } = await admin(
    sim,
    actor,
    { path: `${PATH}?${new URLSearchParams({ name })}` },
    REFUSALS,
  );
  if (outcome !== 'done') return outcome;
  const listed = json as EvaluationList;
  const wrong = (what: string): void =>
    sim.fail('a score is what the chain answers', `the evaluations of ${name}: ${what}`);
  for (const { label, sha256 } of listed.evaluations)
    if (!sim.exams.of(name, label).sent.has(sha256)) wrong(`nobody has sent ${label} as ${sha256}`);
  for (const { version, against_live: against, ...one } of listed.scores) {
    const problem = wrongScore(sim, {
      ...{ name, score: one },
      chains: sim.truth.chainsAs(`${name}@${version}`),
    });
    if (problem !== null) wrong(`version ${version}: ${problem}`);
    if (version === listed.live && against !== null && against.better + against.worse > 0)
      wrong(`version ${version} is live, and other than itself: ${JSON.stringify(against)}`);
  }
  return listed;
}

/** As `graft publish --scores` does: what the uploaded file scored is the version's score. */
async function publishScored(
  sim: Simulation,
  actor: Actor,
  { name, label }: { name: string; label: string },
): Promise<Outcome> {
  const { random, tenant } = actor;
  const live = namesOf(sim, actor, 'live').filter((one) => one !== name);
  const parent = live.length > 0 && random.chance(0.4) ? random.pick(live) : null;
  const [below = []] = parent === null ? [] : liveChains(sim, parent, sim.world.time.now);
  const adapter = sim.newFile(below.length === 0 ? null : chainIdOf(below));
  const sent = await upload(sim, actor, adapter, {});
  if (sent !== 'done') return sent;
  const isStill = watch(sim, { name, label });
  const from = sim.world.time.now;
  const chain = [
    ...below.map(({ digest, scale }) => ({ digest, scale })),
    { digest: adapter.digest, scale: 1 },
  ];
  const { outcome, score: scored } = await scoreAll(sim, actor, {
    ...{ name, label, what: { digest: adapter.digest, ...(parent === null ? {} : { parent }) } },
    chains: (since) => [
      chain,
      ...(parent === null ? [] : liveChains(sim, parent, since)).map((one) => [
        ...one,
        chain.at(-1) as ChainEntry,
      ]),
    ],
  });
  if (scored === null) return outcome;
  const published = await publish(sim, actor, { stage: random.chance(0.7), name, file: { adapter, parent } });
  if (published !== 'done') return published;
  const listed = await list(sim, actor, name);
  if (typeof listed === 'string') return listed;
  const versions = await committed<{ version: number; chain_id: string }>(
    sim,
    'SELECT version, chain_id FROM versions WHERE name = ? AND digest = ? AND removed_at IS NULL',
    ...[name, adapter.digest],
  );
  const version = versions.find(({ chain_id: id }) => id === chainIdOf(chain))?.version;
  if (version === undefined || !isStill() || sim.truth.erasedDuring(tenant.id, from)) return 'done';
  const own = listed.scores.find((one) => one.version === version && one.label === label);
  if (own === undefined || own.scored < own.rows)
    sim.fail(LOST, `${name}@${version} was scored on ${label}, and has ${JSON.stringify(own)}`);
  return 'done';
}

export const EXAMS = {
  'keep an evaluation': { weight: 3, possible: has('live'), run: keep },
  'read an evaluation': { weight: 1.5, possible: hasExam, run: onExam(read) },
  'score an evaluation': { weight: 3, possible: hasExam, run: onExam(score) },
  'list evaluations': {
    weight: 1.5,
    possible: hasExam,
    run: onExam(async (sim, actor, { name }) => {
      const listed = await list(sim, actor, name);
      return typeof listed === 'string' ? listed : 'done';
    }),
  },
  'publish with scores': { weight: 3, possible: hasExam, run: onExam(publishScored) },
  'remove an evaluation': {
    weight: 2,
    possible: hasExam,
    run: onExam(async (sim, actor, { name, label }) => {
      const ended = sim.exams.of(name, label).begin();
      const path = `${PATH}?${new URLSearchParams({ name, label })}`;
      const { outcome, lost } = await once(sim, actor, { method: 'DELETE', path }, REFUSALS);
      ended({ lost, at: sim.world.time.now });
      return outcome;
    }),
  },
} as const satisfies Record<string, Operation>;
