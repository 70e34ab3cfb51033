/** Where a training step's time goes: runs by model, and functions of this process by V8's sampling profiler. */
import { type Profiler, Session } from 'node:inspector/promises';
import type { Device } from '../../gpu-origin/runtime/device.ts';

/** Milliseconds by part. */
export type Parts = Record<string, number>;

/** The trainer opens the head's two models, then a forward and a backward one for each length. */
const modelAt = (index: number): string => (index < 2 ? 'head' : index % 2 === 0 ? 'forward' : 'backward');

/** The device, which adds each run's milliseconds to `runs`. */
export function timedDevice(device: Device, runs: Parts): Device {
  const timed = Object.create(device) as Device;
  let opened = 0;
  timed.session = async (...args) => {
    const session = await device.session(...args);
    const name = modelAt(opened++);
    const bind = session.bind.bind(session);
    session.bind = () => {
      const binding = bind();
      const run = binding.run.bind(binding);
      binding.run = async () => {
        const begin = performance.now();
        await run();
        runs[name] = (runs[name] ?? 0) + performance.now() - begin;
      };
      return binding;
    };
    return session;
  };
  return timed;
}

/** Functions of gpu-origin/training/ that do work of their own, by what they do. */
const FUNCTIONS: Readonly<Record<string, string>> = {
  embed: 'embedding rows read',
  toServed: 'deltas to the served basis',
  addGradient: 'gradients back to theirs',
  update: 'AdamW',
  upload: 'copies to the device',
  bind: 'bindings',
  input: 'bindings',
  output: 'bindings',
  allocate: 'bindings',
  free: 'bindings',
};

/** Runs `work` under the profiler. @returns milliseconds of the functions above, with all that they call. */
export async function profiled(work: () => Promise<void>): Promise<Parts> {
  const session = new Session();
  session.connect();
  try {
    await session.post('Profiler.enable');
    await session.post('Profiler.setSamplingInterval', { interval: 500 });
    await session.post('Profiler.start');
    await work();
    const { profile } = await session.post('Profiler.stop');
    return sumsOf(profile);
  } finally {
    session.disconnect();
  }
}

function sumsOf({ nodes, samples = [], timeDeltas = [] }: Profiler.Profile): Parts {
  const parents = new Map(nodes.flatMap(({ id, children }) => (children ?? []).map((child) => [child, id])));
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const sums: Parts = {};
  const partOf = new Map<number, string | undefined>();
  for (const { id } of nodes) {
    let part: string | undefined;
    // The outermost one counts.
    for (let at: number | undefined = id; at !== undefined; at = parents.get(at)) {
      const { functionName, url } = byId.get(at)!.callFrame;
      if (url.includes('gpu-origin/')) part = FUNCTIONS[functionName] ?? part;
    }
    partOf.set(id, part);
  }
  samples.forEach((id, index) => {
    const part = partOf.get(id);
    // A sample stands for the time until the next one, microseconds.
    if (part !== undefined) sums[part] = (sums[part] ?? 0) + (timeDeltas[index + 1] ?? 0) / 1_000;
  });
  return sums;
}
