/** Runs the real command line on a pseudo terminal, which Python has and Node has not. */
import { spawn, spawnSync } from 'node:child_process';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { WAIT_MS } from '../setup/slow.ts';

const GRAFT = fileURLToPath(new URL('../../bin/graft.mjs', import.meta.url));
const SCRIPT = fileURLToPath(new URL('on_terminal.py', import.meta.url));

/** What to wait for, or to do; on_terminal.py has the details. */
export type Step = { see: string } | { raw: boolean } | { type: string } | { signal: 'SIGINT' | 'SIGTERM' };

export interface TerminalEnd {
  code: number | null;
  signal: string | null;
  /** Everything written, stdout and stderr. */
  output: string;
  /** The step that was waited for in vain. */
  stuck: unknown;
  /** Whether the terminal's modes are as they were before. */
  restored: boolean;
  /** Whether its cursor is shown. */
  cursor: boolean;
}

/** Null when tests can be run on a terminal, else why not. */
export const noTerminal: string | null =
  process.platform === 'win32' || spawnSync('python3', ['-c', 'import pty, termios']).status !== 0
    ? 'python3 with its pty module is missing'
    : null;

export async function onTerminal(
  args: readonly string[],
  options: { cwd: string; env: Record<string, string>; steps: readonly Step[] },
): Promise<TerminalEnd> {
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('GRAFT_') && name !== 'FORCE_COLOR'),
  );
  const python = spawn('python3', [SCRIPT], { stdio: ['pipe', 'pipe', 'inherit'] });
  python.stdin.end(
    JSON.stringify({
      argv: [process.execPath, GRAFT, ...args],
      env: { ...inherited, NO_COLOR: '1', TERM: 'xterm', ...options.env },
      cwd: options.cwd,
      limit_s: WAIT_MS / 1_000,
      steps: options.steps,
    }),
  );
  return JSON.parse(await text(python.stdout)) as TerminalEnd;
}
