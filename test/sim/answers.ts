/** What an answer of the edge must be, whoever asked and whatever went wrong meanwhile. */
import { type Answered, codeOf } from './client.ts';
import { originFault, streamFault } from './invariants/explained.ts';
import { askedForm, type Call, type Form, shownOf, withCalls } from './operations/forms.ts';
import { STALE_MS } from './truth.ts';
import type { ChainEntry } from '../../protocol/identity.ts';
import type { Actor, Key, Outcome, Simulation } from './simulation.ts';
import type { Expected } from './world/expected-answer.ts';

export interface Completion {
  key: Key;
  model: string;
  content: string;
  maxTokens: number;
  stream: boolean;
  leaveAfterMs: number | null;
  slowMs: number | null;
  /** What the answer is constrained to, and functions that it may call. */
  form?: Form;
}

/** Codes that say that an origin could not be had, or has stopped. */
const ORIGIN_AWAY = new Set(['origin_unavailable', 'origin_stopped']);
/** A request's own budget, the edge's grace, and a client's way; ms. */
const DEADLINE_MS = 615_000;

/** In each prompt of a tenant, and in nobody else's. */
export const promptOf = (tenant: string): string => `whispers of ${tenant}`;

/** No name or prompt of another tenant in what a client gets, unless it may use it. */
export function checkPrivacy(sim: Simulation, tenant: string, answered: Answered, what: string): void {
  if (answered.kind !== 'answer') return;
  const [whispers, owner] = /(?:whispers|exam \d+) of (tenant\d)/.exec(answered.text) ?? [];
  if (whispers !== undefined && owner !== tenant)
    sim.fail("3 nothing of another tenant's", `${what} told ${tenant} what ${owner} asked`);
  if (what.startsWith('/admin/usage'))
    for (const [, other] of answered.text.matchAll(/"tenant":"(\w+)"/g))
      if (other !== tenant)
        sim.fail("3 nothing of another tenant's", `${what} told ${tenant} of ${other}'s usage`);
  for (const [name] of answered.text.matchAll(/\btenant\d(?:\/[a-z][a-z0-9-]*)+/g)) {
    const owner = name.split('/')[0] as string;
    if (owner === tenant || what.includes(name)) continue;
    if (!sim.truth.mightUse(tenant, { name, owner }, answered.at - 10 * STALE_MS, answered.at))
      sim.fail(
        "3 nothing of another tenant's",
        `${what} told ${tenant} of ${name}: ${answered.text.slice(0, 300)}`,
      );
  }
}

/** Whoever was answered by a chain might use all of its members; a degraded answer says that it is older. */
export function checkMembers(
  sim: Simulation,
  params: {
    tenant: string;
    /** All that say what was answered: after an erasure a version's number is given again. */
    chains: readonly (readonly { name: string; owner: string }[])[];
    answered: Extract<Answered, { kind: 'answer' }>;
    /** When it was asked, ms. */
    from: number;
    what: string;
  },
): void {
  const { tenant, chains, answered, from, what } = params;
  if (answered.headers.get('x-graft-degraded') !== null) return;
  const foreign = chains.map((chain) =>
    chain.find((member) => !sim.truth.mightUse(tenant, member, from - STALE_MS, answered.at)),
  );
  const [member] = foreign;
  if (member !== undefined && !foreign.includes(undefined))
    sim.fail("3 nothing of another tenant's", `${what} was answered with ${member.name} of ${member.owner}`);
}

