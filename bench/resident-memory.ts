import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { promisify } from 'node:util';

const KIB = 1024;
/** Often enough to see a wave's peak, seldom enough not to disturb it. */
const SAMPLE_MS = 100;

/** @returns resident set size of a process, bytes; NaN when the system does not say. */
export async function residentBytes(pid: number): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => null);
  if (status !== null) return Number(/^VmRSS:\s+(\d+) kB/m.exec(status)?.[1] ?? NaN) * KIB;
  const { stdout } = await promisify(execFile)('ps', ['-o', 'rss=', '-p', String(pid)]).catch(() => ({
    stdout: '',
  }));
  return stdout.trim() === '' ? NaN : Number(stdout) * KIB;
}

/** Runs `work` and watches the process meanwhile. @returns its result and the largest resident set seen, bytes. */
export async function watchMemory<T>(
  pid: number,
  work: () => Promise<T>,
): Promise<{ result: T; peakBytes: number }> {
  let peakBytes = await residentBytes(pid);
  const timer = setInterval(() => {
    void residentBytes(pid).then((bytes) => (peakBytes = Math.max(peakBytes, bytes)));
  }, SAMPLE_MS);
  try {
    return { result: await work(), peakBytes };
  } finally {
    clearInterval(timer);
  }
}
