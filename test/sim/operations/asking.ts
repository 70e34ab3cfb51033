/** Requests that run a model otherwise than chat completions do, and the chains that may have answered them. */
import type { ChainEntry } from '../../../protocol/identity.ts';
import { checkMembers, checkPrivacy } from '../answers.ts';
import { type Answered, codeOf } from '../client.ts';
import type { Actor, Outcome, Simulation } from '../simulation.ts';
import { liveKeys } from './operation.ts';

type Answer = Extract<Answered, { kind: 'answer' }>;
type Chain = readonly (ChainEntry & { name: string; owner: string })[];

export interface Asking {
  path: string;
  body: { model: string; [field: string]: unknown };
  /** Tokens that it makes, at most. */
  mostTokens: number;
  /** What it says; null = it is not whole; an error's code where it has stopped. */
  read: (answer: Answer) => { said: string } | { error: string } | null;
  /** What an undisturbed origin says with the chain. */
  right: (chain: Chain) => string | Promise<string>;
  /** Of other tenants it must say nothing. Not where the answer has all of their text. */
  headers?: Record<string, string>;
}

export async function askModel(sim: Simulation, actor: Actor, asking: Asking): Promise<Outcome> {
  const { random, tenant } = actor;
  const { path, body, mostTokens, read, right, headers = {} } = asking;
  const from = sim.world.time.now;
  const answered = await sim.ask(actor, { path, body, headers, key: random.pick(liveKeys(sim, actor)).text });
  const what = `${path} of ${tenant.id} ${JSON.stringify(body).slice(0, 300)}`;
  if (answered.kind === 'lost') {
    tenant.unended += mostTokens;
    return 'lost';
  }
  checkPrivacy(sim, tenant.id, answered, JSON.stringify(body));
  if (answered.status !== 200) {
    const code = codeOf(answered);
    if (code === null || code === 'internal_error')
      sim.fail('errors have a code', `${what}: ${answered.status} ${answered.text.slice(0, 300)}`);
    return 'refused';
  }
  const answer = read(answered);
  if (answer === null) {
    sim.fail(
      '4 an answer is whole, or says that it is not',
      `${what}: ${JSON.stringify(answered.text.slice(-300))}`,
    );
    return 'refused';
  }
  if ('error' in answer) {
    tenant.unended += mostTokens;
    return 'refused';
  }
  const adapter = answered.headers.get('x-graft-adapter') ?? '';
  const composed = answered.headers.get('x-graft-composed');
  const answers = await Promise.all(
    chainsOf(sim, adapter, composed).map(async (chain) => ({ chain, right: await right(chain) })),
  );
  const chains = answers.filter((one) => one.right === answer.said).map(({ chain }) => chain);
  if (chains.length === 0) {
    const wanted = answers.map((one) => one.right).join(' or ') || 'nothing: it is no version';
    sim.fail(
      '2 tokens are made by a chain in force',
      `${what} by ${adapter} and ${composed ?? 'nothing'}: ${answer.said} instead of ${wanted}`,
    );
  }
  checkMembers(sim, { tenant: tenant.id, chains, answered, from, what });
  return 'done';
}

/**
 * All that an answer's headers may mean: after an erasure a name begins at 1 again.
 * @param composed `name@version=scale, …`
 */
function chainsOf(sim: Simulation, adapter: string, composed: string | null): readonly Chain[] {
  let chains: readonly Chain[] = sim.truth.chainsAs(adapter);
  for (const part of composed?.split(', ') ?? []) {
    const [id = '', scale] = part.split('=');
    chains = chains.flatMap((chain) =>
      sim.truth.chainsAs(id).map((added) => withAdded(chain, added, Number(scale))),
    );
  }
  return chains;
}

/** What is there already stays as it is. */
function withAdded(chain: Chain, added: Chain, scale: number): Chain {
  const missing = added.filter(({ digest }) => !chain.some((one) => one.digest === digest));
  return [...chain, ...missing.map((entry) => ({ ...entry, scale: entry.scale * scale }))];
}

/** The data of a stream's events, in their order; null = the last one is not whole. */
export function eventsOf(text: string): unknown[] | null {
  if (text !== '' && !text.endsWith('\n\n')) return null;
  return text.split('\n\n').flatMap((event) => {
    const data = event
      .split('\n')
      .find((line) => line.startsWith('data: '))
      ?.slice('data: '.length);
    return data === undefined ? [] : [data === '[DONE]' ? null : (JSON.parse(data) as unknown)];
  });
}