export async function checkCompletion(sim: Simulation, actor: Actor, asked: Completion): Promise<Outcome> {
  const { tenant } = actor;
  const { key, model, content, maxTokens, stream, leaveAfterMs, slowMs, form } = asked;
  const from = sim.world.time.now;
  const answered = await sim.ask(actor, {
    path: '/v1/chat/completions',
    key: key.text,
    body: {
      model,
      messages: [{ role: 'user', content }],
      max_tokens: maxTokens,
      temperature: 0,
      ...form?.body,
      ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
    },
    ...(leaveAfterMs === null ? {} : { leaveAfterMs }),
    ...(slowMs === null ? {} : { slowMs }),
  });
  const until = answered.at;
  const what = `${key.id} (${tenant.id}) ${model} ${JSON.stringify(content)}, ${maxTokens} tokens${stream ? ', streamed' : ''}`;
  if (answered.kind === 'lost') {
    tenant.unended += asked.maxTokens;
    const { faults } = sim.world;
    // A clock that jumps ahead makes a short silence a long one.
    const isCut =
      faults.lastAt('net-cut', 'edge') >= from ||
      faults.lastAt('isolate-dropped') >= from ||
      faults.lastAt('clock-skewed') >= from;
    if (leaveAfterMs === null && slowMs === null && !isCut)
      sim.fail(
        '4 an answer is whole, or says that it is not',
        `${what} broke off (${answered.why}), though nothing happened between its client and the edge`,
      );
    // A slow reader takes its time for each token, and for heartbeats between them.
    const reading = (slowMs ?? 0) * maxTokens;
    if (leaveAfterMs === null && reading < DEADLINE_MS / 2 && /ten minutes/.test(answered.why))
      sim.fail('4 every request ends within its deadline', `${what} began at ${from}`);
    return 'lost';
  }
  if (until - from > DEADLINE_MS && slowMs === null)
    sim.fail('4 every request ends within its deadline', `${what} took ${until - from} ms`);
  checkPrivacy(sim, tenant.id, answered, model);
  if (answered.status !== 200) return checkRefusal(sim, asked, answered, { from, what });
  const degraded = answered.headers.get('x-graft-degraded');
  // What answers in the name's place is told rather than that the key was the one last known.
  if (key.revokedAt !== null && from > key.revokedAt + STALE_MS && degraded === null)
    sim.fail(
      '6 what was revoked opens nothing',
      `${what} was answered ${from - key.revokedAt} ms after the key's revocation`,
    );
  const said = stream ? readStream(answered.text) : readWhole(answered.text);
  if (said === null) {
    sim.fail(
      '4 an answer is whole, or says that it is not',
      `${what}: ${JSON.stringify(answered.text.slice(-300))}`,
    );
    return 'refused';
  }
  if ('error' in said) {
    tenant.unended += asked.maxTokens;
    const origin = answered.headers.get('x-graft-origin') ?? '';
    if (ORIGIN_AWAY.has(said.error) && slowMs === null && streamFault(sim.world, origin, from) === null)
      sim.fail(
        '4 an answer ends whole unless something went wrong',
        `${what} ended with ${said.error}, though nothing happened to ${origin} since ${from}`,
      );
    return 'refused';
  }
  const adapter = answered.headers.get('x-graft-adapter') ?? '';
  const answers = await Promise.all(
    sim.truth
      .chainsAs(adapter)
      .map(async (chain) => ({ chain, right: await rightAnswer(sim, asked, chain) })),
  );
  const found = answers.find(({ right }) => right.text === said.text);
  if (found === undefined) {
    const wanted = answers.map(({ right }) => right.text).join(' or ') || 'nothing: it is no version';
    const origin = answered.headers.get('x-graft-origin');
    sim.fail(
      '2 tokens are made by a chain in force',
      `${what} by ${adapter} at ${origin}: ${said.text} instead of ${wanted}`,
    );
    return 'refused';
  }
  const { right } = found;
  if (form !== undefined && said.finish !== 'length' && !form.fits(said.plain, said.calls))
    sim.fail('an answer is what it is constrained to', `${what}: ${said.text}`);
  if (said.completionTokens !== null && said.completionTokens !== right.tokens)
    sim.fail(
      '5 usage is what was received',
      `${what}: ${said.completionTokens} tokens instead of ${right.tokens}`,
    );
  if (degraded === null) checkInForce(sim, { asked, adapter, answered, from, until, what });
  const chains = answers.filter((one) => one.right.text === said.text).map(({ chain }) => chain);
  checkMembers(sim, { tenant: tenant.id, chains, answered, from, what });
  tenant.received.push({ from, until, tokens: said.completionTokens ?? 0 });
  return 'done';
}

