/**
 * Origins of a fleet in virtual time, chosen by the edge's own code and by others: `node --import tsx
 * bench/fleet/main.ts --workload zipf|diurnal|flash|deploy|die|drain [--requests N] [--origins 8,64] [--names 1000,100000] [--memory
 * 0.02,0.1] [--keeping frequent,recent] [--isolates 4,100,1000] [--life SECONDS] [--tells nothing,own,edges,object]
 * [--mb N --mb-per-s N] [--unequal] [--later-turns SHARE] [--svg FILE]`. The seed is fixed, so the figures are too. Some minutes of one core a workload.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { drawCrowd, drawResident } from './draw.ts';
import { POLICIES, TELLS } from './policies.ts';
import { simulateFleet, type FleetCase, type FleetOutcome } from './simulate.ts';
import { KEEPING } from './simulated-origin.ts';
import { WORKLOADS } from './workloads.ts';

const SEED = 2_026;
const { values } = parseArgs({
  options: {
    workload: { type: 'string', default: 'zipf' },
    requests: { type: 'string', default: '20000' },
    origins: { type: 'string', default: '8,64' },
    names: { type: 'string', default: '1000,100000' },
    memory: { type: 'string', default: '0.02,0.1' },
    keeping: { type: 'string', default: 'frequent' },
    isolates: { type: 'string', default: '4' },
    life: { type: 'string' },
    tells: { type: 'string', default: 'edges' },
    policies: { type: 'string', default: POLICIES.join(',') },
    mb: { type: 'string' },
    'mb-per-s': { type: 'string', default: '125' },
    unequal: { type: 'boolean' },
    'later-turns': { type: 'string' },
    svg: { type: 'string' },
  },
});
const kind = WORKLOADS.find((one) => one === values.workload);
if (kind === undefined) throw new Error(`--workload: ${WORKLOADS.join(', ')}`);
const numbers = (flag: string, text: string, most: number): number[] =>
  text.split(',').map((part) => {
    const value = Number(part);
    if (!(value > 0 && value <= most)) throw new Error(`${flag} ${part}: above 0, at most ${most}`);
    return value;
  });
const words = <T extends string>(flag: string, text: string, known: readonly T[]): T[] =>
  text.split(',').map((part) => {
    const found = known.find((one) => one === part);
    if (found === undefined) throw new Error(`${flag} ${part}: ${known.join(', ')}`);
    return found;
  });
const [requests = 0] = numbers('--requests', values.requests, 1_000_000);
const policies = words('--policies', values.policies, POLICIES);

const { mb, 'mb-per-s': mbPerS, unequal, 'later-turns': laterTurns } = values;
const given: Partial<FleetCase> = {
  ...(mb === undefined
    ? {}
    : {
        load: {
          ...{ waitMs: 100, mb: numbers('--mb', mb, 1_000)[0] as number },
          mbPerS: numbers('--mb-per-s', mbPerS, 100_000)[0] as number,
        },
      }),
  ...(unequal === true ? { unequal } : {}),
  ...(laterTurns === undefined ? {} : { laterTurns: numbers('--later-turns', laterTurns, 1)[0] as number }),
};

const outcomes: FleetOutcome[] = [];
const table = new Table({
  head: [
    ...[
      'isolates',
      'tells',
      'origins',
      'names',
      'memory',
      'keeps',
      'policy',
      'resident',
      'of optimum',
      'queue p50 ms',
      'p99 ms',
    ],
    ...[
      'loads/min',
      'turned',
      'cut',
      'known turns',
      'notes B',
      ...(kind === 'flash' ? ['absorbed s', 'but one'] : []),
    ],
  ],
});
const lifeMs = values.life === undefined ? [] : numbers('--life', values.life, 1e9).map((s) => s * 1_000);
/** All combinations, the last one fastest. */
const cases: FleetCase[] = numbers('--origins', values.origins, 256).flatMap((origins) =>
  numbers('--names', values.names, 1_000_000).flatMap((names) =>
    numbers('--memory', values.memory, 1).flatMap((memory) =>
      words('--keeping', values.keeping, KEEPING).flatMap((keeping) =>
        numbers('--isolates', values.isolates, 10_000).flatMap((isolates) =>
          words('--tells', values.tells, TELLS).flatMap((tells) =>
            policies.map((policy) => ({
              ...{ kind, policy, origins, names, memory, keeping, requests, isolates, tells, ...given },
              ...(lifeMs[0] === undefined ? {} : { lifeMs: lifeMs[0] }),
            })),
          ),
        ),
      ),
    ),
  ),
);
for (const one of cases) {
  const outcome = simulateFleet(one, SEED);
  outcomes.push(outcome);
  table.push([
    ...[one.isolates, one.tells, one.origins, one.names, `${one.memory * 100} %`, one.keeping, one.policy],
    outcome.resident.toFixed(3),
    (outcome.resident / outcome.optimum).toFixed(3),
    ...[outcome.queueP50Ms, outcome.queueP99Ms, outcome.loadsPerMinute].map((value) => value.toFixed(0)),
    ...[outcome.turnedAway.toFixed(3), outcome.cut, outcome.knownTurns?.toFixed(3) ?? '-'],
    [outcome.notes.request, outcome.notes.answer, outcome.notes.most].map((n) => n.toFixed(0)).join(' '),
    ...(kind === 'flash' ? [outcome.absorbedS ?? '-', outcome.absorbedButOneS ?? '-'] : []),
  ]);
}
console.log(table.toString());
console.log(JSON.stringify(outcomes.map(({ crowdP99Ms: _, ...one }) => one)));
if (values.svg !== undefined)
  await writeFile(values.svg, kind === 'flash' ? drawCrowd(outcomes) : drawResident(outcomes));
