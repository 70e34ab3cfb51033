import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import type { Device } from '../../../gpu-origin/runtime/device.ts';
import {
  openDevice,
  type OpenProvider,
  type WantedProvider,
} from '../../../gpu-origin/runtime/open-device.ts';

const works = (description: string) => async (threads: number) =>
  ({ description: `${description}, ${threads} threads`, close: async () => {} }) as Device;
const fails = (message: string) => async (): Promise<Device> => {
  throw new Error(message);
};
const opened = (
  provider: WantedProvider,
  open: Partial<OpenProvider>,
  noGpu: string | null = null,
): Promise<string> =>
  openDevice({
    provider,
    threads: 3,
    noGpu,
    open: {
      ...{ cpu: works('the library'), webgpu: works('the GPU'), web: works('the module') },
      findGpu: async () => null,
      measure: async ({ description }) => (description.startsWith('the GPU') ? 1.25 : 10),
      ...open,
    },
  }).then(({ message }) => message);

it('uses the native library if it loads', async () => {
  expect(await opened('auto', {})).toBe('provider cpu: the library, 3 threads');
});

it('uses WebAssembly if it does not, and says why in one line', async () => {
  const message = await opened('auto', { cpu: fails("Cannot find package 'koffi'\nRequire stack:\n- a") });
  expect(message).toBe(
    "provider web: the module, 3 threads, because the native library does not load (Cannot find package 'koffi')",
  );
});

it('uses a GPU that is faster than the processor', async () => {
  const findGpu = async (): Promise<string> => 'NVIDIA';
  expect(await opened('auto', { findGpu })).toBe(
    "provider webgpu: the GPU, 3 threads, because this machine's GPU (NVIDIA) is faster than its processor; use --provider cpu for rows whose bits do not depend on the batch",
  );
  expect(await opened('auto', { findGpu, measure: async () => 10 })).toBe(
    "provider cpu: the library, 3 threads, because this machine's GPU (NVIDIA) took 10.0 ms with WebGPU for products that took the processor 10.0 ms",
  );
  const reason =
    'SessionOptionsAppendExecutionProvider: /src/webgpu_context.cc:136 f()::<lambda()> status == Success was false. No supported adapters';
  expect(await opened('auto', { findGpu, webgpu: fails(reason) })).toBe(
    "provider cpu: the library, 3 threads, because this machine's GPU (NVIDIA) does not start with WebGPU (No supported adapters)",
  );
});

it('uses no GPU that cannot run the base, and refuses one that was requested', async () => {
  const findGpu = async (): Promise<string> => 'NVIDIA';
  const reason = 'cannot run this base';
  expect(await opened('auto', { findGpu }, reason)).toBe(
    "provider cpu: the library, 3 threads, because this machine's GPU (NVIDIA) cannot run this base",
  );
  await expect(opened('webgpu', {}, reason)).rejects.toThrow(
    '--provider webgpu: WebGPU cannot run this base. Use --provider cpu',
  );
});

it('looks for no GPU if the library does not load, and uses none that was not requested', async () => {
  const findGpu = (): Promise<string> => expect.unreachable();
  expect(await opened('auto', { findGpu, cpu: fails('no library') })).toContain('provider web:');
  expect(await opened('cpu', { findGpu, webgpu: fails('not asked for') })).toBe(
    'provider cpu: the library, 3 threads',
  );
  await expect(opened('webgpu', { webgpu: fails('No supported adapters') })).rejects.toThrow(
    /^--provider webgpu: No supported adapters; it needs a GPU and its driver for Vulkan .*; --provider cpu needs neither$/,
  );
});

it('uses only what was requested, and names the alternative', async () => {
  expect(await opened('web', { cpu: fails('not asked for') })).toBe('provider web: the module, 3 threads');
  await expect(opened('cpu', { cpu: fails('no library') })).rejects.toThrow(
    '--provider cpu: no library; --provider web needs no native library',
  );
  await expect(opened('auto', { cpu: fails('no library'), web: fails('no package') })).rejects.toThrow(
    '--provider auto: neither cpu (no library) nor web (no package) starts',
  );
});

/** Native code that a process has loaded. */
const SCRIPT = `
  import { readFileSync } from 'node:fs';
  import { openDevice } from './gpu-origin/runtime/open-device.ts';
  const { device } = await openDevice({ provider: 'web', threads: 2 });
  const memory = await device.host(16);
  new Float32Array(memory.buffer, memory.offset, 4).fill(1);
  memory.close();
  const maps = process.platform === 'linux' ? readFileSync('/proc/self/maps', 'utf8') : '';
  console.log(JSON.stringify({ provider: device.provider, native: /koffi|onnxruntime/.test(maps) }));
  await device.close();
`;

/** A pointer beyond all memory: WebAssembly traps, and its thread ends. */
const CRASH = `
  import { startWasmThread } from './gpu-origin/runtime/web/wasm-client.ts';
  const thread = await startWasmThread(1);
  thread.tell({ kind: 'free', pointer: 0xfffffff0 });
  await thread.ask({ kind: 'allocate', bytes: 8 }).catch(({ name, code }) => console.log(name, code));
  setInterval(() => {}, 1_000);
`;

it('ends the process if the thread of WebAssembly ends', async () => {
  const args = ['--import', 'tsx', '--input-type=module', '-e', CRASH];
  const ended = promisify(execFile)(process.execPath, args, { cwd: process.cwd() });
  await expect(ended).rejects.toMatchObject({
    code: 1,
    stdout: 'OrtError -1\n',
    stderr: expect.stringContaining('OrtError: WebAssembly: memory access out of bounds') as string,
  });
});

it('runs WebAssembly without koffi and without the native library, and lets the process end', async () => {
  const args = ['--import', 'tsx', '--input-type=module', '-e', SCRIPT];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: process.cwd() });
  expect(JSON.parse(stdout)).toEqual({ provider: 'web', native: false });
});
