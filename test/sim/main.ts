/** `npm run sim`: runs seeds, until the first that fails, and makes that one small. */
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { z } from 'zod';
import { MARKS } from './marks.ts';
import { PLANTED } from './planted-bugs.ts';
import { mergeInto, shortOf, type Sums } from './sums.ts';
import { shrink } from './shrink.ts';
import { simulate, type Report } from './simulate.ts';
import { FAULT_KINDS, type FaultKind } from './world/faults.ts';
import { buildPrograms } from './world/programs.ts';

const HELP = `Usage: npm run sim -- [options]

Runs the whole of graft from a seed, in virtual time, with faults.

  --seed N           this seed alone; prints its last events
  --seeds N          so many seeds (default 100), from --from on (default 1)
  --minutes N        as many seeds as take so long
  --operations N     clients' operations in each seed (default 200)
  --stop-after N     begins no more than so many of them
  --virtual N        virtual minutes of each seed, at least (default 30)
  --faults a,b       only these kinds of faults; "none" = none
  --plant ID         plants a bug: ${PLANTED.map(({ id }) => id).join(', ')}
  --threads N        seeds at once (default 1)
  --events N         events to print of a seed (default 50)
  --keep-going       does not stop at the first failure
  --no-shrink        prints the failure as it is

Exit code 1: an invariant does not hold, or a floor was not reached.`;

const number = z.coerce.number().int().positive();
const Options = z.object({
  seed: z.string().optional(),
  seeds: number.default(100),
  from: number.default(1),
  minutes: z.coerce.number().positive().optional(),
  operations: number.default(200),
  'stop-after': number.optional(),
  virtual: number.default(30),
  faults: z.string().optional(),
  plant: z.string().optional(),
  threads: number.default(1),
  events: number.default(50),
  'keep-going': z.boolean().default(false),
  'no-shrink': z.boolean().default(false),
});
type Options = z.infer<typeof Options>;

const say = (line: string): void => void process.stdout.write(`${line}\n`);

function faultsOf(text: string | undefined): FaultKind[] | undefined {
  if (text === undefined) return undefined;
  if (text === 'none') return [];
  return text.split(',').map((name) => {
    const kind = FAULT_KINDS.find((one) => one === name);
    if (kind === undefined) throw new Error(`--faults ${name}: there is ${FAULT_KINDS.join(', ')}`);
    return kind;
  });
}

async function runner(options: Options): Promise<(seed: string, keepTrace?: boolean) => Promise<Report>> {
  const planted = PLANTED.find(({ id }) => id === options.plant);
  if (options.plant !== undefined && planted === undefined)
    throw new Error(`--plant ${options.plant}: ${HELP}`);
  const programs = await buildPrograms(planted === undefined ? [] : [planted]);
  const faults = faultsOf(options.faults);
  return (seed, keepTrace = false) =>
    simulate({
      programs,
      seed,
      operations: options.operations,
      minutes: options.virtual,
      keepTrace,
      ...(options['stop-after'] === undefined ? {} : { stopAfter: options['stop-after'] }),
      ...(faults === undefined ? {} : { faults }),
    });
}

async function main(options: Options): Promise<number> {
  const began = performance.now();
  const elapsed = (): number => (performance.now() - began) / 1_000;
  if (options.seed !== undefined) {
    const report = await (await runner(options))(options.seed, true);
    say(report.trace.slice(-options.events).join('\n'));
    say(`\nseed ${options.seed}: ${report.breach ?? 'nothing failed'}; trace ${report.hash}`);
    return report.breach === null ? 0 : 1;
  }
  const sums: Sums = { seeds: 0, operations: new Map(), faults: new Map(), marks: new Map(), events: 0 };
  const failed: Report[] = [];
  let next = options.from;
  const more = (): string | null => {
    if (failed.length > 0 && !options['keep-going']) return null;
    const over =
      options.minutes === undefined ? next >= options.from + options.seeds : elapsed() > options.minutes * 60;
    if (over) return null;
    next += 1;
    return String(next - 1);
  };
  const take = (report: Report): void => {
    mergeInto(sums, report);
    if (report.breach !== null) {
      failed.push(report);
      say(`seed ${report.seed}: ${report.breach}`);
    }
    if (sums.seeds % 50 === 0) say(progressOf(sums, elapsed()));
  };
  if (options.threads === 1) {
    const run = await runner(options);
    for (let seed = more(); seed !== null; seed = more()) take(await run(seed));
  } else await Promise.all(Array.from({ length: options.threads }, () => inThread(options, more, take)));
  say(progressOf(sums, elapsed()));
  say(tableOf(sums));
  const short = shortOf(sums);
  for (const line of short) say(line);
  const [first] = failed;
  if (first !== undefined) await explain(options, first);
  return failed.length + short.length === 0 ? 0 : 1;
}

