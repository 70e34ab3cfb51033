/** Runs `gpu-origin/train.ts` as a process of its own, and says how it ended. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { TrainingEvent } from '../../protocol/training.ts';
import {
  endsWithUs,
  originEnvironment,
  type OriginEvent,
  parseEvent,
  ROOT,
} from '../local/origin-process.ts';
import { makePrivately } from '../local/private-files.ts';

type EventOf<Name extends TrainingEvent['event']> = Extract<TrainingEvent, { event: Name }>;

export type TrainingEnd =
  | EventOf<'ready'>
  | EventOf<'failed'>
  | EventOf<'stopped'>
  /** It ended without a word: was killed, or crashed. */
  | { event: 'died'; signal: NodeJS.Signals | null; exitCode: number | null; log: readonly string[] };

/** Lines of its log that are kept. */
const LAST_LINES = 5;

/**
 * @param params.program arguments for Node: the program, and flags before ours.
 * @param params.onEvent called for its events. @param params.onOther called for those of the preparation.
 * @param params.signal tells it to save and end; it is given the time that a step takes.
 */
export async function runTraining(params: {
  program: readonly string[];
  args: readonly string[];
  env: Readonly<Record<string, string>>;
  onEvent: (event: TrainingEvent) => void;
  onOther: (event: OriginEvent) => void;
  signal: AbortSignal;
}): Promise<TrainingEnd> {
  const { program, args, signal } = params;
  signal.throwIfAborted();
  // Its checkpoints hold what the rows say.
  const child = await makePrivately(async () =>
    spawn(process.execPath, [...endsWithUs(), ...program, ...args], {
      cwd: ROOT,
      env: { ...originEnvironment(process.env), ...params.env },
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      // A process group of its own: Ctrl-C reaches only us.
      detached: true,
    }),
  );
  const stop = (): void => {
    child.kill('SIGTERM');
  };
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  const log: string[] = [];
  const keep = (line: string): void => {
    log.push(line);
    if (log.length > LAST_LINES) log.shift();
  };
  let end: TrainingEnd | null = null;
  const lines = createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (line) => {
    const other = parseEvent(line);
    const event = TrainingEvent.safeParse(other);
    if (event.success) {
      const { data } = event;
      if (data.event === 'ready' || data.event === 'failed' || data.event === 'stopped') end = data;
      params.onEvent(data);
    } else if (other === null) keep(line);
    else params.onOther(other);
  });
  const errors = createInterface({ input: child.stderr as NodeJS.ReadableStream }).on('line', keep);
  const read = Promise.all([once(lines, 'close'), once(errors, 'close')]);
  try {
    const [exitCode, killedBy] = await new Promise<[number | null, NodeJS.Signals | null]>(
      (resolve, reject) => {
        child.once('error', reject);
        child.once('close', (code, by) => resolve([code, by]));
      },
    );
    await read;
    return end ?? { event: 'died', signal: killedBy, exitCode, log };
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
