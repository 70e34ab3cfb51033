/** One run: a world, its clients, the faults of its seed, and what must hold after every step and at the end. */
import { checkAtRest, checkStores } from './at-rest.ts';
import { ask } from './client.ts';
import { OPERATIONS, type OperationName } from './operations/index.ts';
import { type Actor, Breach, type Counts, type SimulateOptions, Simulation } from './simulation.ts';
import type { FaultKind } from './world/faults.ts';

export interface Report {
  seed: string;
  breach: string | null;
  hash: string;
  operations: Map<string, Counts>;
  faults: ReadonlyMap<FaultKind, number>;
  codes: ReadonlyMap<string, number>;
  marks: ReadonlyMap<string, number>;
  virtualMinutes: number;
  events: number;
  trace: readonly string[];
}

/** Most operations follow soon, so that they meet each other; now and then a client pauses, so that time passes. */
const SOON_MS = 1_500;
const PAUSES = 0.2;

export async function simulate(options: SimulateOptions): Promise<Report> {
  const sim = new Simulation(options);
  for (const name of Object.keys(OPERATIONS)) sim.counts.set(name, { done: 0, refused: 0, lost: 0 });
  const { world } = sim;
  const minMs = options.minutes * 60_000;
  let problem: Error | null = null;
  const unhandled = (error: unknown): void =>
    sim.fail('no bug', `unhandled rejection: ${String((error as Error).stack ?? error)}`);
  process.on('unhandledRejection', unhandled);
  try {
    await world.start();
    await setUp(sim);
    const random = world.random.fork('clients');
    const actors = sim.tenants.flatMap((tenant) =>
      Array.from({ length: random.between(2, 4) }, (_, at): Actor => {
        const life = world.client(`${tenant.id}-${at + 1}`);
        return { life, random: life.random, tenant };
      }),
    );
    // So many operations take the time that they should.
    const pause = (minMs * actors.length) / options.operations / PAUSES;
    const began = world.time.now;
    let busy = actors.length;
    for (const actor of actors)
      world.time.after(actor.life, 1 + actor.random.below(1_000), () => {
        runActor(sim, actor, pause).then(
          () => void (busy -= 1),
          (error: unknown) => {
            problem = error as Error;
          },
        );
      });
    const over = (): boolean => problem !== null || sim.breach !== null;
    await world.until(
      () => over() || (busy === 0 && world.time.now - began >= minMs),
      'the clients end',
      () => step(sim),
    );
    if (!over()) {
      world.calm();
      await checkAtRest(sim, over);
    }
    if (!over()) await checkStores(sim, over);
  } catch (error) {
    problem = error as Error;
  } finally {
    process.off('unhandledRejection', unhandled);
  }
  const failed = sim.breach ?? problem;
  if (failed !== null) world.trace.note('breach', String(failed));
  return {
    seed: options.seed,
    breach: failed === null ? null : failed instanceof Breach ? failed.message : String(failed.stack),
    hash: world.trace.digest(),
    operations: sim.counts,
    faults: world.faults.bitten,
    codes: sim.codes,
    marks: world.marks,
    virtualMinutes: (world.time.now - 1_790_000_000_000) / 60_000,
    events: world.time.count,
    trace: options.keepTrace === true ? world.trace.all() : world.trace.last(50),
  };
}

/** Tenants with an admin key and a few keys each, and a first version of something. */
async function setUp(sim: Simulation): Promise<void> {
  const { world } = sim;
  world.faults.on = false;
  const random = world.random.fork('tenants');
  const many = random.between(2, 4);
  let left = many;
  let problem: unknown = null;
  for (let at = 0; at < many; at += 1) {
    const id = `tenant${at + 1}`;
    const life = world.client(`${id}-setup`);
    world.time.after(life, 1, () => {
      void (async () => {
        try {
          const made = await ask(world, life, {
            path: '/admin/keys',
            key: world.adminKey,
            body: { kind: 'admin', tenant: id, scopes: [`${id}/**`] },
            reliable: true,
          });
          if (made.kind !== 'answer' || made.status !== 201)
            throw new Error(`no admin key: ${JSON.stringify(made)}`);
          const { key } = made.json as { key: string };
          const room = await ask(world, life, {
            path: '/admin/rooms',
            key: world.adminKey,
            body: { name: id, tenant: id },
            reliable: true,
          });
          if (room.kind !== 'answer' || room.status >= 300)
            throw new Error(`no room: ${JSON.stringify(room)}`);
          sim.tenants.push({
            id,
            adminKey: key,
            keys: [],
            names: [],
            files: [],
            received: [],
            unended: 0,
            limitings: 0,
            experiments: [],
            refusals: 0,
            refusing: 0,
            erasing: false,
            erasures: 0,
            usageErasedAt: -Infinity,
          });
        } catch (error) {
          problem = error;
        } finally {
          left -= 1;
        }
      })();
    });
  }
  await world.until(() => left === 0, 'the tenants are there');
  if (problem !== null) throw problem as Error;
  sim.tenants.sort((a, b) => (a.id < b.id ? -1 : 1));
  world.faults.on = true;
}

async function runActor(sim: Simulation, actor: Actor, pauseMs: number): Promise<void> {
  const { world } = sim;
  const names = Object.keys(OPERATIONS) as OperationName[];
  while (sim.begun < sim.operations && sim.breach === null) {
    sim.begun += 1;
    const possible = names.filter((name) => OPERATIONS[name].possible(sim, actor));
    const name = actor.random.weighted(possible.map((one) => [OPERATIONS[one].weight, one] as const));
    world.trace.note(actor.life.name, name);
    const outcome = await OPERATIONS[name].run(sim, actor);
    world.trace.note(actor.life.name, `${name} ${outcome}`);
    const counts = sim.counts.get(name) as Counts;
    counts[outcome] += 1;
    const soon = 1 + actor.random.below(SOON_MS);
    await world.time.sleep(actor.life, actor.random.chance(PAUSES) ? pauseOf(sim, actor, pauseMs) : soon);
  }
}

/** Most pauses end for all clients at the same time, so that tenants meet each other. */
function pauseOf({ world }: Simulation, { random }: Actor, meanMs: number): number {
  const most = Math.ceil(2 * meanMs);
  return random.chance(0.7) ? most - (world.time.now % most) + random.below(SOON_MS) : 1 + random.below(most);
}

/** After every event: what can be seen at once. */
function step(sim: Simulation): void {
  const bug = sim.world.firstBug();
  if (bug !== undefined) sim.fail('no bug', bug);
  for (const { ledger } of sim.world.origins)
    for (const { invariant, what } of ledger.breaches) sim.fail(invariant, what);
  const late = sim.world.lateSchedules[0];
  if (late !== undefined) sim.fail('7 the schedule ends', late);
}
