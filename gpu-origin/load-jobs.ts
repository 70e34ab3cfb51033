/** Fine-tuning jobs of an origin with `--train`: their store, the program that trains, and what it may take. */
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { availableParallelism, totalmem } from 'node:os';
import { extname, join } from 'node:path';
import type { Config } from './config.ts';
import type { Activity } from './jobs/give-way.ts';
import { openJobStore } from './jobs/job-store.ts';
import { Jobs, type JobsOptions } from './jobs/jobs.ts';
import { trainingStarter } from './jobs/start-training.ts';
import type { LoadedServices } from './load-services.ts';

/** Arguments for Node: `train.ts` beside this file's sources, or `train.mjs` where they are built. */
function trainingProgram(): string[] {
  const end = extname(import.meta.filename);
  const program = join(import.meta.dirname, `train${end}`);
  return end === '.ts' ? ['--import', import.meta.resolve('tsx'), program] : [program];
}

/** Two origins on one machine may share a cache, but not the jobs. */
const folderOf = ({ cacheDir, mode }: Config): string =>
  join(cacheDir, `jobs-${mode.kind === 'dev' ? 'standalone' : mode.originId}`);

/**
 * @returns null without `--train`; what an earlier start with it left is then removed, since nobody could ask for it.
 */
export async function loadJobs(params: {
  config: Config;
  services: Pick<LoadedServices, 'base' | 'experts' | 'files' | 'tokenizer'>;
  /** Of the origin's engine. */
  activity: Activity;
  onEnd: JobsOptions['onEnd'];
  onTrouble: JobsOptions['onTrouble'];
  onFault: JobsOptions['onFault'];
}): Promise<Jobs | null> {
  const { config, services, activity, ...hooks } = params;
  const folder = folderOf(config);
  if (!config.train) {
    await rm(folder, { recursive: true, force: true, maxRetries: 5 });
    return null;
  }
  const { base, experts, files, tokenizer } = services;
  // A delta that was trained on rounded weights fits the same rounding best.
  const weights = base.weights.startsWith('int') ? 'int8' : 'f32';
  // Only needed here, and it brings the trainer along.
  const { trainingMemory } = await import('./training/training-memory.ts');
  return new Jobs({
    ...hooks,
    store: await openJobStore({ folder }),
    base: base.digest,
    files,
    start: trainingStarter({
      program: trainingProgram(),
      basePath: config.basePath,
      baseId: base.id,
      cacheDir: config.cacheDir,
      weights,
      // A GPU has no low priority: what serves would wait for whole steps.
      provider: base.provider === 'web' ? 'web' : 'cpu',
      threads: Math.max(1, availableParallelism() - 1),
      activity: base.provider === 'webgpu' ? null : activity,
      env: process.env,
    }),
    memoryProblem({ request, rows, validation }) {
      const needed = trainingMemory({
        modules: base.modules,
        vocab: tokenizer.size,
        heads: base.attention?.heads,
        experts,
        weights,
        request,
        rowsBytes: rows.bytes + (validation?.bytes ?? 0),
      });
      const free = freeMemory();
      if (needed <= free) return null;
      return (
        `This training needs about ${gigabytes(needed)} of memory, and this origin has ${gigabytes(free)} left. ` +
        'Use a smaller batch, a shorter max_length or a lower rank.'
      );
    },
    now: Date.now,
    timer(ms, callback) {
      const timer = setTimeout(callback, ms);
      return () => clearTimeout(timer);
    },
  });
}

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(1)} GB`;

/** What a new process may take now, bytes: of the machine, and of the limit that a container has. */
function freeMemory(): number {
  const own = process.memoryUsage.rss();
  const limit = process.constrainedMemory();
  const ofLimit = limit > 0 && limit < totalmem() ? limit - own : Infinity;
  return Math.max(0, Math.min(ofLimit, availableHere() ?? totalmem() - own));
}

/** Linux's own estimate, with the caches that it would give up; null elsewhere. */
function availableHere(): number | null {
  try {
    const [, kilobytes] = /^MemAvailable:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8')) ?? [];
    return kilobytes === undefined ? null : Number(kilobytes) * 1_024;
  } catch {
    return null;
  }
}
