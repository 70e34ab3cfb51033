/** Preferences: what was acknowledged is there as long as it is to be kept, and makes rows of what was said alone. */
import type { ImprovementRow } from '../../../protocol/admin-api/improvements.ts';
import { committed } from '../operations/operation.ts';
import type { Preferred, Simulation } from '../simulation.ts';

/** Keys of the workload that keep prompts do so for an hour. */
const HOUR_MS = 3_600_000;
/** An isolate's clock may be wrong, and the schedule late, ms. */
const LATE_MS = 180_000;

/**
 * Whether it may have gone: with its tenant, its key's prompts, or its time. An erased tenant's are looked for once more a
 * while later, when nothing but a key that is in force tells those of the tenant that was made anew from them.
 */
const mayBeGone = (sim: Simulation, { key, askedAt }: Preferred): boolean =>
  sim.truth.erasedWithKey(key, askedAt) ||
  sim.forgetting.has(key.counter) ||
  sim.world.time.now > askedAt + HOUR_MS - LATE_MS;

/** @returns what is wrong with a row that was made of a decision, or null. */
export function wrongRow(
  sim: Simulation,
  of: { tenant: string; name: string },
  row: ImprovementRow['row'],
): string | null {
  const [asked, chosen, rejected] =
    'messages' in row
      ? [row.messages.slice(0, -1), row.messages.at(-1), undefined]
      : [row.input.messages, row.preferred_output.at(-1), row.non_preferred_output.at(-1)];
  const content = asked.at(-1)?.content;
  const isMeant = sim.preferred.some(
    (one) =>
      one.tenant === of.tenant &&
      one.name === of.name &&
      one.chosen.content === content &&
      one.chosen.text === chosen?.content &&
      (rejected === undefined || one.rejected.text === rejected.content),
  );
  return isMeant ? null : `nobody has preferred ${JSON.stringify(row).slice(0, 400)}`;
}

export async function checkPreferences(sim: Simulation): Promise<void> {
  const rows = await committed<{ tenant: string; chosen: string; rejected: string; key_id: string }>(
    sim,
    'SELECT tenant, chosen, rejected, key_id FROM preferences',
  );
  const idOf = (tenant: string, chosen: string, rejected: string): string =>
    `${tenant}: ${chosen} rather than ${rejected}`;
  const there = new Set(rows.map(({ tenant, chosen, rejected }) => idOf(tenant, chosen, rejected)));
  const sent = new Set(
    sim.preferred.map(({ tenant, chosen, rejected }) => idOf(tenant, chosen.id, rejected.id)),
  );
  for (const id of there) if (!sent.has(id)) sim.fail('what is kept was to be kept', `nobody has told ${id}`);
  for (const { key_id: key, tenant } of rows)
    if (sim.forgotten.has(key))
      sim.fail(
        'what is kept was to be kept',
        `a preference of ${tenant} by ${key}, revoked with what it kept`,
      );
  for (const one of sim.preferred) {
    const id = idOf(one.tenant, one.chosen.id, one.rejected.id);
    if (one.isAcknowledged && !there.has(id) && !mayBeGone(sim, one))
      sim.fail('1 nothing acknowledged is lost', `the preference ${id}`);
  }
}
