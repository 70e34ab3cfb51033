/** Prompts are kept only for keys that asked for it, and are gone when their time is over. */
import { committed } from '../operations/operation.ts';
import type { Simulation } from '../simulation.ts';

/** "A minute after they expire", and the schedule's next run. */
const LATE_MS = 120_000;

export async function checkKept(sim: Simulation): Promise<void> {
  const wrong = (what: string): void => sim.fail('what is kept was to be kept', what);
  const rows = await committed<{ id: string; tenant: string; key_id: string; expires_at: number }>(
    sim,
    'SELECT id, tenant, key_id, expires_at FROM kept_prompts',
  );
  for (const { id, tenant, key_id: key, expires_at: end } of rows) {
    // A key that it was rotated into keeps prompts, too.
    const line = sim.tenants.flatMap(({ keys }) => keys);
    const first = line.find((one) => one.id === key)?.counter ?? key;
    if (!sim.keepers.has(first)) wrong(`${id} of ${key}, which keeps no prompts`);
    if (sim.forgotten.has(key)) wrong(`${id} of ${key}, which was revoked with what it kept`);
    if (end < sim.world.time.now - LATE_MS) wrong(`${id} was to be deleted at ${end}`);
    if (!sim.truth.keys.keys().includes(key)) wrong(`${id} of ${tenant}, whose key ${key} was erased`);
  }
}
