/**
 * Every process that a test starts ends with the run, whatever ends that: the end of the tests, Ctrl-C, `kill -9`.
 *
 * vitest runs test files in processes of its own, and this is loaded into them.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { subscribe } from 'node:diagnostics_channel';

/** Kills the groups whose numbers it was told and that have not ended, once the pipe to the teller closes. */
const GUARD = `
alive=' '
while read -r sign pid; do
  case $sign in
    +) alive="$alive$pid " ;;
    -) alive="\${alive%%" $pid "*} \${alive#*" $pid "}" ;;
  esac
done
for pid in $alive; do kill -9 "-$pid"; done
`;

/** Every child leads a group of its own: Ctrl-C does not reach it, and what it starts ends with it. */
function guardChildren(): void {
  const guard = spawn('/bin/sh', ['-c', GUARD], { stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  guard.on('error', () => undefined);
  guard.stdin.on('error', () => undefined);
  guard.unref();
  subscribe('child_process', (message) => {
    const { process: child } = message as { process: ChildProcess & { spawn(options: object): unknown } };
    const start = child.spawn.bind(child);
    child.spawn = (options) => {
      const failed = start({ ...options, detached: true });
      const { pid } = child;
      if (pid !== undefined) {
        guard.stdin.write(`+ ${pid}\n`);
        child.once('exit', () => guard.stdin.write(`- ${pid}\n`));
      }
      return failed;
    };
  });
}

/** The main process ends the run: a signal to all of them is its to answer, and we go when it says so or is gone. */
function leaveSignalsToMain(): void {
  const end = () => process.kill(process.pid, 'SIGKILL');
  process.once('disconnect', end);
  for (const signal of ['SIGINT', 'SIGHUP', 'SIGTERM'] as const)
    process.prependListener(signal, () => {
      // Miniflare calls it on signals, where vitest throws.
      process.exit = (() => undefined) as unknown as typeof process.exit;
      if (signal === 'SIGTERM') setImmediate(end);
    });
}

// Setup files run before each test file, all in the same process.
const GUARDED = Symbol.for('graft.test.guarded');
if (!(GUARDED in globalThis) && process.send !== undefined && process.platform !== 'win32') {
  Object.assign(globalThis, { [GUARDED]: true });
  guardChildren();
  leaveSignalsToMain();
}
