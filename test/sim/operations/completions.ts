/** Chat completions: read to their end, left, or read slowly; with forms; and what is kept of them. */
import { KeptPrompt } from '../../../protocol/admin-api/prompts.ts';
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { makeKey } from './keys.ts';
import { CALLING, FORMS } from './forms.ts';
import { admin, complete, liveKeys, namesOf, type Operation, pickOr, repeat, SECOND } from './operation.ts';

/** A prompt is kept for an hour. */
const HOUR_MS = 3_600_000;
/** Long enough that a row needs much of an origin's memory. */
const LONG = { least: 100, most: 200 };

/** Enough for most whole answers that have a form. */
const FORM_TOKENS = 120;

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
  if (key === null) return outcome;
  sim.keepers.add(key.id);
  if (readers.outcome !== 'done') return outcome;
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
  const kept = KeptPrompt.parse(read.json);
  const wrong = (why: string): void => sim.fail('what is kept is what was asked', `${path}: ${why}`);
  if (kept.tenant !== tenant.id || kept.key_id !== key.id) wrong(`it is ${kept.tenant}'s, of ${kept.key_id}`);
  // Others of the tenant may use the key, too.
  const bodies = sim.asked.get(key.text) ?? [];
  const isAsked = bodies.some((body) =>
    kept.prompt.every(({ role, text }) => {
      // A call is the function's name and its arguments.
      const said = role === 'assistant' ? text.slice(text.indexOf(' ') + 1) : text;
      return body.includes(role === 'tools' ? text : JSON.stringify(said));
    }),
  );
  if (!isAsked)
    wrong(`nobody asked ${JSON.stringify(kept.prompt)} with this key, but ${bodies.join(' or ')}`);
  if (kept.expires_at - kept.at !== HOUR_MS) wrong(`it is kept for ${kept.expires_at - kept.at} ms`);
  return 'done';
}

const hasKey: Operation['possible'] = (_sim, { tenant }) => tenant.keys.length > 0;

export const COMPLETIONS = {
  'ask for much': {
    weight: 3,
    possible: hasKey,
    run: (sim, actor) =>
      complete(sim, actor, { content: 'hello', maxTokens: actor.random.between(LONG.least, LONG.most) }),
  },
  'ask for a form': {
    weight: 5,
    possible: hasKey,
    run: (sim, actor) => complete(sim, actor, { form: actor.random.pick(FORMS), maxTokens: FORM_TOKENS }),
  },
  'ask for a call': {
    weight: 5,
    possible: hasKey,
    run: (sim, actor) =>
      complete(sim, actor, {
        form: actor.random.pick(CALLING),
        maxTokens: actor.random.chance(0.8) ? FORM_TOKENS : actor.random.between(1, 60),
      }),
  },
  'read what is kept': { weight: 1, possible: () => true, run: readKept },
  complete: {
    weight: 24,
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
