/** Experiments that end by themselves, what they tell their tenant's application, and pairs that it judges. */
import { codeOf } from '../client.ts';
import { promptOf } from '../answers.ts';
import { type Pair } from '../receivers.ts';
import { STALE_MS } from '../truth.ts';
import type { Actor, Key, Outcome, Simulation, Trial } from '../simulation.ts';
import { archiveTrial, createTrial, REFUSALS, step, testable } from './experiments.ts';
import { makeKey } from './keys.ts';
import { committed, LOST, type Operation, repeat, SECOND } from './operation.ts';

/** Enough that both arms have the eight units that a guardrail needs, nearly always. */
const USERS = 24;
/** Units of each arm below which no guardrail is lost (statistics/sequential.ts). */
const LEAST_UNITS = 8;
const PATIENCE = 3;

type Variant = 'control' | 'treatment';

interface Asker {
  trial: Trial;
  key: Key;
  user: string;
}

interface Rating {
  variant: Variant;
  counted: boolean;
}

const askAs = (sim: Simulation, actor: Actor, { trial, key, user }: Asker): ReturnType<Simulation['ask']> =>
  sim.ask(actor, {
    path: '/v1/chat/completions',
    key: key.text,
    body: {
      model: trial.name,
      messages: [{ role: 'user', content: 'hello' }],
      max_tokens: 1,
      user,
    },
  });

/** Asks as the user, and rates the answer: all like control's and none the treatment's. */
async function askAndRate(sim: Simulation, actor: Actor, asker: Asker): Promise<Rating | null> {
  const { trial, key, user } = asker;
  const { time } = sim.world;
  await time.sleep(actor.life, actor.random.below(20 * SECOND));
  trial.users.add(user);
  const answered = await askAs(sim, actor, asker);
  if (answered.kind === 'lost' || answered.status !== 200) return null;
  const variant = answered.headers.get('x-graft-variant');
  const experiment = answered.headers.get('x-graft-experiment') ?? '';
  const id = /"id":"([^"]+)"/.exec(answered.text)?.[1];
  if (id === undefined || variant === null || ![trial.name, trial.id].includes(experiment)) return null;
  const body = { id, metric: 'thumbs', value: variant === 'control' ? 1 : 0 };
  for (let tries = 0; tries < PATIENCE; tries += 1) {
    const rated = await sim.ask(actor, { path: '/v1/feedback', key: key.text, body });
    if (rated.kind === 'answer' && rated.status === 200)
      return { variant: variant as Variant, counted: true };
    await time.sleep(actor.life, 2 * SECOND);
  }
  return { variant: variant as Variant, counted: false };
}

interface View {
  document: { status: string };
  evaluation: {
    arms: Record<string, { rated: number | null }>;
    decision: { action: string };
  } | null;
}

/** A treatment that loses its guardrail is stopped at the next evaluation, and its tenant's webhook is called. */
async function loseGuardrail(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, tenant } = actor;
  const { time } = sim.world;
  const webhook = random.chance(0.8) ? sim.receivers.open(tenant.id) : null;
  const { outcome, trial, json } = await createTrial(sim, actor, () => ({
    guardrails: [{ metric: 'thumbs', max_absolute_decrease: 0.1, action: 'rollback' }],
    ...(webhook === null ? {} : { webhook }),
  }));
  if (trial === null) return outcome;
  const { webhook_secret: secret } = json as { webhook_secret?: string };
  if (webhook !== null && secret !== undefined) sim.receivers.know(webhook, secret);
  const started = await step(sim, actor, trial, 'start');
  if (started !== 'done') return started;
  const from = time.now;
  // Until all of the edge knows.
  await time.sleep(actor.life, STALE_MS);
  const { changes } = trial;
  const { key } = await makeKey(sim, actor, { scopes: [`${tenant.id}/**`] });
  if (key === null) return 'refused';
  const ratings = await Promise.all(
    Array.from({ length: USERS }, (_, at) => askAndRate(sim, actor, { trial, key, user: `rater-${at}` })),
  );
  const counted = (wanted: Variant): number =>
    ratings.filter((rating) => rating?.variant === wanted && rating.counted).length;
  const isEnough = Math.min(counted('control'), counted('treatment')) >= LEAST_UNITS;
  const path = `/admin/experiments/${trial.id}`;
  const looked = await repeat(sim, actor, { path: `${path}/evaluate`, body: {} }, REFUSALS);
  if (looked.outcome === 'lost') return 'lost';
  // Refused: somebody has ended it, perhaps the schedule.
  const { outcome: found, json: shown } =
    looked.outcome === 'done' ? looked : await repeat(sim, actor, { path }, REFUSALS);
  if (found !== 'done' || trial.changes !== changes || sim.truth.erasedDuring(tenant.id, from))
    return 'refused';
  if (sim.truth.names.now(trial.name) === undefined) return 'refused';
  const { document, evaluation } = shown as View;
  for (const variant of ['control', 'treatment'] as const) {
    const rated = evaluation?.arms[variant]?.rated ?? 0;
    if (looked.outcome === 'done' && rated < counted(variant))
      sim.fail(LOST, `${trial.id} has ${rated} ratings of ${variant}, ${counted(variant)} were counted`);
  }
  if (!isEnough) return 'refused';
  if (document.status !== 'decided') {
    sim.fail(
      'a treatment that does harm is stopped',
      `${trial.id}: ${JSON.stringify(shown).slice(0, 2_000)}`,
    );
    return 'refused';
  }
  trial.over = true;
  if (looked.outcome !== 'done') return 'done';
  const messages = await committed<{ id: string }>(
    sim,
    'SELECT id FROM webhook_messages WHERE source = ?',
    trial.id,
  );
  if (webhook !== null && !messages.some(({ id }) => id.includes(':rolled_back:')))
    sim.fail(LOST, `${trial.id} was rolled back, and there is no message for ${webhook}`);
  await time.sleep(actor.life, STALE_MS);
  const answered = await askAs(sim, actor, { trial, key, user: `rater-${random.below(USERS)}` });
  await archiveTrial(sim, actor, trial);
  if (answered.kind === 'lost' || answered.status !== 200) return 'done';
  const experiment = answered.headers.get('x-graft-experiment') ?? '';
  if (answered.headers.get('x-graft-degraded') === null && [trial.name, trial.id].includes(experiment))
    sim.fail(
      'a treatment that does harm is stopped',
      `${trial.name} was answered in ${trial.id}, decided ${STALE_MS} ms before`,
    );
  return 'done';
}

