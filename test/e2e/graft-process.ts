/** Runs the real command line, in a folder of its own. */
import { spawn, type ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { needFreePort } from '../../cli/local/ports.ts';

const GRAFT = fileURLToPath(new URL('../../bin/graft.mjs', import.meta.url));

export interface Finished {
  code: number | null;
  stdout: string;
  stderr: string;
}

export interface GraftProcess {
  readonly child: ChildProcess;
  readonly finished: Promise<Finished>;
  /** Kills the process and those of its children that are in its group (workerd is, the origin is not). */
  killGroup(): Promise<void>;
  /** Resolves with what matched on stdout; rejects, with everything said, when the process ends before. */
  sees(pattern: RegExp): Promise<RegExpExecArray>;
}

export interface GraftOptions {
  cwd: string;
  /** Added to ours, less every GRAFT_ variable but where the built origin is, and without colours. */
  env?: Record<string, string>;
  /** Piped in; nothing unless given. */
  stdin?: string;
  /** Another `bin/graft.mjs` than the checkout's. */
  program?: string;
}

export function startGraft(args: readonly string[], options: GraftOptions): GraftProcess {
  // A package has an origin of its own, or none.
  const kept = options.program === undefined ? ['GRAFT_BUILT'] : [];
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => kept.includes(name) || (!name.startsWith('GRAFT_') && name !== 'FORCE_COLOR'),
    ),
  );
  const child = spawn(process.execPath, [options.program ?? GRAFT, ...args], {
    cwd: options.cwd,
    env: { ...inherited, NO_COLOR: '1', ...options.env },
    stdio: [options.stdin === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    // A process group of its own, so that a test can end it with everything it started.
    detached: true,
  });
  child.stdin?.end(options.stdin);
  let stdout = '';
  let stderr = '';
  const listeners = new Set<() => void>();
  child.stdout?.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    for (const listener of listeners) listener();
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const finished = new Promise<Finished>((resolve) =>
    child.once('close', (code) => resolve({ code, stdout, stderr })),
  );
  return {
    child,
    finished,
    async killGroup() {
      try {
        process.kill(-(child.pid as number), 'SIGKILL');
      } catch {
        // Nothing of it is left.
      }
      await finished;
    },
    sees: (pattern) =>
      new Promise((resolve, reject) => {
        const check = () => {
          const match = pattern.exec(stdout);
          if (match !== null) resolve(match);
        };
        listeners.add(check);
        check();
        void finished.then(({ code }) => reject(new Error(`graft ended with ${code}\n${stdout}\n${stderr}`)));
      }),
  };
}

export const runGraft = (args: readonly string[], options: GraftOptions): Promise<Finished> =>
  startGraft(args, options).finished;

/** One that nothing listens on now. */
export const freePort = (): Promise<number> => needFreePort({ port: 0, what: 'test', flag: '--port' });
