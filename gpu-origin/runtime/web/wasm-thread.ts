/** The thread of WebAssembly; a run blocks it. Messages are handled in order. */
import { closeSync, fstatSync, openSync, readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { readFully } from '../../model/read-file.ts';
import {
  answerRequest,
  type WasmFiles,
  WasmApi,
  type WasmReply,
  type WasmRequest,
  type WasmStart,
} from './wasm-api.ts';
import { installedModule } from './installed-module.ts';
import type { ExternalData } from './wasm-module.ts';

const { threads } = workerData as WasmStart;
const reply = (message: WasmReply): void => parentPort!.postMessage(message);

/** By their paths. */
const FILES: WasmFiles = {
  model: (path) => readFileSync(path),
  async weights(path, open) {
    const fd = openSync(path, 'r');
    try {
      return await open({ name: basename(path), data: fileData(fd) });
    } finally {
      closeSync(fd);
    }
  },
};

const api = await WasmApi.load(await installedModule(), threads);
let turn = Promise.resolve();
parentPort!.on('message', (request: WasmRequest) => {
  turn = turn.then(async () => {
    const answer = await answerRequest(api, FILES, request);
    if (answer !== null) reply(answer);
  });
});
reply({ job: 0, pointer: 0, memory: api.memory });

/** Reads tensor by tensor: otherwise the whole file would be in memory twice. */
function fileData(fd: number): ExternalData {
  return {
    byteLength: fstatSync(fd).size,
    subarray(begin, end) {
      const bytes = new Uint8Array(end - begin);
      if (!readFully(fd, bytes, begin)) throw new Error('the weights end before their last tensor');
      return bytes;
    },
  };
}
