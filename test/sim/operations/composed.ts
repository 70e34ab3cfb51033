/** Several adapters in one request, each with a weight of its own. */
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { type Asking, askModel, eventsOf } from './asking.ts';
import { grantedNames, liveKeys, namesOf, type Operation, pickOr, usableVersions } from './operation.ts';

/** 0 adds nothing, and is loaded all the same; 1 is as published. */
const SCALES = [-1, 0, 0.25, 0.5, 1, 2];

interface Part {
  name: string;
  scale: number;
}

function someParts(sim: Simulation, actor: Actor): Part[] {
  const { random } = actor;
  const own = namesOf(sim, actor, 'live');
  const names = new Set(
    Array.from({ length: random.between(1, 3) }, () => {
      const name = random.chance(0.8)
        ? random.pick(own)
        : pickOr(random, grantedNames(sim, actor), own[0] ?? 'base');
      const versions = usableVersions(sim, name);
      return random.chance(0.2) && versions.length > 0 ? `${name}@${random.pick(versions)}` : name;
    }),
  );
  return [...names].map((name) => ({ name, scale: random.pick(SCALES) }));
}

const readChat =
  (stream: boolean): Asking['read'] =>
  (answer) => {
    const events = stream ? eventsOf(answer.text) : [answer.json, null];
    if (events === null) return null;
    let said = '';
    for (const event of events) {
      const { error, choices = [] } = (event ?? {}) as {
        error?: { code: string };
        choices?: { message?: { content: string | null }; delta?: { content?: string | null } }[];
      };
      if (error !== undefined) return { error: error.code };
      for (const { message, delta } of choices) said += (message ?? delta)?.content ?? '';
    }
    return events.at(-1) === null ? { said } : null;
  };

async function compose(sim: Simulation, actor: Actor): Promise<Outcome> {
  const { random } = actor;
  const adapters = someParts(sim, actor);
  const content = random.pick(['hello world', 'what is it']);
  const maxTokens = random.between(1, 16);
  const stream = random.chance(0.5);
  let composed = '';
  const outcome = await askModel(sim, actor, {
    path: '/v1/chat/completions',
    body: {
      model: random.chance(0.3) ? 'base' : random.pick(namesOf(sim, actor, 'live')),
      messages: [{ role: 'user', content }],
      max_tokens: maxTokens,
      temperature: 0,
      stream,
      adapters,
    },
    mostTokens: maxTokens,
    read: (answer) => {
      composed = answer.headers.get('x-graft-composed') ?? '';
      return readChat(stream)(answer);
    },
    right: (chain) => sim.oracle.answer({ content, chain, maxTokens }).text,
  });
  if (outcome === 'done') checkParts(sim, adapters, composed);
  return outcome;
}

/** Each was added once, with the weight and the version that was asked for. */
function checkParts(sim: Simulation, adapters: readonly Part[], composed: string): void {
  const added = composed.split(', ');
  const isRight = adapters.every(({ name, scale }, at) => {
    const [id = '', weight] = (added[at] ?? '').split('=');
    return Number(weight) === scale && (name.includes('@') ? id === name : isCalled(sim, name, id));
  });
  if (added.length !== adapters.length || !isRight)
    sim.fail('adapters are added as asked', `${composed} instead of ${JSON.stringify(adapters)}`);
}

/** Whether `name@version` is a version of the name, or of what it stood for as an alias. */
function isCalled(sim: Simulation, name: string, id: string): boolean {
  const served = id.slice(0, id.lastIndexOf('@'));
  return served === name || sim.truth.names.everWas(name, ({ alias }) => alias === served);
}

export const COMPOSED = {
  'compose adapters': {
    weight: 5,
    possible: (sim, actor) => namesOf(sim, actor, 'live').length > 0 && liveKeys(sim, actor).length > 0,
    run: compose,
  },
} as const satisfies Record<string, Operation>;
