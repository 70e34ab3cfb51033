import { wasmVersion } from './installed-module.ts';
import { startWasmThread } from './wasm-client.ts';
import { WebDevice } from './web-device.ts';

/** WebAssembly in a thread of Node's. @throws Error when onnxruntime-web is not there. @throws OrtError when it does not start. */
export async function openWebDevice(threads: number): Promise<WebDevice> {
  const version = wasmVersion();
  const count = `${threads} ${threads === 1 ? 'thread' : 'threads'}`;
  return new WebDevice(await startWasmThread(threads), `ONNX Runtime ${version} in WebAssembly, ${count}`);
}
