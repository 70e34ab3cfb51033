/**
 * Origins of a fleet in virtual time, chosen by the edge's own code and by others: `node --import tsx
 * bench/fleet/main.ts --workload zipf|diurnal|flash [--requests N] [--origins 8,64] [--names 1000,100000] [--memory
 * 0.02,0.1] [--keeping frequent,recent] [--svg FILE]`. The seed is fixed, so the figures are too. Some minutes of one core a workload.
 */
import { writeFile } from 'node:fs/promises';
import { parseArgs } from 'node:util';
import Table from 'cli-table3';
import { drawCrowd, drawResident } from './draw.ts';
import { POLICIES } from './policies.ts';
import { simulateFleet, type FleetOutcome } from './simulate.ts';
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
    policies: { type: 'string', default: POLICIES.join(',') },
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

const outcomes: FleetOutcome[] = [];
const table = new Table({
  head: [
    ...['origins', 'names', 'memory', 'keeps', 'policy', 'resident', 'of optimum', 'queue p50 ms', 'p99 ms'],
    ...['loads/min', ...(kind === 'flash' ? ['absorbed s', 'but one'] : [])],
  ],
});
for (const origins of numbers('--origins', values.origins, 256))
  for (const names of numbers('--names', values.names, 1_000_000))
    for (const memory of numbers('--memory', values.memory, 1))
      for (const keeping of words('--keeping', values.keeping, KEEPING))
        for (const policy of policies) {
          const outcome = simulateFleet({ kind, policy, origins, names, memory, keeping, requests }, SEED);
          outcomes.push(outcome);
          table.push([
            ...[origins, names, `${memory * 100} %`, keeping, policy],
            outcome.resident.toFixed(3),
            (outcome.resident / outcome.optimum).toFixed(3),
            ...[
              outcome.queueP50Ms.toFixed(0),
              outcome.queueP99Ms.toFixed(0),
              outcome.loadsPerMinute.toFixed(0),
            ],
            ...(kind === 'flash' ? [outcome.absorbedS ?? '-', outcome.absorbedButOneS ?? '-'] : []),
          ]);
        }
console.log(table.toString());
console.log(JSON.stringify(outcomes.map(({ crowdP99Ms: _, ...one }) => one)));
if (values.svg !== undefined)
  await writeFile(values.svg, kind === 'flash' ? drawCrowd(outcomes) : drawResident(outcomes));
