/**
 * Loaded into an origin before its own code (`node --import`), by `npm run bench -- profile`: notes when the model runs,
 * and how long the main thread is at what comes of it. On SIGUSR2 it writes what happened since the last one.
 */
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { ServerResponse } from 'node:http';
import { performance } from 'node:perf_hooks';
import { Detokenizer, StopScanner } from '../../gpu-origin/generation/answer-text.ts';
import { Sampler } from '../../gpu-origin/generation/sampler.ts';
import { ortLibrary } from '../../gpu-origin/runtime/native/native-device.ts';
import { OrtRunner } from '../../gpu-origin/runtime/ort-runner.ts';

export type Part = 'sampling' | 'detokenizing' | 'SSE' | 'HTTP';

/** Times in ms since the epoch. */
export interface Recorded {
  /** `prefill` includes those beside which rows decode. */
  steps: { kind: 'prefill' | 'decode'; mixed: boolean; rows: number; start: number; end: number }[];
  /** Time of the main thread, ms: while no step ran, and beside one. */
  parts: Record<Part, { between: number; beside: number }>;
  /** Time that the event loop was not waiting, ms. */
  busyMs: number;
  /** Of all threads, ms; and of the main one. */
  cpuMs: number;
  mainCpuMs: number;
}

const target = process.env['BENCH_PROFILE'] ?? '';
/** The session's files begin with it, where the time of each operator is wanted. */
const operators = process.env['BENCH_OPERATORS'];

const nothing = (): Recorded['parts'] => ({
  sampling: { between: 0, beside: 0 },
  detokenizing: { between: 0, beside: 0 },
  SSE: { between: 0, beside: 0 },
  HTTP: { between: 0, beside: 0 },
});
let parts = nothing();
let steps: Recorded['steps'] = [];
let running = 0;

/** Counts the time of a method that returns without waiting. */
function count<Name extends string>(
  prototype: Record<Name, (...args: never[]) => unknown>,
  name: Name,
  part: Part,
): void {
  const original = prototype[name];
  prototype[name] = function (this: unknown, ...args: never[]) {
    const start = performance.now();
    try {
      return original.apply(this, args);
    } finally {
      parts[part][running > 0 ? 'beside' : 'between'] += performance.now() - start;
    }
  };
}
count(Sampler.prototype, 'sample', 'sampling');
count(Detokenizer.prototype, 'push', 'detokenizing');
count(StopScanner.prototype, 'push', 'detokenizing');
count(ReadableStreamDefaultController.prototype, 'enqueue', 'SSE');
count(ServerResponse.prototype as unknown as Record<'write', () => unknown>, 'write', 'HTTP');
count(ServerResponse.prototype as unknown as Record<'end', () => unknown>, 'end', 'HTTP');

const epoch = (): number => performance.timeOrigin + performance.now();

/** Notes each run of the model, from the call to its result in the event loop. */
for (const kind of ['prefill', 'decode'] as const) {
  const prototype = OrtRunner.prototype as unknown as Record<
    string,
    (params: { tokens: readonly number[]; beside?: object }) => Promise<Float32Array>
  >;
  const original = prototype[kind]!;
  prototype[kind] = async function (this: unknown, params) {
    const start = epoch();
    running += 1;
    try {
      return await original.call(this, params);
    } finally {
      running -= 1;
      const rows = kind === 'decode' ? params.tokens.length : 1;
      steps.push({ kind, mixed: params.beside !== undefined, rows, start, end: epoch() });
    }
  };
}

if (operators !== undefined) {
  const library = ortLibrary();
  const create = library.create.bind(library);
  library.create = (kind, name, ...args) => {
    // (env, model, options, …), or (env, model, length, options, …).
    const options = args[name === 'CreateSessionWithPrepackedWeightsContainer' ? 2 : 3];
    if (kind === 'session') library.call('EnableProfiling', options!, operators);
    return create(kind, name, ...args);
  };
}

/** @returns CPU time of this process' first thread, ms. */
function mainThreadMs(): number {
  const fields = readFileSync(`/proc/self/task/${process.pid}/stat`, 'utf8').split(') ')[1]!.split(' ');
  /** Ticks of 10 ms; user and system time are the 14th and 15th field of all. */
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

let busy = performance.eventLoopUtilization();
let cpu = process.cpuUsage();
let mainMs = mainThreadMs();
process.on('SIGUSR2', () => {
  const { active } = performance.eventLoopUtilization(busy);
  const { user, system } = process.cpuUsage(cpu);
  const recorded: Recorded = {
    steps,
    parts,
    busyMs: active,
    cpuMs: (user + system) / 1000,
    mainCpuMs: mainThreadMs() - mainMs,
  };
  // It appears whole or not at all.
  writeFileSync(`${target}.new`, JSON.stringify(recorded));
  renameSync(`${target}.new`, target);
  [steps, parts] = [[], nothing()];
  busy = performance.eventLoopUtilization();
  cpu = process.cpuUsage();
  mainMs = mainThreadMs();
});
