/**
 * A run of tests ends in order, by Ctrl-C or because nothing goes on: what runs is named and killed, and the summary of
 * what ran is printed.
 */
import { readdirSync, readFileSync } from 'node:fs';
import os from 'node:os';
import type { TestModule, TestProject, Vitest } from 'vitest/node';
import { TEST_MS } from './slow.ts';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** One Ctrl-C is two signals: npm passes on what the terminal has sent to all. A further one does not wait. */
const ONE_INTERRUPTION = 2;
/**
 * Milliseconds without a test that ends. vitest's own limits are timers in the process of the tests: one whose thread
 * waits, or never comes back to its event loop, never reaches them.
 */
const STUCK_MS = 3 * TEST_MS;

export default function ({ vitest }: TestProject): void {
  let signals = 0;
  /** vitest sets another. */
  const exitWith = (code: number) => process.once('exit', () => (process.exitCode = code));
  const end = (why: string) => {
    vitest.logger.log(`${why}: ends what the tests started.`);
    for (const line of [...whatRuns(vitest), ...testProcesses()])
      vitest.logger.log(`  still running: ${line}`);
    vitest.logger.log('What has run until now:');
    // The first waits for the tests that run, the second kills them.
    for (let i = 0; i < 2; i += 1) vitest.cancelCurrentRun('keyboard-input').catch(() => undefined);
  };
  for (const signal of SIGNALS) {
    // vitest's own end at once, without a summary.
    process.removeAllListeners(signal);
    process.on(signal, () => {
      signals += 1;
      exitWith(128 + os.constants.signals[signal]);
      if (signals > ONE_INTERRUPTION) process.exit();
      if (signals === 1) end(signal);
    });
  }
  let ended = -1;
  let since = Date.now();
  const watch = setInterval(() => {
    const modules = vitest.state.getTestModules();
    const now = modules.reduce((sum, module) => sum + countEnded(module), 0);
    // When all have, vitest may be watching for changes.
    if (now !== ended || modules.every(hasEnded)) [ended, since] = [now, Date.now()];
    if (Date.now() - since < STUCK_MS) return;
    clearInterval(watch);
    exitWith(1);
    end(`No test has ended for ${Math.round(STUCK_MS / 1000)} s`);
  }, STUCK_MS / 50);
  watch.unref();
  // The terminal may be closed.
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
}

const hasEnded = (module: TestModule): boolean => !['queued', 'pending'].includes(module.state());

/** The file and its tests. */
const countEnded = (module: TestModule): number =>
  Number(hasEnded(module)) +
  [...module.children.allTests()].filter((test) => test.result().state !== 'pending').length;

/** Files that have begun and not ended, each with the tests that have no result. */
function* whatRuns(vitest: Vitest): Generator<string> {
  for (const module of vitest.state.getTestModules()) {
    if (hasEnded(module)) continue;
    const open = [...module.children.allTests()].filter((test) => test.result().state === 'pending');
    const names = open.slice(0, 3).map(({ fullName }) => `'${fullName}'`);
    yield `${module.relativeModuleId}${names.length === 0 ? '' : `: ${names.join(', ')}${open.length > 3 ? ' …' : ''}`}`;
  }
}

/**
 * Linux: each process of tests with the time its main thread has run and where in the kernel that waits: `futex` in a
 * synchronous wait, `ep_poll` in its event loop; `0` when it computes.
 */
function* testProcesses(): Generator<string> {
  try {
    for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
      const stat = /\((.*)\) (.*)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'));
      const fields = stat?.[2]?.split(' ') ?? [];
      if (Number(fields[1]) !== process.pid) continue;
      const waits = readFileSync(`/proc/${pid}/wchan`, 'utf8');
      yield `process ${pid} (${stat?.[1]}): state ${fields[0]}, ran for ${Number(fields[11]) / 100} s, waits in ${waits}`;
    }
  } catch {
    // Not Linux, or gone meanwhile.
  }
}