/** A thread has its own programs: no two worlds share a clock. */
function inThread(
  options: Options,
  more: () => string | null,
  take: (report: Report) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(import.meta.url), { workerData: options });
    const go = (): void => {
      const seed = more();
      worker.postMessage(seed);
      if (seed === null) resolve();
    };
    worker.on('message', (message: Report | 'ready') => {
      if (message !== 'ready') take(message);
      go();
    });
    worker.on('error', reject);
  });
}

const total = (sums: Sums): number =>
  [...sums.operations.values()].reduce((sum, { done, refused, lost }) => sum + done + refused + lost, 0);

const progressOf = (sums: Sums, seconds: number): string =>
  `${sums.seeds} seeds, ${total(sums)} operations, ${sums.events} events in ${seconds.toFixed(0)} s: ` +
  `${(sums.seeds / seconds).toFixed(2)} seeds and ${(total(sums) / seconds).toFixed(0)} operations a second`;

function tableOf(sums: Sums): string {
  const lines = ['\noperation                  done  refused     lost'];
  for (const [name, { done, refused, lost }] of sums.operations)
    lines.push(name.padEnd(22) + [done, refused, lost].map((count) => String(count).padStart(9)).join(''));
  lines.push('\nfault                     bites');
  for (const kind of FAULT_KINDS)
    lines.push(kind.padEnd(22) + String(sums.faults.get(kind) ?? 0).padStart(9));
  lines.push('\nmark                                    reached');
  for (const { mark } of MARKS) lines.push(mark.padEnd(36) + String(sums.marks.get(mark) ?? 0).padStart(11));
  return lines.join('\n');
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
  say(`\n${report.trace.slice(-options.events).join('\n')}`);
  say(`\nseed ${report.seed}: ${report.breach}`);
  say(again(options.faults === undefined ? '' : `--faults ${options.faults}`));
  if (options['no-shrink']) return;
  const planted = PLANTED.filter(({ id }) => id === options.plant);
  const small = await shrink({
    programs: await buildPrograms(planted),
    report,
    options: { operations: options.operations, minutes: options.virtual },
  });
  say(
    `\nsmallest: ${small.operations} operations, faults ${small.faults.join(',') || 'none'}: ${small.report.breach}`,
  );
  say(small.report.trace.slice(-options.events).join('\n'));
  say(again(`--stop-after ${small.operations} --faults ${small.faults.join(',') || 'none'}`));
}

if (isMainThread) {
  const { values } = parseArgs({
    options: {
      help: { type: 'boolean' },
      ...Object.fromEntries(
        [
          'seed',
          'seeds',
          'from',
          'minutes',
          'operations',
          'stop-after',
          'virtual',
          'faults',
          'plant',
          'threads',
          'events',
        ].map((name) => [name, { type: 'string' as const }]),
      ),
      'keep-going': { type: 'boolean' },
      'no-shrink': { type: 'boolean' },
    },
  });
  if (values['help'] === true) say(HELP);
  else process.exitCode = await main(Options.parse(values));
} else {
  const port = parentPort;
  const run = await runner(Options.parse(workerData));
  port?.on('message', (seed: string | null) => {
    if (seed === null) port.close();
    else void run(seed).then((report) => port.postMessage(report));
  });
  port?.postMessage('ready');
}
