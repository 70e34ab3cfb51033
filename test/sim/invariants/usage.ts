/** What D1 bills at rest is what origins ran: never more, and less only by what may be lost. */
import { ERASE_SETTLE_MS } from '../../../protocol/admin-api/erasures.ts';
import type { FaultKind } from '../world/faults.ts';
import type { Simulation, Tenant } from '../simulation.ts';
import { listedRequests } from './gathered.ts';

/** Each may take away what an isolate has noted, or the answer to how much was run. */
const LOSES: readonly FaultKind[] = [
  'isolate-dropped',
  'net-cut',
  'net-silent',
  'net-delay',
  'net-twice',
  'origin-killed',
  'origin-stopped',
  'origin-drained',
];
/**
 * "An isolate that dies loses what no gatherer has taken": the answer's usage is sent within 2 s, and tried four times with
 * pauses of 2, 4 and 6 s where a gatherer takes 5 s each (COUNT_FLUSH_MS, COUNT_TRIES, GATHERER_TIMEOUT_MS). What it has
 * taken is lost by nothing.
 */
const TAKEN_MS = 40_000;
/**
 * The schedule erases a tenant's usage once more: hours that began until a quarter of an hour after the rest, by the
 * clock of an isolate, which may be wrong by 40 s.
 */
const ERASED_AGAIN_MS = ERASE_SETTLE_MS + 2 * 40_000;
const HOUR_MS = 3_600_000;

/** Tokens that a tenant has received, and whose usage no isolate has lost. */
function receivedOf(sim: Simulation, { received, usageErasedAt }: Tenant): number {
  const drops = sim.world.faults.timesOf('isolate-dropped');
  return received.reduce((sum, { from, until, tokens }) => {
    const isLost = drops.some((at) => at >= from && at <= until + TAKEN_MS);
    const erasedUntil = HOUR_MS * (1 + Math.floor((usageErasedAt + ERASED_AGAIN_MS) / HOUR_MS));
    return isLost || from < erasedUntil ? sum : sum + tokens;
  }, 0);
}

/** Tokens that origins made for the tenant's completions. They also try adapters and score them, which nobody is billed for. */
const madeFor = ({ world }: Simulation, tenant: string): number =>
  world.origins
    .flatMap(({ ledger }) => [...ledger.requests])
    .filter(([id, ran]) => ran.tenant === tenant && world.asked.has(id))
    .reduce((sum, [, { completion }]) => sum + completion, 0);

/** Days are the sums of their hours. */
async function checkDays(sim: Simulation): Promise<void> {
  const of = (day: string): string =>
    `${day}, tenant, SUM(requests) AS requests, SUM(errors) AS errors, SUM(prompt_tokens) AS prompt_tokens,
     SUM(completion_tokens) AS completion_tokens`;
  const { results } = await sim.world.usageDatabase.truth
    .prepare(
      `SELECT day, tenant, SUM(side), requests, errors, prompt_tokens, completion_tokens FROM (
         SELECT 1 AS side, ${of('hour / 24 AS day')} FROM usage GROUP BY 2, 3
         UNION ALL SELECT -1, ${of('day')} FROM usage_days GROUP BY 2, 3)
       GROUP BY day, tenant, requests, errors, prompt_tokens, completion_tokens HAVING SUM(side) <> 0`,
    )
    .all();
  if (results.length > 0)
    sim.fail(
      '5 usage is what was run',
      `days are not the sums of their hours: ${JSON.stringify(results[0])}`,
    );
}

export async function checkUsage(sim: Simulation): Promise<void> {
  const { world } = sim;
  await checkDays(sim);
  const { results } = await world.usageDatabase.truth
    .prepare('SELECT tenant, SUM(completion_tokens) AS tokens FROM usage GROUP BY tenant')
    .all<{ tenant: string; tokens: number }>();
  const billed = new Map(results.map(({ tenant, tokens }) => [tenant, tokens]));
  const isLimited = [...sim.codes.keys()].some((label) => /rate_limit|insufficient_quota/.test(label));
  const isWhole = LOSES.every((kind) => !world.faults.bitten.has(kind));
  for (const tenant of sim.tenants) {
    const { id, unended, usageErasedAt } = tenant;
    const received = receivedOf(sim, tenant);
    const usage = billed.get(id) ?? 0;
    const made = madeFor(sim, id);
    // What an origin had made for these when it ended, nobody has told.
    if (usage > made + unended)
      sim.fail('5 usage is what was run', `${id} is billed ${usage} tokens, origins made ${made}`);
    if (usage < received)
      sim.fail('5 usage is what was run', `${id} is billed ${usage} tokens and has received ${received}`);
    // A completion that a limit refuses may have begun: the counter is asked meanwhile.
    const isErased = usageErasedAt > -Infinity;
    if (isWhole && !isLimited && !isErased && usage < made - sim.unbilledTokens)
      sim.fail('5 usage is what was run', `${id} is billed ${usage} tokens, origins made ${made}`);
  }
}

/** Each may end what an origin ran for a request, or keep it from telling, from so long before it began, ms. */
const DEAFENS: readonly (readonly [FaultKind, beforeMs: number])[] = [
  ['origin-killed', 0],
  ['origin-stopped', 300_000],
  ['origin-drained', 10_000],
];
/** An edge goes on asking so long after a request's end, ms. */
const ASKS_MS = 30_000;

const CLIENT_LEFT = 499;

/** Each request is noted with the tokens that were run for it, also if its client left, unless something kept the edge from learning them. */
export function checkRequests(sim: Simulation): void {
  const { world } = sim;
  for (const noted of listedRequests(sim)) {
    // A client's own id may be that of several; experiments ask shadows and judges with the same one.
    if (noted.request_id !== undefined || noted.experiment !== '') continue;
    // One that a limit refuses, or an origin in the middle, may have begun, and is not billed.
    if (noted.status !== 200 && noted.status !== CLIENT_LEFT) continue;
    let [made, runs] = [0, 0];
    let began = false;
    const calls = world.asked.get(noted.id) ?? [];
    // The first of several was given up, and is told of to nobody.
    if (calls.length > 1) continue;
    // On the way there, or of the question how much was run.
    let deafened = calls.length === 0 || calls.some((id) => world.faults.touched.has(id));
    for (const { id: origin, ledger } of world.origins) {
      const ran = ledger.requests.get(noted.id);
      if (ran === undefined) continue;
      began = true;
      made += ran.completion;
      runs += ran.runs;
      const { open, from, until } = ran;
      // The process ended with it, and told nobody.
      deafened ||= open > 0;
      // Where an origin stopped before it had a row for it, it has no end.
      const last = Math.max(from, until);
      deafened ||= DEAFENS.some(([kind, before]) =>
        world.faults.during(kind, origin, from - before, last + ASKS_MS),
      );
    }
    // The other answer of a judged pair has the same id.
    if (runs > calls.length) continue;
    // What no origin has begun is estimated: it was away, and is stopped or dead.
    if (began && !deafened && made !== noted.completion_tokens)
      sim.fail(
        '5 usage is what was run',
        `request ${noted.id} of ${noted.tenant} (${noted.status}) is noted with ${noted.completion_tokens} tokens, origins made ${made}`,
      );
  }
}
