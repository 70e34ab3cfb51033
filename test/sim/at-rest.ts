/** After the faults have stopped: everything comes to rest, and D1, KV, blobs and origins agree without help. */
import { ERASE_SETTLE_MS } from '../../protocol/admin-api/erasures.ts';
import { ask } from './client.ts';
import type { Life } from './world/time.ts';
import { checkErased, unendedErasures } from './invariants/erased.ts';
import { checkExams } from './invariants/exams.ts';
import { checkKept } from './invariants/kept.ts';
import { checkPins } from './invariants/pins.ts';
import { checkPreferences } from './invariants/preferences.ts';
import { checkTrainings, endTrainings } from './invariants/trainings.ts';
import { checkRequests, checkUsage } from './invariants/usage.ts';
import { checkWebhooks } from './invariants/webhooks.ts';
import { committed } from './operations/operation.ts';
import { repairAll } from './operations/tampering.ts';
import type { VersionRow } from './truth.ts';
import type { Simulation, Tenant } from './simulation.ts';

const MINUTE = 60_000;
/** Two runs of the schedule, and what a pointer writer's longest pause and KV's caches add. */
const SETTLES_MS = 14 * MINUTE;

export async function checkAtRest(sim: Simulation, over: () => boolean): Promise<void> {
  const { world } = sim;
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
  await endErasures(sim, over);
  if (over()) return;
  await endTrainings(sim, over);
  if (over()) return;
  // Their last moment may be in the middle of a run of the schedule.
  const idle = world.time.now + MINUTE;
  for (let ms = 1_000; ms <= MINUTE; ms += 1_000) world.time.after(watch, ms, () => undefined);
  await world.until(() => over() || !busy() || world.time.now >= idle, 'nothing runs any more');
  if (over()) return;
  if (!triesForEver(sim)) checkIdle(sim);
  sim.counters.atRest(world.objects.get('QUOTAS')?.stored() ?? new Map());
  for (const [binding, objects] of world.objects)
    for (const [id, disk] of objects.stored())
      for (const key of disk.keys())
        if (key.startsWith('pending:')) sim.fail('9 the stores agree', `${binding}/${id} still has ${key}`);
}

/** Where loads take longer than a trial waits, the trial of what was dropped into KV begins anew each minute. */
function triesForEver({ world }: Simulation): boolean {
  const slow = world.origins.filter(({ running }) => (running?.process.budgets.loadMs ?? 0) > QUICK_MS);
  return world.network
    .open()
    .some((one) => one.includes('/verify?') && slow.some(({ id }) => one.includes(`//${id}.test/`)));
}

function checkIdle(sim: Simulation): void {
  const { world } = sim;
  for (const { id, running, starts } of world.origins) {
    const { disk: used = 0 } = running?.process.usedBytes() ?? {};
    const { disk: budget = Infinity } = running?.process.budgets ?? {};
    // One that starts with a smaller budget keeps its files until it needs room.
    if (starts === 1 && used > budget)
      sim.fail('8 memory stays within its limits', `${id} has ${used} bytes on disk of ${budget}`);
    const left = running?.process.leftOver() ?? [];
    if (left.length > 0) sim.fail('8 nothing is left at rest', `${running?.life.name}: ${left.join(', ')}`);
  }
  for (const { life, pending } of world.isolates)
    if (pending.size > 0)
      sim.fail('8 nothing is left at rest', `${life.name} does not end ${[...pending].join(', ')}`);
  const open = world.network.open();
  if (open.length > 0) sim.fail('8 nothing is left at rest', `requests are open: ${open.join(', ')}`);
}

/** Records of requests that ran beside an erasure are searched once more a quarter of an hour after it. */
async function endErasures(sim: Simulation, over: () => boolean): Promise<void> {
  const { world } = sim;
  const many = await unendedErasures(sim);
  if (many === 0) return;
  // The schedule takes them one after the other, five pages a minute; each has six of traffic, twice if its client left.
  const until = world.time.now + ERASE_SETTLE_MS + (3 + 12 * many) * MINUTE;
  let left = many;
  let next = 0;
  await world.until(
    () => over() || left === 0 || world.time.now >= until,
    'the erasures end',
    () => {
      if (world.time.now < next) return;
      next = world.time.now + MINUTE;
      void unendedErasures(sim).then((now) => (left = now));
    },
  );
  if (left > 0) sim.fail('6 an erasure ends', `${left} of ${many} have not ended`);
  // Its last run may go on.
  const settled = world.time.now + 10_000;
  world.time.after(world.client('after erasures'), 10_000, () => undefined);
  await world.until(() => over() || world.time.now >= settled, 'the last erasure has ended');
}