/** Codes with which a completion may be refused, and when. */
function checkRefusal(
  sim: Simulation,
  { key, model }: Completion,
  answered: Extract<Answered, { kind: 'answer' }>,
  { from, what }: { from: number; what: string },
): Outcome {
  const code = codeOf(answered);
  const since = sim.truth.keys.now(key.id);
  if (code === null || code === 'internal_error' || answered.status === 500)
    sim.fail('errors have a code', `${what}: ${answered.status} ${answered.text.slice(0, 300)}`);
  if (code !== null && ORIGIN_AWAY.has(code) && originFault(sim.world, from) === null)
    sim.fail('9 an origin that is up serves', `${what}: ${answered.text.slice(0, 300)}`);
  if (
    code === 'invalid_api_key' &&
    key.revokedAt === null &&
    since?.revoked === false &&
    from > 0 &&
    !sim.world.faults.on
  )
    sim.fail('a good key is good', `${what}: ${answered.text.slice(0, 300)}`);
  void model;
  return 'refused';
}

/** What answered was what the name meant for this caller at some moment between request and answer, or shortly before. */
function checkInForce(
  sim: Simulation,
  given: {
    asked: Completion;
    adapter: string;
    answered: Extract<Answered, { kind: 'answer' }>;
    from: number;
    until: number;
    what: string;
  },
): void {
  const { asked, adapter, answered, from, until, what } = given;
  const wrong = (why: string): void =>
    sim.fail('2 tokens are made by a chain in force', `${what} was answered by ${adapter}: ${why}`);
  const [name = '', wanted] = asked.model.split('@');
  if (adapter === 'base') {
    if (name !== 'base') wrong('the base was not asked for');
    return;
  }
  if (name === 'base') return wrong('the base was asked for');
  const at = adapter.lastIndexOf('@');
  const [served, version] = [adapter.slice(0, at), Number(adapter.slice(at + 1))];
  const early = from - STALE_MS;
  const retired = sim.truth.retired.get(adapter);
  if (retired !== undefined && retired < early)
    return wrong(`it has been retired or removed since ${retired}, asked at ${from}`);
  // An experiment serves its variants, while it is live.
  const experiment = answered.headers.get('x-graft-experiment');
  if (experiment !== null) {
    const variant = answered.headers.get('x-graft-variant') ?? '';
    const states = sim.truth.experiments.during(experiment, early, until);
    const inForce = states.some(({ isLive, variants }) => isLive && variants[variant] === adapter);
    if (!inForce)
      wrong(`it is no ${variant} of ${experiment}, which was ${JSON.stringify(states)} since ${early}`);
    return;
  }
  if (wanted !== undefined) {
    if (served === name && version !== Number(wanted)) wrong('another version was asked for');
    if (served === name) return;
  }
  // A name stands for its alias's target; a missing one for the nearest above it, which may be an alias too.
  const aliased = (one: string): string[] =>
    sim.truth.names.during(one, early, until).flatMap(({ alias }) => alias ?? []);
  const targets = new Set([name, ...aliased(name)]);
  const inherited = answered.headers.get('x-graft-inherited') === 'true';
  const direct = targets.has(served);
  const ancestors = [...targets].flatMap((target) => ancestorsOf(target));
  const above = ancestors.includes(served) || ancestors.some((one) => aliased(one).includes(served));
  if (!direct && !(inherited && above)) return wrong(`it is neither ${[...targets].join(', ')} nor above it`);
  if (inherited && targets.size === 1) {
    const stranger = nearerOwner(sim, { tenant: asked.key.tenant, name, served, early, until });
    if (stranger !== null) wrong(`nearer is ${stranger}`);
  }
  const live = sim.truth.names.during(served, early, until).map((state) => state.version);
  if (!live.includes(version)) wrong(`live were ${live.join(', ')} between ${early} and ${until}`);
}

