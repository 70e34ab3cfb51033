/** `<runtime> child.ts <address of a desk> <base> <cache> <provider> <weights>`: takes part in Node, Deno or Bun. */
import type { Provider } from '../../../gpu-origin/runtime/device.ts';
import { createRunner } from '../../../gpu-origin/runtime/create-runner.ts';
import { deskAt, rowsOf, sendRates, takePart } from './part.ts';

const [address, basePath, cacheDir, provider, weights] = process.argv.slice(2) as [
  ...[address: string, base: string, cache: string],
  ...[provider: Provider, weights: 'f32' | 'int8'],
];
const desk = await deskAt(address);
const { runner } = await createRunner({
  ...{ basePath, cacheDir, provider, weights, slots: rowsOf(desk.work), context: 512 },
  onProgress: () => {},
  onNotice: (message) => console.log(message),
});
await sendRates(address, await takePart(runner, desk));
await runner.close();
process.exit(0);
