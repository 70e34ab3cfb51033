/** `npm run chaos`: real processes under random blows, every answer checked. */
import { parseArgs } from 'node:util';
import buildOnce from '../setup/build-once.ts';
import { EVERY_MS } from './blows.ts';
import { runChaos } from './run.ts';

const USAGE = `npm run chaos -- [flags]
One edge, several origins and a tiny base as processes. Clients ask and change; blows from a seed fall meanwhile. Exit code 1
when an answer was cut or wrong, something acknowledged was lost, or too little was answered.
  --minutes N          how long blows fall (default 5; targets are checked from 30)
  --seed N             of the blows and requests (default: by the clock)
  --origins N          default 3
  --clients N          that ask at once (default 6)
  --every MS           mean time from one blow to the next (default ${EVERY_MS})`;

/** As a shell reports Ctrl-C. */
const INTERRUPTED = 130;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    seed: { type: 'string', default: String(Date.now() % 1_000_000) },
    origins: { type: 'string', default: '3' },
    clients: { type: 'string', default: '6' },
    every: { type: 'string', default: String(EVERY_MS) },
    help: { type: 'boolean', default: false },
  },
});
const [minutes, seed, origins, clients, everyMs] = [
  values.minutes,
  values.seed,
  values.origins,
  values.clients,
  values.every,
].map(Number) as [number, number, number, number, number];

async function main(): Promise<number> {
  if (values.help) return (console.log(USAGE), 0);
  if (![minutes, seed, origins, clients, everyMs].every((value) => value > 0)) {
    console.error(`numbers above 0\n${USAGE}`);
    return 2;
  }
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort());
  const removeBuilt = await buildOnce();
  try {
    const { report, folder } = await runChaos({
      seed,
      minutes,
      origins,
      clients,
      everyMs,
      say: console.log,
      signal: interrupted.signal,
    });
    console.log(report.tables());
    if (interrupted.signal.aborted) {
      console.log('interrupted: what was acknowledged is not compared');
      return report.breaches.length > 0 ? 1 : INTERRUPTED;
    }
    const problems = report.problems(minutes);
    console.log(`${report.killsAndHangs} kills and hangs, ${report.restarts} restarts; logs: ${folder}/log`);
    for (const problem of problems) console.log(`PROBLEM ${problem}`);
    if (problems.length > 0) console.log(`again: npm run chaos -- --minutes ${minutes} --seed ${seed}`);
    return problems.length > 0 ? 1 : 0;
  } finally {
    await removeBuilt?.();
  }
}

process.exitCode = await main();
