import { execFileSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync } from 'node:fs';

/** Larger regions are mapped files and reserved address space; a heap grows by far smaller ones. */
const MAX_REGION_BYTES = 512 * 1024 * 1024;

/** @returns ids of the processes that `parent` started whose command line has `text` in it. */
export const childrenOf = (parent: number, text: string): number[] =>
  execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => /^ *(\d+) +(\d+) (.*)$/.exec(line))
    .filter((match) => Number(match?.[2]) === parent && match?.[3]?.includes(text))
    .map((match) => Number(match?.[1]));

/**
 * Looks through all that a process may write to: heaps, stacks, environment.
 * @returns the needles that are in it, as bytes or as UTF-16; null where memory cannot be read (not Linux, or not allowed).
 */
export function findInMemory(pid: number, needles: Record<string, Buffer>): string[] | null {
  let memory: number;
  let maps: string;
  try {
    maps = readFileSync(`/proc/${pid}/maps`, 'utf8');
    memory = openSync(`/proc/${pid}/mem`, 'r');
  } catch {
    return null;
  }
  const wanted = Object.entries(needles).flatMap(([name, bytes]) => [
    { name, bytes },
    { name, bytes: Buffer.from(bytes.toString('latin1'), 'utf16le') },
  ]);
  const found = new Set<string>();
  for (const [, from = '', to = ''] of maps.matchAll(/^([0-9a-f]+)-([0-9a-f]+) rw/gm)) {
    const start = parseInt(from, 16);
    const length = parseInt(to, 16) - start;
    if (length > MAX_REGION_BYTES) continue;
    const region = Buffer.alloc(length);
    try {
      readSync(memory, region, 0, length, start);
    } catch {
      // A guard page, or unmapped meanwhile.
      continue;
    }
    for (const { name, bytes } of wanted) if (region.includes(bytes)) found.add(name);
  }
  closeSync(memory);
  return [...found].sort();
}
