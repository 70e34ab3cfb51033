/** The thread that WebAssembly runs in: a run blocks it. Messages are handled one after the other, as they come. */
import { parentPort, workerData } from 'node:worker_threads';
import { OrtError } from '../device.ts';
import { WasmApi } from './wasm-api.ts';
import type { WasmReply, WasmRequest, WasmStart } from './wasm-messages.ts';

const { threads } = workerData as WasmStart;
const reply = (message: WasmReply): void => parentPort!.postMessage(message);

const api = await WasmApi.load(threads);
let turn = Promise.resolve();
parentPort!.on('message', (request: WasmRequest) => {
  turn = turn.then(() => answer(request));
});
reply({ job: 0, pointer: 0, memory: api.memory });

async function answer(request: WasmRequest): Promise<void> {
  const job = 'job' in request ? request.job : null;
  try {
    const pointer = await handle(request);
    if (job !== null) reply({ job, pointer, memory: api.memory });
  } catch (error) {
    // What has no job does not fail; if it does, the thread is of no use any more.
    if (job === null) throw error;
    reply({ job, error: said(error) });
  }
}

/** @returns what an allocation gave, else 0. */
async function handle(request: WasmRequest): Promise<number> {
  switch (request.kind) {
    case 'allocate':
      return api.allocate(request.bytes);
    case 'free':
      api.free(request.pointer);
      break;
    case 'open':
      await api.open(request.session, request.model, request.weights);
      break;
    case 'close':
      api.close(request.session);
      break;
    case 'run':
      if (request.bindings !== null) api.bind(request.binding, request.bindings);
      await api.run(request.binding);
      break;
    case 'unbind':
      api.unbind(request.binding);
  }
  return 0;
}

function said(error: unknown): { call: string; code: number; message: string } {
  if (error instanceof OrtError) return { call: error.call, code: error.code, message: error.reason };
  return { call: 'WebAssembly', code: -1, message: error instanceof Error ? error.message : String(error) };
}
