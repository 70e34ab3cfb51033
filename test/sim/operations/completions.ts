/** Completions: read to their end, left, or read slowly. */
import { checkPrivacy } from '../answers.ts';
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { makeKey } from './keys.ts';
import { admin, complete, liveKeys, namesOf, type Operation, pickOr, repeat, SECOND } from './operation.ts';

/** The same question in the words of another API; what answers must be the same. */
const DIALECTS = {
  '/v1/messages': {
    body: (content: string, most: number) => ({ messages: [{ role: 'user', content }], max_tokens: most }),
    text: (json: unknown) =>
      (json as { content: { text?: string }[] }).content.map(({ text = '' }) => text).join(''),
  },
  '/v1/responses': {
    body: (content: string, most: number) => ({ input: content, max_output_tokens: most }),
    text: (json: unknown) =>
      (json as { output: { content?: { text?: string }[] }[] }).output
        .flatMap(({ content = [] }) => content.map(({ text = '' }) => text))
        .join(''),
  },
  '/v1/chat/completions': {
    body: (content: string, most: number) => ({
      ...{ messages: [{ role: 'user', content }], max_tokens: most, n: 2 },
    }),
    text: (json: unknown) => {
      const texts = (json as { choices: { message: { content: string | null } }[] }).choices.map(
        ({ message }) => message.content ?? '',
      );
      return texts.length === 2 && texts[0] === texts[1] ? (texts[0] as string) : texts.join(' and ');
    },
  },
} as const;

async function askOtherwise(sim: Simulation, actor: Actor, path: keyof typeof DIALECTS): Promise<Outcome> {
  const { random, tenant } = actor;
  const model = pickOr(random, namesOf(sim, actor, 'live'), 'base');
  const content = random.pick(['hello world', 'what is it']);
  const maxTokens = random.between(1, 20);
  const { body, text } = DIALECTS[path];
  const answered = await sim.ask(actor, {
    path,
    key: random.pick(liveKeys(sim, actor)).text,
    // Several requests may have the same.
    headers: { 'x-request-id': `request ${random.below(5)}` },
    body: { model, temperature: 0, ...body(content, maxTokens) },
  });
  if (answered.kind === 'lost') return 'lost';
  checkPrivacy(sim, tenant.id, answered, model);
  if (answered.status !== 200) return 'refused';
  const adapter = answered.headers.get('x-graft-adapter') ?? '';
  const chains = adapter === 'base' ? [[]] : sim.truth.everAs(adapter).map((row) => row.chain);
  const right = chains.map((chain) => sim.oracle.answer({ content, chain, maxTokens }).text);
  const said = text(answered.json);
  if (!right.includes(said))
    sim.fail(
      '2 tokens are made by a chain in force',
      `${path} of ${tenant.id} to ${model} by ${adapter}: ${said} instead of ${right.join(' or ')}`,
    );
  return 'done';
}

/** Long enough that a row needs much of an origin's memory. */
const LONG = { least: 100, most: 200 };

/** Prompts and answers of a key that keeps them: only an admin key that may reads them, of its own tenant. */
async function readKept(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random, tenant } = actor;
  const { world } = sim;
  const operator = world.adminKey;
  const readers = await repeat(sim, actor, {
    path: '/admin/keys',
    body: { kind: 'admin', tenant: tenant.id, scopes: [`${tenant.id}/**`], prompts: true },
    key: operator,
  });
  const { outcome, key } = await makeKey(sim, actor, { scopes: [`${tenant.id}/**`], keep_prompts: 1 });
  if (key === null || readers.outcome !== 'done') return outcome;
  const content = `${tenant.id} asks ${sim.nextMark()}`;
  if ((await complete(sim, actor, { key, content, model: 'base' })) !== 'done') return 'refused';
  await world.time.sleep(actor.life, random.between(5_000, 60_000));
  const list = await admin(sim, actor, { path: `/admin/requests?key=${key.id}`, past: true });
  if (list.outcome !== 'done') return list.outcome;
  const { requests } = list.json as { requests: { id: string; kept?: true }[] };
  const [request] = requests;
  if (request === undefined) return 'refused';
  const path = `/admin/requests/${request.id}/prompt`;
  const others = sim.tenants.filter((one) => one !== tenant).map(({ adminKey }) => adminKey);
  for (const stranger of [tenant.adminKey, operator, ...others]) {
    const answered = await sim.ask(actor, { path, key: stranger });
    if (answered.kind === 'answer' && (answered.status === 200 || answered.text.includes(content)))
      sim.fail("3 nothing of another tenant's", `${path}: ${answered.text.slice(0, 300)}`);
  }
  const read = await sim.ask(actor, { path, key: (readers.json as { key: string }).key });
  if (read.kind === 'lost') return 'lost';
  if (read.status !== 200) return 'refused';
  // Others of the tenant may use the key, too: what they asked is theirs to say.
  const { tenant: owner } = read.json as { tenant: string };
  if (owner !== tenant.id) sim.fail("3 nothing of another tenant's", read.text.slice(0, 300));
  return 'done';
}

const hasKey: Operation['possible'] = (_sim, { tenant }) => tenant.keys.length > 0;
const hasLiveKey: Operation['possible'] = (sim, actor) => liveKeys(sim, actor).length > 0;

export const COMPLETIONS = {
  'ask for messages': {
    weight: 2,
    possible: hasLiveKey,
    run: (sim, actor) => askOtherwise(sim, actor, '/v1/messages'),
  },
  'ask for a response': {
    weight: 2,
    possible: hasLiveKey,
    run: (sim, actor) => askOtherwise(sim, actor, '/v1/responses'),
  },
  'ask for two answers': {
    weight: 2,
    possible: hasLiveKey,
    run: (sim, actor) => askOtherwise(sim, actor, '/v1/chat/completions'),
  },
  'ask for much': {
    weight: 3,
    possible: hasKey,
    run: (sim, actor) =>
      complete(sim, actor, { content: 'hello', maxTokens: actor.random.between(LONG.least, LONG.most) }),
  },
  'read what is kept': { weight: 1, possible: () => true, run: readKept },
  complete: {
    weight: 40,
    possible: hasKey,
    run: (sim, actor) => complete(sim, actor),
  },
  'leave a completion': {
    weight: 6,
    possible: hasKey,
    run: (sim, actor) => complete(sim, actor, { leaveAfterMs: actor.random.below(1_500) }),
  },
  'ask at once': {
    weight: 5,
    possible: hasKey,
    run: async (sim, actor) => {
      // Often with a key that has limits: what is counted at once must be counted.
      const limited = liveKeys(sim, actor).filter((one) => one.limited);
      const key = limited.length > 0 && actor.random.chance(0.5) ? { key: actor.random.pick(limited) } : {};
      const long = actor.random.chance(0.6) ? { maxTokens: actor.random.between(60, 200) } : {};
      // Mostly of one name, as a batch of prompts is.
      const live = namesOf(sim, actor, 'live');
      const model = actor.random.chance(0.7) ? { model: pickOr(actor.random, live, 'base') } : {};
      const ended = await Promise.all(
        Array.from({ length: actor.random.between(3, 10) }, () =>
          complete(sim, actor, { ...key, ...long, ...model }),
        ),
      );
      return ended.includes('done') ? 'done' : 'refused';
    },
  },
  'read slowly': {
    weight: 2,
    possible: hasKey,
    run: (sim, actor) => complete(sim, actor, { stream: true, slowMs: actor.random.below(3 * SECOND) }),
  },
} as const satisfies Record<string, Operation>;