/**
 * A repair finds nothing to mend but records that somebody has damaged past graft; these stay so until the operator
 * repairs them.
 */
async function checkRepair(sim: Simulation, over: () => boolean): Promise<void> {
  const life = sim.world.client('operator');
  const [tenant] = sim.tenants;
  const actor = { life, random: life.random, tenant: tenant as Tenant };
  let ended = false;
  const run = async (): Promise<void> => {
    const { outcome, mended } = await repairAll(sim, actor, { dryRun: true });
    if (outcome !== 'done') sim.fail('9 the stores agree', `a repair ${outcome} without faults`);
    for (const one of mended)
      if (!sim.tampered.has(`${one.kind} ${one.id}`))
        sim.fail('9 the stores agree', `only a repair would mend this: ${JSON.stringify(one)}`);
    if (mended.length > 0) {
      await repairAll(sim, actor);
      await sim.world.time.sleep(life, 2 * MINUTE);
    }
    ended = true;
  };
  sim.world.time.after(life, 1, () => void run());
  await sim.world.until(() => ended || over(), 'the repair ends');
}

const sealed = (bytes: Uint8Array | null): Record<string, unknown> | null => {
  if (bytes === null) return null;
  const text = new TextDecoder().decode(bytes);
  try {
    return JSON.parse(text.slice(text.indexOf('\n') + 1)) as Record<string, unknown>;
  } catch {
    return { damaged: text };
  }
};

export async function checkStores(sim: Simulation, over: () => boolean): Promise<void> {
  const { world, truth } = sim;
  const wrong = (what: string): void => sim.fail('9 the stores agree', what);
  await checkRepair(sim, over);
  if (over()) return;
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
  const { results: ends } = await world.database.truth
    .prepare("SELECT id, hash, expires_at FROM keys WHERE kind = 'api' AND revoked_at IS NULL")
    .all<{ id: string; hash: string; expires_at: number | null }>();
  for (const { id, hash, expires_at: end } of ends) {
    const entry = sealed(world.kv.read(`key:${hash}`));
    if (entry !== null && (entry['expires_at'] ?? null) !== end)
      wrong(`key ${id} ends at ${end} in D1, KV has ${JSON.stringify(entry).slice(0, 200)}`);
  }
  for (const tenant of [...sim.tenants.map(({ id }) => id), '*']) {
    const entry = sealed(world.kv.read(`grant:${tenant}`));
    const inKv = new Set(((entry?.['grants'] ?? []) as { scope: string }[]).map(({ scope }) => scope));
    const inD1 = new Set(
      truth.grants.keys().flatMap((key) => {
        const grant = truth.grants.now(key);
        return grant?.tenant === tenant ? [grant.scope] : [];
      }),
    );
    for (const scope of inKv) if (!inD1.has(scope)) wrong(`KV gives ${scope} to ${tenant}, D1 does not`);
    // Those of givers that it has refused are left out.
    if ((entry?.['refused'] as string[] | undefined)?.length !== 0 && entry !== null) continue;
    for (const scope of inD1) if (!inKv.has(scope)) wrong(`D1 gives ${scope} to ${tenant}, KV does not`);
  }
  await checkHistory(sim);
  if (over()) return;
  await checkErased(sim);
  await checkPins(sim);
  await checkUsage(sim);
  checkRequests(sim);
  await checkKept(sim);
  await checkExams(sim);
  await checkPreferences(sim);
  await checkTrainings(sim);
  await checkWebhooks(sim);
  await sim.promised.check(sim, (invariant, what) => sim.fail(invariant, what));
  if (over()) return;
  await probe(sim, over);
}

/** What was acknowledged is still there; what was erased has not come back. */
async function checkHistory(sim: Simulation): Promise<void> {
  const { database } = sim.world;
  const lost = (what: string): void => sim.fail('1 nothing acknowledged is lost', what);
  const { results: versions } = await database.truth
    .prepare('SELECT name, version FROM versions')
    .all<{ name: string; version: number }>();
  const there = new Set(versions.map(({ name, version }) => `${name}@${version}`));
  for (const [id, name] of sim.acknowledged)
    if (!there.has(id) && !sim.erased.has(name) && !sim.erased.has('**'))
      lost(`${id} was acknowledged, nobody has erased it, and it is not in D1`);
  for (const id of sim.truth.returned)
    sim.fail('6 nothing of it is left after an erasure', `a name that was gone came back at ${id}`);
  // A name has versions, or is or was an alias: with neither it is what an erasure has left.
  const known = new Set(versions.map(({ name }) => name));
  const { results: names } = await database.truth
    .prepare('SELECT name FROM names WHERE alias IS NULL AND removed_alias IS NULL')
    .all<{ name: string }>();
  for (const { name } of names)
    if (
      !known.has(name) &&
      sim.erased.has(name) &&
      !sim.truth.names.everWas(name, ({ alias }) => alias !== null)
    )
      sim.fail('6 nothing of it is left after an erasure', `${name} is a name without a version`);
}

