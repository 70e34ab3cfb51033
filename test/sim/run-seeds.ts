/** Runs many seeds, in this process or in several: each has its own programs and its own clock. */
import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { PLANTED } from './planted-bugs.ts';
import { simulate, type Report } from './simulate.ts';
import { FAULT_KINDS } from './world/faults.ts';
import { buildPrograms } from './world/programs.ts';

const number = z.coerce.number().int().positive();

/** What is the same for all seeds of a run. */
export const RunOptions = z.object({
  operations: number.default(200),
  'stop-after': number.optional(),
  virtual: number.default(30),
  faults: z
    .string()
    .transform((text) => (text === 'none' ? [] : text.split(',')))
    .pipe(z.array(z.enum(FAULT_KINDS, `must be of ${FAULT_KINDS.join(', ')}, or "none"`)))
    .optional(),
  plant: z
    .string()
    .refine(
      (id) => PLANTED.some((one) => one.id === id),
      `must be one of ${PLANTED.map(({ id }) => id).join(', ')}`,
    )
    .optional(),
  /** Runs each seed again, and compares the traces. */
  twice: z.boolean().default(false),
});
export type RunOptions = z.infer<typeof RunOptions>;

type RunSeed = (seed: string, keepTrace?: boolean) => Promise<Report>;

export async function createRunner(options: RunOptions): Promise<RunSeed> {
  const { operations, virtual: minutes, faults, plant, twice } = options;
  const programs = await buildPrograms(PLANTED.filter(({ id }) => id === plant));
  return async (seed, keepTrace = false) => {
    const run = (): Promise<Report> =>
      simulate({
        programs,
        seed,
        operations,
        minutes,
        keepTrace,
        ...(options['stop-after'] === undefined ? {} : { stopAfter: options['stop-after'] }),
        ...(faults === undefined ? {} : { faults }),
      });
    const first = await run();
    if (!twice || first.breach !== null) return first;
    const again = await run();
    if (again.hash === first.hash) return first;
    return { ...again, breach: `the same each time: the trace was ${first.hash}, then ${again.hash}` };
  };
}

/** @param more the next seed; null = enough. */
export async function runSeeds(params: {
  options: RunOptions;
  processes: number;
  more: () => string | null;
  take: (report: Report) => void;
}): Promise<void> {
  const { options, processes, more, take } = params;
  if (processes > 1) {
    await Promise.all(Array.from({ length: processes }, () => inProcess(options, more, take)));
    return;
  }
  const run = await createRunner(options);
  for (let seed = more(); seed !== null; seed = more()) take(await run(seed));
}

/** The other process's first argument. */
const CHILD = '--graft-sim-child';

function inProcess(
  options: RunOptions,
  more: () => string | null,
  take: (report: Report) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = fork(fileURLToPath(import.meta.url), [CHILD, JSON.stringify(options)], {
      execArgv: ['--import', new URL('typescript.mjs', import.meta.url).href],
      serialization: 'advanced',
    });
    child.on('message', (message: Report | 'ready') => {
      if (message !== 'ready') take(message);
      const seed = more();
      if (seed === null) child.disconnect();
      else child.send(seed);
    });
    child.on('error', reject);
    child.on('exit', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`a process of the simulation ended with ${code}`));
    });
  });
}

if (process.argv[2] === CHILD) {
  const options = JSON.parse(process.argv[3] ?? '{}') as RunOptions;
  const run = await createRunner(options);
  process.on('message', (seed: string) => void run(seed).then((report) => process.send?.(report)));
  process.send?.('ready');
}
