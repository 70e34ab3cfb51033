/** The worker of a page that takes part: graft/browser's own runner, from its own files. */
import { fetchBase } from '../../../browser/worker/fetch-base.ts';
import { openRunnerHere } from '../../../browser/worker/open-runner.ts';
import { deskAt, type PageStart, rowsOf, sendRates, takePart } from './part.ts';

addEventListener('message', ({ data }: MessageEvent<PageStart>) => {
  const { address, device, precision, threads } = data;
  const at = (folder: string): string => new URL(folder, address).href;
  const run = async (): Promise<string> => {
    const { signal } = new AbortController();
    const desk = await deskAt(address);
    const base = await fetchBase({ url: at('base/'), onProgress: () => {}, signal });
    const { runner, runtime } = await openRunnerHere({
      ...{ base, runtimeUrl: at('ort/'), device, precision, threads, rows: rowsOf(desk.work), context: 512 },
      onProgress: () => {},
    });
    if (precision === 'f16' && !runtime.endsWith('in float16')) throw new Error(`no float16: ${runtime}`);
    await sendRates(address, await takePart(runner, desk));
    return runtime;
  };
  run().then(
    (runtime) => postMessage({ runtime }),
    (error: unknown) => postMessage({ error: String(error) }),
  );
});
