// Prints what is in an adapter: `node examples/inspect-adapter.mjs FOLDER`, after `npm run build`.
import { readFileSync } from 'node:fs';
import { describeAdapter, readAdapter } from 'graft-lora/adapters';

const folder = process.argv[2] ?? 'examples/adapters/medicine';
const weights = new Uint8Array(readFileSync(`${folder}/adapter_model.safetensors`));
const read = readAdapter({ weights, configJson: readFileSync(`${folder}/adapter_config.json`, 'utf8') });
const { format, base, parameters, targets } = describeAdapter({ read, bytes: weights.byteLength });
console.log(`${format} adapter for ${base}: ${parameters} parameters`);
for (const { target, modules, maxRank } of targets)
  console.log(`${target}: ${modules} layers, rank ${maxRank}`);
