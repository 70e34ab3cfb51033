/** `npm run bench`: measures this project, and others beside it; prints the machine, a table and one JSON line. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { createOutput } from '../cli/output.ts';
import { benchActivated } from './activated.ts';
import { benchCliffs } from './cliffs.ts';
import { benchCompare } from './compare.ts';
import { benchHostile } from './hostile.ts';
import { benchJob } from './job.ts';
import { benchKeysValues } from './keys-values.ts';
import { describeMachine } from './machine.ts';
import { benchNeighbours } from './neighbours.ts';
import { parseOptions, USAGE } from './options.ts';
import { formatReport } from './report.ts';
import { benchProfile } from './profile.ts';
import { benchProxies } from './proxies.ts';
import { runBench } from './run-bench.ts';
import { benchTrain } from './train.ts';
import { benchVllm } from './vllm.ts';
import { benchWalk } from './walk.ts';

const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stopped.abort(new Error('interrupted')));

const [command, ...rest] = process.argv.slice(2);
const others = {
  activated: benchActivated,
  cliffs: benchCliffs,
  compare: benchCompare,
  hostile: benchHostile,
  job: benchJob,
  'keys-values': benchKeysValues,
  neighbours: benchNeighbours,
  profile: benchProfile,
  proxies: benchProxies,
  train: benchTrain,
  vllm: benchVllm,
  walk: benchWalk,
};
const other = others[command as keyof typeof others] as (typeof others)['vllm'] | undefined;
const options = other === undefined ? parseOptions(process.argv.slice(2)) : null;
if (options === null) {
  await other?.(rest, stopped.signal);
} else if (options === 'help') {
  console.log(USAGE);
} else {
  const work = await mkdtemp(path.join(os.tmpdir(), 'graft-bench-'));
  try {
    const base = await findBase({
      base: options.base,
      cache: cacheFolder(process.env),
      env: process.env,
      output: createOutput({ json: false }),
    });
    const measured = await runBench({ options, base, work, signal: stopped.signal });
    const report = { date: new Date().toISOString(), machine: await describeMachine(), ...measured };
    console.log(formatReport(report));
    console.log(JSON.stringify(report));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
