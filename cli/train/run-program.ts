/** Runs `gpu-origin/train.ts` as a process of its own; how it ended, and what to do about it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import {
  diedForMemory,
  type TrainingEnd,
  TrainingEvent,
  type TrainingFailure,
} from '../../protocol/training.ts';
import { CliError, EXIT, type ExitCode, interrupted } from '../cli-error.ts';
import {
  endsWithUs,
  originEnvironment,
  type OriginEvent,
  parseEvent,
  ROOT,
} from '../local/origin-process.ts';
import { makePrivately } from '../local/private-files.ts';

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

type Again = (flag: '' | '--resume' | '--restart') => string;

interface Remedy {
  readonly exitCode: ExitCode;
  /** @param go the command that continues, or starts again without a checkpoint. */
  readonly text: (params: { go: string; isKept: boolean; again: Again }) => string;
}

const goOn = ({ go, isKept }: { go: string; isKept: boolean }): string =>
  isKept ? `continue with \`${go}\`` : `run \`${go}\` again`;

const startOver: Remedy['text'] = ({ again }) => `Start over with \`${again('--restart')}\`.`;

const REMEDIES: Readonly<Record<TrainingFailure, Remedy>> = {
  rows_invalid: {
    exitCode: EXIT.usage,
    text: ({ again }) => `Correct the rows, then run \`${again('')}\` again.`,
  },
  no_rows: {
    exitCode: EXIT.usage,
    text: () => 'Add rows, or keep longer ones with a higher --max-length.',
  },
  settings_invalid: { exitCode: EXIT.usage, text: () => 'See `graft train --help`.' },
  base_mismatch: {
    exitCode: EXIT.refused,
    text: () => 'Check --base and --parent.',
  },
  checkpoint_mismatch: { exitCode: EXIT.error, text: startOver },
  checkpoint_damaged: { exitCode: EXIT.error, text: startOver },
  // Its message says what to do.
  loss_not_finite: { exitCode: EXIT.error, text: () => '' },
  out_of_memory: {
    exitCode: EXIT.error,
    text: (params) =>
      `End other programs and ${goOn(params)}, or train with a smaller --batch or --max-length` +
      ' or with --weights int8.',
  },
  disk_full: { exitCode: EXIT.error, text: (params) => `Free some space, then ${goOn(params)}.` },
  training_failed: { exitCode: EXIT.error, text: (params) => sentence(goOn(params)) },
};

const sentence = (text: string): string =>
  `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

/**
 * @param params.hasCheckpoint whether there is one on the disk now. @param params.isStopping it was told to end.
 * @returns the error of the command.
 */
export function trainingError(
  end: Exclude<TrainingEnd, { event: 'ready' }>,
  params: { again: Again; hasCheckpoint: boolean; isStopping: boolean },
): CliError {
  const { again, hasCheckpoint: isKept, isStopping } = params;
  const go = again(isKept ? '--resume' : '');
  if (end.event === 'stopped')
    return new CliError({
      message: isKept
        ? `${end.steps === 0 ? 'Stopped while preparing' : `Stopped at step ${end.step} of ${end.steps}`}. Continue with \`${go}\`.`
        : `Stopped before the first checkpoint. Start again with \`${go}\`.`,
      exitCode: EXIT.interrupted,
      code: 'interrupted',
    });
  if (end.event === 'failed') {
    const { exitCode, text } = REMEDIES[end.code];
    const kept = end.kept_step === null ? '' : ` The checkpoint of step ${end.kept_step} is kept.`;
    return new CliError({
      message: `${sentence(end.message.trim())}${kept} ${text({ go, isKept, again })}`.trimEnd(),
      exitCode,
      code: end.code,
    });
  }
  // It had not begun to listen for the signal, or the whole machine is ending.
  if (isStopping && !isKept) return interrupted();
  const { signal, exitCode, log } = end;
  const how = signal === null ? `ended with code ${exitCode}` : `was ended by ${signal}`;
  const isMemory = diedForMemory(end);
  const said = log.length === 0 ? '' : `\n${log.join('\n')}`;
  const remedy = isMemory
    ? `Most likely the memory was not enough. ${REMEDIES.out_of_memory.text({ go, isKept, again })}`
    : sentence(goOn({ go, isKept }));
  return new CliError({
    message: `The training ${how}. ${remedy}${said}`,
    exitCode: isStopping ? EXIT.interrupted : EXIT.error,
    code: isStopping ? 'interrupted' : isMemory ? 'out_of_memory' : 'training_failed',
  });
}