/** Each name that has a live version answers, with it. */
async function probe(sim: Simulation, over: () => boolean): Promise<void> {
  const { world, truth } = sim;
  let left = 0;
  const refusals = await committed<{ tenant: string; owner: string }>(
    sim,
    'SELECT tenant, owner FROM grant_refusals',
  );
  /** What stands on another's adapter answers as long as that is granted. */
  const isUsable = (tenant: string, name: string): boolean =>
    chainOf(sim, name).every(
      (member) =>
        truth.mightUse(tenant, member, world.time.now, world.time.now) &&
        // A key made now is the tenant's: what the operator dropped below its path may be closed to it.
        member.owner !== 'default' &&
        !refusals.some((one) => one.tenant === tenant && one.owner === member.owner),
    );
  for (const tenant of sim.tenants) {
    const names = truth.names.keys().filter((name) => {
      const state = truth.names.now(name);
      return (
        state?.owner === tenant.id &&
        state.version !== null &&
        !truth.retired.has(`${name}@${state.version}`) &&
        isUsable(tenant.id, name)
      );
    });
    const life = world.client(`${tenant.id}-probe`);
    // An erasure that came late may have ended its admin key.
    const isErased = tenant.erasures > 0;
    const adminKey = isErased ? world.adminKey : tenant.adminKey;
    left += 1;
    world.time.after(life, 1, () => {
      void (async () => {
        // Its room went with it.
        if (isErased)
          await ask(world, life, {
            path: '/admin/rooms',
            key: world.adminKey,
            body: { name: tenant.id, tenant: tenant.id },
            reliable: true,
          });
        // Of its own: others have limits, or have expired.
        const made = await ask(world, life, {
          path: '/admin/keys',
          key: adminKey,
          body: { scopes: [`${tenant.id}/**`], ...(isErased ? { tenant: tenant.id } : {}) },
          reliable: true,
        });
        if (made.kind !== 'answer' || made.status !== 201)
          sim.fail('9 the stores agree', `${tenant.id} cannot make a key at rest: ${JSON.stringify(made)}`);
        const key = ((made.kind === 'answer' ? made.json : {}) as { key?: string }).key ?? '';
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
        for (const name of key === '' ? [] : names) {
          const version = truth.names.now(name)?.version;
          const content = 'is it there';
          const answered = await ask(world, life, {
            path: '/v1/chat/completions',
            key,
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
        const lone = names.find((name) => chainOf(sim, name).length === 1);
        if (lone !== undefined) await probeEverywhere(sim, life, { adminKey, name: lone });
        left -= 1;
      })();
    });
  }
  await world.until(() => left === 0 || over(), 'the probes end');
}

const chainOf = (sim: Simulation, name: string): VersionRow['chain'] =>
  sim.truth.versions.get(`${name}@${sim.truth.names.now(name)?.version}`)?.chain ?? [];

/** Below it, pins and files in use may leave no room, bytes. */
const ROOMY = { adapters: 6_000, disk: 10_000 };
/** A trial may take a minute; what loads before it takes its own time. */
const QUICK_MS = 5_000;
const TRIAL_STEPS = 10;

/** Every origin can run it, as `graft verify` asks them to. */
async function probeEverywhere(
  sim: Simulation,
  life: Life,
  { adminKey, name }: { adminKey: string; name: string },
): Promise<void> {
  const { world } = sim;
  const asked = await ask(world, life, {
    path: '/admin/verify',
    key: adminKey,
    body: { name },
    reliable: true,
  });
  const { origins = [] } = (asked.kind === 'answer' ? asked.json : {}) as {
    origins?: { id: string; ok: boolean; reason: string | null }[];
  };
  for (const { id, ok, reason } of origins) {
    const budgets = world.origins.find((slot) => slot.id === id)?.running?.process.budgets;
    const roomy =
      budgets !== undefined &&
      budgets.adapters >= ROOMY.adapters &&
      budgets.disk >= ROOMY.disk &&
      budgets.loadMs <= QUICK_MS &&
      budgets.stepMs * TRIAL_STEPS <= QUICK_MS;
    // Others are tried at the same time.
    if (!ok && roomy && reason !== 'queue_full')
      sim.fail('9 an origin that is up serves', `${id} cannot run ${name} at rest: ${reason}`);
  }
}
