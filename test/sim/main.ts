/** `npm run sim`: runs seeds, until the first that fails, and makes that one small. */
import { parseArgs } from 'node:util';
import { z } from 'zod';
import { MARKS } from './marks.ts';
import { PLANTED } from './planted-bugs.ts';
import { createRunner, RunOptions, runSeeds } from './run-seeds.ts';
import { shrink } from './shrink.ts';
import type { Report } from './simulate.ts';
import { mergeInto, noSums, operationsOf, shortOf, type Sums } from './sums.ts';
import { FAULT_KINDS } from './world/faults.ts';
import { buildPrograms } from './world/programs.ts';

const HELP = `Usage: npm run sim -- [options]

Runs the whole of graft in virtual time, with faults, from a seed; checks what must hold after every step.

  --seed N           this seed alone; prints its last events
  --seeds N          how many seeds to run (default 100)
  --from N           the first of them (default 1)
  --minutes N        runs seeds for N minutes instead
  --processes N      seeds at once (default 1)
  --twice            runs each seed again, and compares the traces
  --operations N     clients' operations in each seed (default 200)
  --stop-after N     begins only the first N of them
  --virtual N        virtual minutes of each seed, at least (default 30)
  --faults A,B       only these kinds of faults; "none" = none
  --plant ID         plants a bug: ${PLANTED.map(({ id }) => id).join(', ')}
  --events N         events to print of a seed (default 50)
  --keep-going       does not stop at the first failure
  --no-shrink        prints the failure as it is

Exit code 1: an invariant does not hold, or a floor was not reached.`;

const number = z.coerce.number().int().positive();
const Options = RunOptions.extend({
  seed: z.string().optional(),
  seeds: number.default(100),
  from: number.default(1),
  minutes: z.coerce.number().positive().optional(),
  processes: number.default(1),
  events: number.default(50),
  'keep-going': z.boolean().default(false),
  'no-shrink': z.boolean().default(false),
});
type Options = z.infer<typeof Options>;

const PROGRESS_EVERY = 50;
const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function main(options: Options): Promise<number> {
  if (options.seed !== undefined) {
    const report = await (await createRunner(options))(options.seed, true);
    say(report.trace.slice(-options.events).join('\n'));
    say(`\nseed ${options.seed}: ${report.breach ?? 'nothing failed'}; trace ${report.hash}`);
    return report.breach === null ? 0 : 1;
  }
  const began = performance.now();
  const seconds = (): number => (performance.now() - began) / 1_000;
  const sums = noSums();
  const failed: Report[] = [];
  let next = options.from;
  await runSeeds({
    options,
    processes: options.processes,
    more() {
      if (failed.length > 0 && !options['keep-going']) return null;
      const over =
        options.minutes === undefined
          ? next >= options.from + options.seeds
          : seconds() > options.minutes * 60;
      if (over) return null;
      next += 1;
      return String(next - 1);
    },
    take(report) {
      mergeInto(sums, report);
      if (report.breach !== null) {
        failed.push(report);
        say(`seed ${report.seed}: ${report.breach}`);
      }
      if (sums.seeds % PROGRESS_EVERY === 0) say(progressOf(sums, seconds()));
    },
  });
  say(progressOf(sums, seconds()));
  say(tableOf(sums));
  const short = shortOf(sums);
  for (const line of short) say(line);
  const [first] = failed;
  if (first !== undefined) await explain(options, first);
  return failed.length + short.length === 0 ? 0 : 1;
}

const progressOf = (sums: Sums, seconds: number): string =>
  `${sums.seeds} seeds, ${operationsOf(sums)} operations, ${sums.events} events in ${seconds.toFixed(0)} s: ` +
  `${(sums.seeds / seconds).toFixed(2)} seeds and ${(operationsOf(sums) / seconds).toFixed(0)} operations a second`;

function tableOf(sums: Sums): string {
  const row = (name: string, numbers: readonly number[]): string =>
    name.padEnd(36) + numbers.map((count) => String(count).padStart(9)).join('');
  return [
    `\n${'operation'.padEnd(36)}     done  refused     lost`,
    ...[...sums.operations].map(([name, { done, refused, lost }]) => row(name, [done, refused, lost])),
    `\n${'fault'.padEnd(36)}    bites`,
    ...FAULT_KINDS.map((kind) => row(kind, [sums.faults.get(kind) ?? 0])),
    `\n${'mark'.padEnd(36)}  reached`,
    ...MARKS.map(({ mark }) => row(mark, [sums.marks.get(mark) ?? 0])),
  ].join('\n');
}

async function explain(options: Options, report: Report): Promise<void> {
  const again = (more: string): string =>
    [
      `again: npm run sim -- --seed ${report.seed}`,
      ...(options.operations === 200 ? [] : [`--operations ${options.operations}`]),
      ...(options.virtual === 30 ? [] : [`--virtual ${options.virtual}`]),
      ...(options.plant === undefined ? [] : [`--plant ${options.plant}`]),
      more,
    ].join(' ');
  const lastOf = ({ trace }: Report): string => trace.slice(-options.events).join('\n');
  say(`\n${lastOf(report)}`);
  say(`\nseed ${report.seed}: ${report.breach}`);
  say(again(options.faults === undefined ? '' : `--faults ${options.faults.join(',') || 'none'}`));
  if (options['no-shrink']) return;
  say('\nlooking for the smallest …');
  const small = await shrink({
    programs: await buildPrograms(PLANTED.filter(({ id }) => id === options.plant)),
    report,
    options: { operations: options.operations, minutes: options.virtual },
  });
  const faults = small.faults.join(',') || 'none';
  say(`\n${lastOf(small.report)}`);
  say(`\nsmallest: ${small.operations} operations, faults ${faults}: ${small.report.breach}`);
  say(again(`--stop-after ${small.operations} --faults ${faults}`));
}

const FLAGS = new Set(['twice', 'keep-going', 'no-shrink']);
const { values } = parseArgs({
  options: {
    help: { type: 'boolean' },
    ...Object.fromEntries(
      Object.keys(Options.shape).map((name) => [
        name,
        { type: FLAGS.has(name) ? 'boolean' : 'string' } as const,
      ]),
    ),
  },
});
if (values['help'] === true) say(HELP);
else {
  const options = Options.safeParse(values);
  if (options.success) process.exitCode = await main(options.data);
  else {
    for (const { path, message } of options.error.issues)
      process.stderr.write(`--${path.join(' ')} ${message}\n`);
    process.exitCode = 2;
  }
}
