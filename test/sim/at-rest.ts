/** After the faults have stopped: everything comes to rest, and D1, KV, blobs and origins agree without help. */
import { ask } from './client.ts';
import { repair } from './operations/tampering.ts';
import type { Simulation, Tenant } from './simulate.ts';

const MINUTE = 60_000;
/** Two runs of the schedule, and what a pointer writer's longest pause and KV's caches add. */
const SETTLES_MS = 14 * MINUTE;

export async function checkAtRest(sim: Simulation, over: () => boolean): Promise<void> {
  const { world } = sim;
  if (sim.tampered > 0) await mend(sim, over);
  const until = world.time.now + SETTLES_MS;
  const busy = (): boolean =>
    world.network.open().length > 0 || world.isolates.some(({ pending }) => pending.size > 0);
  // The schedule runs each minute: somewhere between two runs nothing may be left.
  const watch = world.client('watch');
  for (let ms = 0; ms <= MINUTE; ms += 1_000) world.time.after(watch, SETTLES_MS + ms, () => undefined);
  await world.until(
    () => over() || (world.time.now >= until && (!busy() || world.time.now >= until + MINUTE)),
    'everything has settled',
  );
  if (over()) return;
  for (const { running } of world.origins) {
    const left = running?.process.leftOver() ?? [];
    if (left.length > 0) sim.fail('8 nothing is left at rest', `${running?.life.name}: ${left.join(', ')}`);
  }
  for (const { life, pending } of world.isolates)
    if (pending.size > 0)
      sim.fail('8 nothing is left at rest', `${life.name} does not end ${[...pending].join(', ')}`);
  const open = world.network.open();
  if (open.length > 0) sim.fail('8 nothing is left at rest', `requests are open: ${open.join(', ')}`);
  for (const [binding, objects] of world.objects)
    for (const [id, disk] of objects.stored())
      for (const key of disk.keys())
        if (key.startsWith('pending:')) sim.fail('9 the stores agree', `${binding}/${id} still has ${key}`);
}

/** What somebody wrote into KV past graft stays, until the operator repairs it. */
async function mend(sim: Simulation, over: () => boolean): Promise<void> {
  const life = sim.world.client('operator');
  const [tenant] = sim.tenants;
  let ended = false;
  sim.world.time.after(life, 2 * MINUTE, () => {
    void repair(sim, { life, random: life.random, tenant: tenant as Tenant }).then((outcome) => {
      ended = true;
      if (outcome !== 'done') sim.fail('9 the stores agree', `a repair ${outcome} without faults`);
    });
  });
  await sim.world.until(() => ended || over(), 'the repair ends');
}

const sealed = (bytes: Uint8Array | null): Record<string, unknown> | null => {
  if (bytes === null) return null;
  const text = new TextDecoder().decode(bytes);
  return JSON.parse(text.slice(text.indexOf('\n') + 1)) as Record<string, unknown>;
};

export async function checkStores(sim: Simulation, over: () => boolean): Promise<void> {
  const { world, truth } = sim;
  const wrong = (what: string): void => sim.fail('9 the stores agree', what);
  for (const name of truth.names.keys()) {
    const state = truth.names.now(name);
    const entry = sealed(world.kv.read(`name:${name}`));
    if (state === undefined) continue;
    if (state.alias !== null) {
      if (entry?.['alias'] !== state.alias)
        wrong(`alias ${name} is ${state.alias} in D1, KV has ${JSON.stringify(entry)}`);
    } else if (state.version === null) {
      if (entry !== null && entry['gone'] !== true)
        wrong(`${name} has no live version in D1, KV has ${JSON.stringify(entry)}`);
    } else if (entry?.['version'] !== state.version && !truth.retired.has(`${name}@${state.version}`))
      wrong(`${name} is at version ${state.version} in D1, KV has ${JSON.stringify(entry)?.slice(0, 200)}`);
  }
  for (const key of world.kv.keys('name:')) {
    const name = key.slice('name:'.length);
    const entry = sealed(world.kv.read(key));
    if (truth.names.now(name) === undefined && entry?.['gone'] !== true)
      wrong(`KV has ${name}, which D1 does not know`);
  }
  for (const id of truth.keys.keys()) {
    const row = truth.keys.now(id);
    if (row === undefined) continue;
    const entry = sealed(world.kv.read(`key:${row.hash}`));
    if (row.revoked && entry !== null && entry['gone'] !== true) wrong(`key ${id} is revoked, and KV has it`);
  }
  if (over()) return;
  await probe(sim, over);
}

/** Each name that has a live version answers, with it. */
async function probe(sim: Simulation, over: () => boolean): Promise<void> {
  const { world, truth } = sim;
  let left = 0;
  for (const tenant of sim.tenants) {
    const key = tenant.keys.find(
      ({ revokedAt, id, scopes, limited }) =>
        revokedAt === null &&
        truth.keys.now(id)?.revoked === false &&
        scopes[0] === `${tenant.id}/**` &&
        !limited,
    );
    if (key === undefined) continue;
    const names = truth.names.keys().filter((name) => {
      const state = truth.names.now(name);
      return (
        state?.owner === tenant.id && state.version !== null && !truth.retired.has(`${name}@${state.version}`)
      );
    });
    const life = world.client(`${tenant.id}-probe`);
    left += 1;
    world.time.after(life, 1, () => {
      void (async () => {
        // Others would be refused.
        const lifted = { tenant: tenant.id, limits: null };
        await ask(world, life, {
          ...{ path: '/admin/tenants/limits', body: lifted, key: world.adminKey, reliable: true },
        });
        // Each name is served by its live version then.
        for (const { id } of tenant.experiments)
          await ask(world, life, {
            ...{ path: `/admin/experiments/${id}/stop`, body: {}, key: world.adminKey, reliable: true },
          });
        await world.time.sleep(life, 2 * MINUTE);
        for (const name of names) {
          const version = truth.names.now(name)?.version;
          const content = 'is it there';
          const answered = await ask(world, life, {
            path: '/v1/chat/completions',
            key: key.text,
            body: { model: name, messages: [{ role: 'user', content }], max_tokens: 4, temperature: 0 },
            reliable: true,
          });
          if (answered.kind !== 'answer' || answered.status !== 200) {
            sim.fail(
              '9 the stores agree',
              `${name}@${version} does not answer at rest: ${JSON.stringify(answered.kind === 'answer' ? answered.text.slice(0, 300) : answered.why)}`,
            );
            break;
          }
          const adapter = answered.headers.get('x-graft-adapter');
          if (adapter !== `${name}@${version}`)
            sim.fail('9 the stores agree', `${name} is at ${version} and answered by ${adapter}`);
          const right = sim.oracle.answer({
            content,
            chain: truth.versions.get(`${name}@${version}`)?.chain ?? [],
            maxTokens: 4,
          });
          const { choices } = answered.json as { choices: { message: { content: string } }[] };
          if (choices[0]?.message.content !== right.text)
            sim.fail(
              '2 tokens are made by a chain in force',
              `${name} at rest: ${choices[0]?.message.content} instead of ${right.text}`,
            );
        }
        left -= 1;
      })();
    });
  }
  await world.until(() => left === 0 || over(), 'the probes end');
}
