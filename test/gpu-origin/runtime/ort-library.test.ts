import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

/** One thread: the library then has no threads of its own, which would keep it in memory. */
const SCRIPT = `
  import { ortLibrary } from './gpu-origin/runtime/native/ort-library.ts';
  import { NativeDevice } from './gpu-origin/runtime/native/native-device.ts';
  const device = new NativeDevice(ortLibrary(), 1);
  for (let round = 0; round < 5; round += 1) {
    globalThis.gc();
    await new Promise((resolve) => setImmediate(resolve));
  }
  await device.close();
  console.log('closed');
`;

it('the library stays loaded for as long as its functions can be called', async () => {
  const args = ['--expose-gc', '--import', 'tsx', '--input-type=module', '-e', SCRIPT];
  const { stdout } = await promisify(execFile)(process.execPath, args, { cwd: process.cwd() });
  expect(stdout.trim()).toBe('closed');
});
