/** `npm run bench`: measures this project, and others beside it; prints the machine, a table and one JSON line. */
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { cacheFolder, findBase } from '../cli/local/find-base.ts';
import { createOutput } from '../cli/output.ts';
import { describeMachine } from './machine.ts';
import { parseOptions, USAGE } from './options.ts';
import { formatReport } from './report.ts';

const stopped = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const)
  process.once(signal, () => stopped.abort(new Error('interrupted')));

const [command, ...rest] = process.argv.slice(2);
/** Loaded when asked for: what others import would be in memory, and in every collection of garbage. */
const others = {
  activated: async () => (await import('./activated.ts')).benchActivated,
  cliffs: async () => (await import('./cliffs.ts')).benchCliffs,
  compare: async () => (await import('./compare.ts')).benchCompare,
  gather: async () => (await import('./gather.ts')).benchGather,
  hostile: async () => (await import('./hostile.ts')).benchHostile,
  job: async () => (await import('./job.ts')).benchJob,
  'keys-values': async () => (await import('./keys-values.ts')).benchKeysValues,
  names: async () => (await import('./names.ts')).benchNames,
  neighbours: async () => (await import('./neighbours.ts')).benchNeighbours,
  profile: async () => (await import('./profile.ts')).benchProfile,
  proxies: async () => (await import('./proxies.ts')).benchProxies,
  traces: async () => (await import('./traces.ts')).benchTraces,
  train: async () => (await import('./train.ts')).benchTrain,
  vllm: async () => (await import('./vllm.ts')).benchVllm,
  walk: async () => (await import('./walk.ts')).benchWalk,
};
const load = others[command as keyof typeof others] as (typeof others)['vllm'] | undefined;
const other = await load?.();
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
    const { runBench } = await import('./run-bench.ts');
    const measured = await runBench({ options, base, work, signal: stopped.signal });
    const report = { date: new Date().toISOString(), machine: await describeMachine(), ...measured };
    console.log(formatReport(report));
    console.log(JSON.stringify(report));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
