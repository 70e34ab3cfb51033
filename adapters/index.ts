/** The adapter toolkit's public API. Pure: bytes in, bytes out; runs in Node, workerd and browsers. */
export { checkMembers, type CheckedMembers, type Member } from './compose-adapter.ts';
export { checkLineage, composeAdapter, type ComposedModule } from './compose-adapter.ts';
export { deltaNorm } from './linear-algebra.ts';
export { diffAdapters, type AdapterDiff, type ModuleDiff } from './diff-adapters.ts';
export { ADAPTER_ERROR_CODES, AdapterFormatError, printable, type AdapterErrorCode } from './errors.ts';
export { encodeCanonical, parseCanonical, type CanonicalAdapter } from './format/canonical.ts';
export type { CanonicalConfig } from './format/canonical.ts';
export {
  classesOf,
  type Classifier,
  commonClassifier,
  makeClassifier,
  type ShapedClassifier,
  widthOf,
} from './format/classifier.ts';
export {
  commonInvocation,
  sameInvocation,
  type AdapterContent,
  type Invocation,
} from './format/invocation.ts';
export { toDtype, toHalves } from './format/lora-module.ts';
export { elementsOf, maxMagnitude, readFloat32, toFloat32, type Dtype, type Tensor } from './format/dtype.ts';
export { readGgufAdapter } from './format/gguf-adapter.ts';
export { GGUF_BASE_LIMITS, readGgufAttention, type GgufBaseShape } from './format/gguf-adapter.ts';
export { parseGgufHeader, type GgufHeader, type GgufTensor, type GgufValue } from './format/gguf.ts';
export { GGML_TYPES, type GgmlType } from './format/gguf.ts';
export { ROWS_PERMUTED } from './format/gguf-adapter.ts';
export {
  EMBEDDING_MODULE,
  HEAD_MODULE,
  inFeatures,
  isEmbedding,
  makeLoraModule,
  movedTokens,
  outFeatures,
  isVision,
  textModule,
  type LoraModule,
} from './format/lora-module.ts';
export { permuteRows, unpermuteRows, type AttentionShape } from './format/gguf-adapter.ts';
export {
  parseSafetensors,
  parseSafetensorsHeader,
  readHeaderLength,
  type SafetensorsFile,
  type SafetensorsHeader,
  type TensorEntry,
} from './format/safetensors.ts';
export { writeSafetensors, type TensorToMake } from './format/safetensors.ts';
export { writeGgufAdapter } from './format/gguf-adapter.ts';
export { writePeftAdapter } from './format/peft-adapter.ts';
export {
  describeAdapter,
  inspectAdapter,
  type AdapterDescription,
  type AdapterSummary,
  type AdapterTarget,
  type ClassifierDescription,
  type ModuleDescription,
} from './inspect-adapter.ts';
export { fileFacts, headerBytes, packAdapter, type PackedAdapter } from './pack-adapter.ts';
export {
  partRefusal,
  readAdapter,
  type AdapterFiles,
  type AdapterFormat,
  type ReadAdapter,
} from './read-adapter.ts';
export { sumAdapters, type SumMember } from './sum-adapters.ts';
export { truncateAdapter, type TruncatedAdapter, type TruncatedModule } from './sum-adapters.ts';
export { checkValues, validateAdapter } from './validate-adapter.ts';
