/** The module as it lies in node_modules. */
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { WasmFactory } from './wasm-module.ts';

const resolve = createRequire(import.meta.url).resolve;
const MODULE = 'onnxruntime-web/ort-wasm-simd-threaded.mjs';

/** @throws Error when the package is not there. */
export async function installedModule(): Promise<WasmFactory> {
  const { default: factory } = (await import(pathToFileURL(resolve(MODULE)).href)) as {
    default: WasmFactory;
  };
  return factory;
}

const Package = z.object({ version: z.string() });

/** Of onnxruntime-web. @throws Error when the package is not there. */
export function wasmVersion(): string {
  // Its package.json is not among its exports.
  const path = new URL('../package.json', pathToFileURL(resolve(MODULE)));
  return Package.parse(JSON.parse(readFileSync(path, 'utf8'))).version;
}
