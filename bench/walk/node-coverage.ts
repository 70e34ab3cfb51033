import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { fetch, type WebSocket } from 'miniflare';
import { z } from 'zod';
import { ROOT } from '../../cli/local/origin-process.ts';
import { LOOPBACK } from '../../cli/local/ports.ts';

const Targets = z.tuple([z.looseObject({ webSocketDebuggerUrl: z.string() })]);
const Taken = z.object({
  result: z.array(
    z.object({
      url: z.string(),
      functions: z.array(z.object({ ranges: z.array(z.object({ count: z.number() })).min(1) })),
    }),
  ),
});

/** @returns files of the checkout with a function that was called since this was last asked. */
export type Entered = () => Promise<string[]>;

/**
 * V8's precise coverage of a Node process that runs, from now on.
 * @param port where it opens its inspector when it is told to (`--inspect-port`).
 */
export async function coverNode(pid: number, port: number): Promise<{ entered: Entered; stop(): void }> {
  process.kill(pid, 'SIGUSR1');
  const inspector = await openInspector(port);
  await inspector.call('Profiler.enable');
  await inspector.call('Profiler.startPreciseCoverage', { callCount: true, detailed: false });
  return {
    async entered() {
      const { result } = Taken.parse(await inspector.call('Profiler.takePreciseCoverage'));
      return result
        .filter(({ functions }) => functions.some(({ ranges }) => (ranges[0]?.count ?? 0) > 0))
        .filter(({ url }) => url.startsWith('file://') && !url.includes('/node_modules/'))
        .map(({ url }) => fileURLToPath(url.replace(/\?.*$/, '')))
        .filter((file) => file.startsWith(`${ROOT}/`))
        .map((file) => file.slice(ROOT.length + 1));
    },
    stop: inspector.close,
  };
}

/** Of the inspector to a call; without an id it is an event. */
interface Answer {
  id?: number;
  result?: unknown;
  error?: { message: string };
}

interface Inspector {
  call(method: string, params?: object): Promise<unknown>;
  close(): void;
}

async function openInspector(port: number): Promise<Inspector> {
  const { webSocket } = await fetch(await inspectorUrl(port), { headers: { upgrade: 'websocket' } });
  const socket = webSocket as WebSocket;
  socket.accept();
  const waiting = new Map<number, (answer: Answer) => void>();
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(data as string) as Answer;
    if (message.id !== undefined) waiting.get(message.id)?.(message);
  });
  let last = 0;
  return {
    call: (method, params = {}) =>
      new Promise((resolve, reject) => {
        const id = (last += 1);
        waiting.set(id, ({ result, error }) => {
          waiting.delete(id);
          if (error === undefined) resolve(result);
          else reject(new Error(`${method}: ${error.message}`));
        });
        socket.send(JSON.stringify({ id, method, params }));
      }),
    close: () => socket.close(),
  };
}

/** The process opens it a moment after the signal. */
async function inspectorUrl(port: number): Promise<string> {
  for (let tries = 0; ; tries += 1)
    try {
      const answer = await fetch(`http://${LOOPBACK}:${port}/json/list`);
      return Targets.parse(await answer.json())[0].webSocketDebuggerUrl.replace(/^ws:/, 'http:');
    } catch (error) {
      if (tries === 50) throw error;
      await sleep(100);
    }
}
