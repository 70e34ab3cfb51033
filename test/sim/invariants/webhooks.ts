/** At rest, each message to a webhook that counts as sent has arrived, and none that is due waits. */
import type { Simulation } from '../simulation.ts';

/** Attempts after which one is given up (worker/webhooks/limits.ts). */
const TRIES = 11;
/** The schedule takes those that are due each minute. */
const LATE_MS = 180_000;

export async function checkWebhooks(sim: Simulation): Promise<void> {
  const { world } = sim;
  const { results } = await world.database.truth
    .prepare('SELECT id, url, tries, next_at FROM webhook_messages')
    .all<{ id: string; url: string; tries: number; next_at: number | null }>();
  for (const { id, url, tries, next_at: nextAt } of results) {
    if (nextAt === null && tries < TRIES - 1 && !sim.receivers.taken.has(id))
      sim.fail('1 nothing acknowledged is lost', `message ${id} counts as sent, and ${url} has not got it`);
    if (nextAt !== null && nextAt < world.time.now - LATE_MS)
      sim.fail('9 the schedule catches up', `message ${id} to ${url} has been due since ${nextAt}`);
  }
}
