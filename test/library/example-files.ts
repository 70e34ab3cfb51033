import { readFileSync } from 'node:fs';
import type { ExampleFiles } from './scenario.ts';

const read = (path: string): Buffer =>
  readFileSync(new URL(`../../examples/adapters/${path}`, import.meta.url));
const folder = (name: string) => ({
  weights: new Uint8Array(read(`${name}/adapter_model.safetensors`)),
  configJson: read(`${name}/adapter_config.json`).toString('utf8'),
});

export const EXAMPLE_FILES: ExampleFiles = { 'dr-lee': folder('dr-lee'), 'intent-v1': folder('intent-v1') };
