/** The adapter toolkit's public API. Pure: bytes in, bytes out; runs in Node, workerd and browsers. */
export { checkLineage, composeAdapter, type ComposedModule } from './compose-adapter.ts';
export { convertPeftAdapter, type ConvertedAdapter, type PeftFiles } from './convert-adapter.ts';
export { ADAPTER_ERROR_CODES, AdapterFormatError, printable, type AdapterErrorCode } from './errors.ts';
export {
  encodeCanonical,
  parseCanonical,
  type CanonicalAdapter,
  type CanonicalConfig,
} from './format/canonical.ts';
export { maxMagnitude, toFloat32, type Dtype, type Tensor } from './format/dtype.ts';
export { inFeatures, makeLoraModule, outFeatures, type LoraModule } from './format/lora-module.ts';
export {
  parseSafetensors,
  parseSafetensorsHeader,
  readHeaderLength,
  writeSafetensors,
  type SafetensorsFile,
  type SafetensorsHeader,
  type TensorEntry,
} from './format/safetensors.ts';
export { inspectAdapter, type AdapterSummary, type AdapterTarget } from './inspect-adapter.ts';
export { packAdapter, type PackedAdapter } from './pack-adapter.ts';
export { checkValues, validateAdapter } from './validate-adapter.ts';
