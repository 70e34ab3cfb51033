/** The module from beside the compiled, packaged origin, or from node_modules. */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { z } from 'zod';
import type { WasmFactory } from './wasm-module.ts';

const FILE = 'ort-wasm-simd-threaded.mjs';

/** @throws Error if the package is missing. */
function moduleUrl(): URL {
  const packed = new URL(`./onnxruntime-web/dist/${FILE}`, import.meta.url);
  if (existsSync(packed)) return packed;
  return pathToFileURL(createRequire(import.meta.url).resolve(`onnxruntime-web/${FILE}`));
}

/** @throws Error if the package is missing. */
export async function installedModule(): Promise<WasmFactory> {
  const { default: factory } = (await import(moduleUrl().href)) as {
    default: WasmFactory;
  };
  return factory;
}

const Package = z.object({ version: z.string() });

/**
 * Version of onnxruntime-web.
 * @throws Error if the package is missing.
 */
export function wasmVersion(): string {
  // The package does not export its package.json.
  const path = new URL('../package.json', moduleUrl());
  return Package.parse(JSON.parse(readFileSync(path, 'utf8'))).version;
}
