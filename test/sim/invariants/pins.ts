/** At rest, origins have pinned what D1 says, and nothing else. */
import type { Simulation } from '../simulation.ts';

/** Largest adapter in a simulated origin's memory, bytes; pins have half of it. */
const LARGEST = 1_000;

export async function checkPins(sim: Simulation): Promise<void> {
  const { world, truth } = sim;
  const { results } = await world.database.truth.prepare('SELECT name FROM pins').all<{ name: string }>();
  const wanted = new Set<string>();
  for (const { name } of results) {
    const state = truth.names.now(name);
    const served = state?.alias == null ? name : state.alias;
    const version = truth.names.now(served)?.version;
    const id = `${served}@${version}`;
    if (version == null || truth.retired.has(id)) continue;
    for (const { digest } of truth.versions.get(id)?.chain ?? []) wanted.add(digest);
  }
  for (const { running } of world.origins) {
    if (running === null) continue;
    const pinned = new Set(
      running.process.residents().flatMap(({ digest, pinned: is }) => (is ? [digest] : [])),
    );
    for (const digest of pinned)
      if (!wanted.has(digest))
        sim.fail('9 origins have pinned what D1 says', `${running.life.name} keeps ${digest} pinned`);
    if (wanted.size * LARGEST > running.process.budgets.adapters / 4) continue;
    for (const digest of wanted)
      if (!pinned.has(digest))
        sim.fail('9 origins have pinned what D1 says', `${running.life.name} has not pinned ${digest}`);
  }
}
