/** Exit codes of `graft`; docs/cli.md lists them for scripts. */
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
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An expected failure of a command: what went wrong and what to do about it. Everything else that is thrown is a bug. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: ExitCode;
  /** The server's code, such as `adapter_invalid`, or one of ours, such as `port_taken`; for `--json`. */
  readonly code: string;

  constructor(params: { message: string; exitCode?: ExitCode; code?: string }) {
    super(params.message);
    this.exitCode = params.exitCode ?? EXIT.error;
    this.code = params.code ?? 'error';
  }
}
