/**
 * Hostile adapters by the hundred thousand, through every reader: `node --import tsx bench/fuzz-adapters.ts`.
 * The first input that is not refused with a code, or takes too long, ends the run and is named, so that
 * `--seed S --only I` runs it alone.
 */
import { parseArgs } from 'node:util';
import { makeFuzzInput, runFuzzInput } from '../test/adapters/fuzz/fuzz-input.ts';

/** A few kilobytes take a millisecond; a second means that something is not linear. Pauses of the machine stay below. */
const MAX_INPUT_MS = 1000;
const PROGRESS = 25_000;
const MB = 1e6;

const { values } = parseArgs({
  options: {
    inputs: { type: 'string', default: '250000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
  },
});
const [inputs, seed] = [Number(values.inputs), Number(values.seed)];
if (!Number.isInteger(inputs) || inputs < 1 || !Number.isInteger(seed))
  throw new Error('usage: fuzz-adapters.ts [--inputs N] [--seed N] [--only INDEX]');

if (values.only !== undefined) {
  const input = makeFuzzInput(seed, Number(values.only));
  console.log(input);
  console.log(await runFuzzInput(input));
} else {
  await run();
}

async function run(): Promise<void> {
  const codes = new Map<string, number>();
  const sources = new Map<string, number>();
  let slowest = { ms: 0, index: -1 };
  let peak = 0;
  const resident = (): number => {
    const { rss } = process.memoryUsage();
    peak = Math.max(peak, rss);
    return rss / MB;
  };
  // Compiled code and the first garbage are not the inputs' doing.
  for (let index = 0; index < 1000; index++) await runFuzzInput(makeFuzzInput(seed + 1, index));
  const before = resident();
  const start = performance.now();
  for (let index = 0; index < inputs; index++) {
    const input = makeFuzzInput(seed, index);
    const from = performance.now();
    let code: string;
    try {
      code = await runFuzzInput(input);
    } catch (error) {
      console.error(`input ${index} of seed ${seed}, made from "${input.from}":`, error);
      process.exitCode = 1;
      return;
    }
    const ms = performance.now() - from;
    if (ms > slowest.ms) slowest = { ms, index };
    if (ms > MAX_INPUT_MS) {
      console.error(`input ${index} of seed ${seed}, made from "${input.from}", took ${ms.toFixed(0)} ms`);
      process.exitCode = 1;
    }
    codes.set(code, (codes.get(code) ?? 0) + 1);
    if (code === 'accepted') sources.set(input.from, (sources.get(input.from) ?? 0) + 1);
    if ((index + 1) % 500 === 0) resident();
    if ((index + 1) % PROGRESS === 0) console.error(`${index + 1} inputs, ${resident().toFixed(0)} MB`);
  }
  const seconds = (performance.now() - start) / 1000;
  const after = resident();
  const list = (counts: Map<string, number>): string =>
    [...counts]
      .sort(([, a], [, b]) => b - a)
      .map(([name, count]) => `${name} ${count}`)
      .join(', ');
  console.log(
    `${inputs} inputs of seed ${seed} in ${seconds.toFixed(0)} s: ${(inputs / seconds).toFixed(0)} a second`,
  );
  console.log(
    `resident ${before.toFixed(0)} MB before, ${after.toFixed(0)} MB after, ${(peak / MB).toFixed(0)} MB at most`,
  );
  console.log(`slowest: input ${slowest.index} with ${slowest.ms.toFixed(1)} ms`);
  console.log(`${codes.size} outcomes: ${list(codes)}`);
  console.log(`accepted, by the valid file: ${list(sources)}`);
}