/**
 * A missing name is answered by the caller's own adapters, or by those of the owner of the nearest name that the caller
 * may know. @returns a nearer name of somebody else than who answered; null = there is none, or it is not sure.
 */
function nearerOwner(
  sim: Simulation,
  {
    tenant,
    name,
    served,
    early,
    until,
  }: { tenant: string; name: string; served: string; early: number; until: number },
): string | null {
  const owners = new Set(sim.truth.names.during(served, early, until).map(({ owner }) => owner));
  if (owners.has(tenant)) return null;
  for (const nearer of [name, ...ancestorsOf(name)]) {
    if (nearer === served) return null;
    const states = sim.truth.names.during(nearer, early, until);
    const [state] = states;
    // Only what stood still all the time, and what its caller surely knows: its own.
    if (state === undefined || states.length > 1 || sim.truth.names.absentDuring(nearer, early, until))
      continue;
    if (state.owner !== tenant || state.version === null || state.removed || state.alias !== null) continue;
    return `${nearer} of ${tenant}`;
  }
  return null;
}

/** `a/b/c` -> `a/b` and `a`. */
const ancestorsOf = (name: string): string[] => {
  const parts = name.split('/');
  return parts.slice(1).map((_, at) => parts.slice(0, parts.length - 1 - at).join('/'));
};

async function rightAnswer(
  sim: Simulation,
  { content, maxTokens, form }: Completion,
  chain: readonly ChainEntry[],
): Promise<Expected> {
  if (form === undefined) return sim.oracle.answer({ content, chain, maxTokens });
  const right = await sim.oracle.constrained({ content, chain, maxTokens, ...askedForm(form) });
  return { ...right, text: shownOf(form, right.text) };
}

interface Said {
  /** With its calls. */
  text: string;
  plain: string;
  calls: Call[];
  finish: string;
  completionTokens: number | null;
}

function readWhole(text: string): Said | { error: string } | null {
  try {
    const body = JSON.parse(text) as {
      choices?: {
        message: { content: string | null; tool_calls?: { function: Call }[] };
        finish_reason: string | null;
      }[];
      usage?: { completion_tokens: number };
      error?: { code: string };
    };
    if (body.error !== undefined) return { error: body.error.code };
    const [choice] = body.choices ?? [];
    if (choice === undefined || choice.finish_reason === null) return null;
    const plain = choice.message.content ?? '';
    const calls = (choice.message.tool_calls ?? []).map((call) => call.function);
    return {
      text: withCalls({ text: plain, calls }),
      plain,
      calls,
      finish: choice.finish_reason,
      completionTokens: body.usage?.completion_tokens ?? null,
    };
  } catch {
    return null;
  }
}

/** null = it ended without saying how. */
function readStream(text: string): Said | { error: string } | null {
  let plain = '';
  const calls: Call[] = [];
  let tokens: number | null = null;
  let finish: string | null = null;
  for (const event of text.split('\n\n')) {
    const line = event.split('\n').find((one) => one.startsWith('data: '));
    if (line === undefined) continue;
    const data = line.slice('data: '.length);
    if (data === '[DONE]')
      return finish === null
        ? null
        : { text: withCalls({ text: plain, calls }), plain, calls, finish, completionTokens: tokens };
    const chunk = JSON.parse(data) as {
      choices?: {
        delta?: {
          content?: string | null;
          tool_calls?: { index: number; function: Partial<Call> }[];
        };
        finish_reason?: string | null;
      }[];
      usage?: { completion_tokens: number } | null;
      error?: { code: string };
    };
    if (chunk.error !== undefined) return { error: chunk.error.code };
    const [choice] = chunk.choices ?? [];
    plain += choice?.delta?.content ?? '';
    for (const { index, function: piece } of choice?.delta?.tool_calls ?? []) {
      const call = (calls[index] ??= { name: '', arguments: '' });
      call.name += piece.name ?? '';
      call.arguments += piece.arguments ?? '';
    }
    finish = choice?.finish_reason ?? finish;
    tokens = chunk.usage?.completion_tokens ?? tokens;
  }
  return null;
}
