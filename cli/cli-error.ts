import { setMaxListeners } from 'node:events';

/** Exit codes of `graft`; docs/reference/errors.md lists them for scripts. */
export const EXIT = {
  ok: 0,
  error: 1,
  usage: 2,
  notFound: 3,
  auth: 4,
  refused: 5,
  unavailable: 6,
  interrupted: 130,
} as const;
/** For docs/reference/errors.md. */
export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: 'done',
  error: 'error',
  usage: 'wrong usage: unknown command or flag, missing argument, no server given',
  notFound: 'the name or model does not exist, or the key may not use it',
  auth: 'missing key, or the key is refused',
  refused:
    'refused: the adapter is invalid for this base, its score is too low, it does not verify, or ' +
    'somebody else published at the same time',
  unavailable: 'the server does not answer or is busy; try the same command again later',
  interrupted: 'interrupted',
};
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An expected failure of a command: what happened and what to do. Anything else that is thrown is a bug. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: ExitCode;
  /** The server's code, such as `adapter_invalid`, or the CLI's, such as `port_taken`; for `--json`. */
  readonly code: string;
  /** The server's, in addition to `adapter_invalid`, such as `part_missing`. */
  readonly reason: string | null;
  /** The one command that follows; null = none, or it depends. */
  readonly next: string | null;

  constructor(params: {
    message: string;
    exitCode?: ExitCode;
    code?: string;
    reason?: string | null;
    next?: string | null;
  }) {
    super(params.message);
    this.exitCode = params.exitCode ?? EXIT.error;
    this.code = params.code ?? 'error';
    this.reason = params.reason ?? null;
    this.next = params.next ?? null;
  }
}

/** Prints nothing: the user pressed Ctrl-C. */
export const INTERRUPTED = 'Interrupted.';
export const interrupted = (): CliError =>
  new CliError({ message: INTERRUPTED, exitCode: EXIT.interrupted, code: 'interrupted' });

/**
 * Runs `work` with a signal that fires on Ctrl-C, so that it can report what remains; a second Ctrl-C exits at
 * once.
 * @throws what `work` throws; CliError `interrupted` from pending requests.
 */
export async function interruptible<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const ending = new AbortController();
  // Each retry pause listens to it and removes its listener afterwards, as many as there are parallel requests.
  // Node warns of a leak beyond ten.
  setMaxListeners(0, ending.signal);
  const onSignal = () => ending.abort(interrupted());
  process.once('SIGINT', onSignal).once('SIGTERM', onSignal);
  try {
    return await work(ending.signal);
  } finally {
    process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
  }
}
