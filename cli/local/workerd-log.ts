import { createInterface } from 'node:readline';
import { harmless } from '../harmless-text.ts';

/**
 * Addresses in workerd's program, 2 KB of them for each request that it refuses before the worker sees it. Without its
 * symbols they tell nobody anything; the line before says what was wrong.
 */
const ADDRESSES = /^stack: .*\b[0-9a-f]{5,}\s*$/i;

/** Hears what workerd says on a stream, line by line, without stacks of addresses and empty lines. */
export function readWorkerdLog(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  createInterface({ input: stream, crlfDelay: Infinity }).on('line', (line) => {
    if (line.trim() !== '' && !ADDRESSES.test(line)) onLine(harmless(line));
  });
}
