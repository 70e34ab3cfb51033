/** What D1 bills at rest is what origins ran: never more, and less only by what may be lost. */
import type { FaultKind } from '../world/faults.ts';
import type { Simulation } from '../simulation.ts';

/** Each may take away what an isolate has noted, or the answer to how much was run. */
const LOSES: readonly FaultKind[] = [
  'isolate-dropped',
  'd1-error',
  'd1-error-after',
  'd1-slow',
  'net-cut',
  'net-silent',
  'net-delay',
  'net-twice',
  'origin-killed',
  'origin-stopped',
  'origin-drained',
];
export async function checkUsage(sim: Simulation): Promise<void> {
  const { world } = sim;
  const { results } = await world.database.truth
    .prepare('SELECT tenant, SUM(completion_tokens) AS tokens FROM usage GROUP BY tenant')
    .all<{ tenant: string; tokens: number }>();
  const billed = new Map(results.map(({ tenant, tokens }) => [tenant, tokens]));
  const isLimited = [...sim.codes.keys()].some((label) => /rate_limit|insufficient_quota/.test(label));
  const isWhole = LOSES.every((kind) => !world.faults.bitten.has(kind));
  for (const { id, receivedTokens, unended } of sim.tenants) {
    const usage = billed.get(id) ?? 0;
    const made = world.origins.reduce((sum, { ledger }) => sum + (ledger.made.get(id)?.completion ?? 0), 0);
    // What an origin had made for these when it ended, nobody has told.
    if (usage > made + unended)
      sim.fail('5 usage is what was run', `${id} is billed ${usage} tokens, origins made ${made}`);
    if (isWhole && usage < receivedTokens)
      sim.fail(
        '5 usage is what was run',
        `${id} is billed ${usage} tokens and has received ${receivedTokens}`,
      );
    // A completion that a limit refuses may have begun: the counter is asked meanwhile.
    if (isWhole && !isLimited && usage < made - sim.unbilledTokens)
      sim.fail('5 usage is what was run', `${id} is billed ${usage} tokens, origins made ${made}`);
  }
}