const MARKED = /pair of (\d+) tokens/;

/** What is wrong with a pair's texts: each follows from prompt and version. */
function wrongPair(
  sim: Simulation,
  tenant: string,
  variants: readonly { adapter: string }[],
  { prompt, answers: { a, b } }: Pair,
): string | null {
  const content = prompt.map((turn) => turn.content).join('\n');
  for (const [, owner] of content.matchAll(/whispers of (tenant\d)/g))
    if (owner !== tenant) return `${owner} has asked it`;
  const maxTokens = Number(MARKED.exec(content)?.[1] ?? 0);
  // Somebody else's question, of unknown length.
  if (maxTokens === 0) return null;
  const [control = [], treatment = []] = variants.map(({ adapter }) =>
    sim.truth.chainsAs(adapter).map((chain) => sim.oracle.answer({ content, chain, maxTokens }).text),
  );
  return [
    [a, b],
    [b, a],
  ].some(([one = '', other = '']) => control.includes(one) && treatment.includes(other))
    ? null
    : `the answers are ${control.join(' or ')} and ${treatment.join(' or ')}`;
}

/** The treatment answers unseen, and the tenant's application says which is better. */
async function judgePairs(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, tenant } = actor;
  const { time } = sim.world;
  let variants: { adapter: string }[] = [];
  const url = sim.receivers.open(tenant.id, (pair) => wrongPair(sim, tenant.id, variants, pair));
  const { outcome, trial } = await createTrial(sim, actor, (both) => {
    variants = both;
    return {
      coverage: 0,
      shadow: { adapter: both[1]?.adapter, sample: 1 },
      judge: { url, keep_pairs: 20 },
    };
  });
  if (trial === null) return outcome;
  // A shadow's tokens are not billed.
  sim.unbilledTokens = Infinity;
  const told = await repeat(sim, actor, { path: `/admin/experiments/${trial.id}/judge-secret` }, REFUSALS);
  if (told.outcome === 'done') sim.receivers.know(url, (told.json as { secret: string }).secret);
  const started = await step(sim, actor, trial, 'start');
  if (started !== 'done') return started;
  await time.sleep(actor.life, STALE_MS);
  const { key } = await makeKey(sim, actor, { scopes: [`${tenant.id}/**`] });
  if (key === null) return 'refused';
  for (let at = random.between(4, 8); at > 0; at -= 1) {
    const maxTokens = random.between(2, 8);
    const answered = await sim.ask(actor, {
      path: '/v1/chat/completions',
      key: key.text,
      body: {
        model: trial.name,
        messages: [
          { role: 'user', content: `${promptOf(tenant.id)} ${sim.nextMark()}, pair of ${maxTokens} tokens` },
        ],
        max_tokens: maxTokens,
        temperature: 0,
        user: `judged-${at}`,
        stream: random.chance(0.5),
      },
    });
    if (answered.kind === 'lost') tenant.unended += maxTokens;
    await time.sleep(actor.life, random.below(3 * SECOND));
  }
  await time.sleep(actor.life, random.between(20, 40) * SECOND);
  const list = await repeat(sim, actor, { path: `/admin/experiments/${trial.id}/pairs` }, REFUSALS);
  if (list.outcome !== 'done') return list.outcome;
  const { pairs } = list.json as {
    pairs: { prompt: Pair['prompt']; control: string; treatment: string; result: string }[];
  };
  for (const { prompt, control, treatment } of pairs) {
    const wrong = wrongPair(sim, tenant.id, variants, { prompt, answers: { a: control, b: treatment } });
    if (wrong !== null)
      sim.fail(
        'a pair is what was asked and answered',
        `${trial.id} has kept ${JSON.stringify(pairs)}: ${wrong}`,
      );
  }
  for (const other of sim.tenants.filter((one) => one !== tenant)) {
    const path = `/admin/experiments/${trial.id}/pairs`;
    const stranger = await sim.ask(actor, {
      path,
      key: random.chance(0.5) ? other.adminKey : sim.world.adminKey,
    });
    if (stranger.kind === 'answer' && (stranger.status === 200 || codeOf(stranger) === null))
      sim.fail("3 nothing of another tenant's", `${path}: ${stranger.text.slice(0, 300)}`);
  }
  await step(sim, actor, trial, 'stop', {}, true);
  await archiveTrial(sim, actor, trial);
  return pairs.length > 0 ? 'done' : 'refused';
}

const isPossible: Operation['possible'] = (sim, actor) => testable(sim, actor).length > 0;

export const GUARDED = {
  'lose a guardrail': { weight: 4, possible: isPossible, run: loseGuardrail },
  'judge pairs': { weight: 4, possible: isPossible, run: judgePairs },
} as const satisfies Record<string, Operation>;
