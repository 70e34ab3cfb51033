import type { BlobRecord } from '../protocol/adapter-manifest.ts';
import type { FileFacts } from '../protocol/admin-api/versions.ts';
import { sha256Hex, baseIdOf } from '../protocol/identity.ts';
import { AdapterFormatError, printable } from './errors.ts';
import { type CanonicalAdapter, encodeCanonical, parseCanonical } from './format/canonical.ts';
import { classesOf, widthOf } from './format/classifier.ts';
import { inFeatures, outFeatures } from './format/lora-module.ts';
import type { AttentionShape } from './format/gguf-adapter.ts';
import { type AdapterFiles, type AdapterFormat, CONFIG_PATH, readAdapter } from './read-adapter.ts';
import { checkValues } from './validate-adapter.ts';

export interface PackedAdapter extends CanonicalAdapter {
  /** The canonical file; `modules` are views into it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** sha256 of `bytes`, lower-case hex. */
  readonly digest: string;
  /** What it was made from. */
  readonly format: AdapterFormat;
  /** Largest rank of its modules. */
  readonly rank: number;
  /** Accepted, but possibly mistakes; each a sentence. */
  readonly warnings: readonly string[];
}

/** Where each format names its base, for errors. */
const BASE_FIELD: Readonly<Record<AdapterFormat, string>> = {
  canonical: 'base',
  peft: 'base_model_name_or_path',
  mlx: 'model',
  kohya: 'base',
  gguf: 'general.base_model',
};

/**
 * Makes the canonical file of an adapter of any format. The same adapter gives the same bytes; a canonical file that is
 * packed again for the same base, parent and type gives itself.
 * @param params.attention the base's heads, which a GGUF file of a Llama needs; null or absent = not known.
 * @param params.baseId id of the base model (`GET /base`), such as `smollm2-135m-instruct`.
 * @param params.parentChainId chain id of the adapters below this one; null when it was trained on the base itself.
 * @param params.dtype BF16 rounds every value to bfloat16, half the bytes of float32; the default keeps the types.
 * @throws AdapterFormatError the first problem.
 */
export async function packAdapter(params: {
  files: AdapterFiles;
  attention?: AttentionShape | null;
  baseId: string;
  parentChainId: string | null;
  dtype?: 'keep' | 'BF16';
}): Promise<PackedAdapter> {
  const { files, baseId, parentChainId } = params;
  const read = readAdapter(files, { attention: params.attention ?? null });
  const ownConfig = read.format === 'peft' || read.format === 'mlx';
  const baseWarning = checkBaseName({
    baseModel: read.baseModel,
    baseId,
    path: ownConfig ? (files.configPath ?? CONFIG_PATH) : files.weightsPath,
    subject: BASE_FIELD[read.format],
  });
  if (read.format === 'canonical' && read.parent !== parentChainId)
    throw new AdapterFormatError({
      code: 'parent_mismatch',
      message:
        `The adapter was packed for the parent chain ${read.parent ?? '(none)'}, not for ` +
        `${parentChainId ?? '(none)'}. A delta is only valid on what it was trained on. Give that ` +
        'parent, or pack the original files.',
      path: files.weightsPath,
      subject: 'parent',
    });
  const [problem] = checkValues(read);
  if (problem) throw problem;
  const dtype = params.dtype ?? 'keep';
  const { modules, invocation, classifier } = read;
  const content = { modules, invocation, classifier };
  const bytes = encodeCanonical({ base: baseId, parent: parentChainId, ...content, dtype });
  // Read back: what this function returns is what every later reader accepts.
  const canonical = parseCanonical(bytes);
  const [rounded] = dtype === 'keep' ? [] : checkValues(canonical);
  if (rounded) throw rounded;
  return {
    ...canonical,
    format: read.format,
    bytes,
    digest: await digestOf(bytes),
    rank: canonical.modules.reduce((rank, module) => Math.max(rank, module.rank), 0),
    warnings: [...read.warnings, ...(baseWarning === null ? [] : [baseWarning])],
  };
}

/** `name` or `owner/name`, as the hub writes ids; anything else in the field is somebody's local path. */
const HUB_ID = /^[A-Za-z0-9][\w.-]*(?:\/[\w.-]+)?$/;
const MAX_HUB_ID = 256;
/** Suffixes of converted or quantised copies of a model, as communities publish them. */
const COPY_PARTS: ReadonlySet<string> = new Set([
  ...['2bit', '3bit', '4bit', '5bit', '6bit', '8bit', 'int4', 'int8', 'fp8', 'mxfp4', 'nf4'],
  ...['q2', 'q3', 'q4', 'q5', 'q6', 'q8', 'bf16', 'fp16', 'f16', 'fp32', 'f32'],
  ...['mlx', 'dwq', 'bnb', 'unsloth', 'gptq', 'awq', 'gguf', 'quantized'],
]);

/** @returns the id of the model that `id` is a copy of, by its name; `id` itself otherwise. */
function originalOf(id: string): string {
  const parts = id.split('-');
  while (parts.length > 1 && COPY_PARTS.has(parts.at(-1) as string)) parts.pop();
  return parts.join('-');
}

/**
 * Checks the adapter's base against the one it is packed for.
 * @param params.baseModel named in the adapter's files.
 * @param params.path file that names it, for the error.
 * @returns a warning, or null.
 * @throws AdapterFormatError `base_mismatch`
 */
export function checkBaseName(params: {
  baseModel: string | null;
  baseId: string;
  path?: string | undefined;
  subject: string;
}): string | null {
  const { baseModel, baseId } = params;
  if (baseModel === null || baseModel === '')
    return `The adapter does not record its base; assuming ${baseId}.`;
  const id = baseIdOf(baseModel);
  if (id === baseId) return null;
  const shown = printable(baseModel);
  if (baseModel.length > MAX_HUB_ID || !HUB_ID.test(baseModel))
    return `The adapter was trained on the local path "${shown}"; assuming ${baseId}.`;
  if (originalOf(id) === originalOf(baseId))
    return (
      `The adapter was trained on ${shown}, by its name a converted or quantised copy of ${baseId}; ` +
      `assuming ${baseId}. The adapter also adds whatever corrections it learned for the copy's ` +
      'rounding.'
    );
  throw new AdapterFormatError({
    code: 'base_mismatch',
    message:
      `The adapter is for ${shown}, but this base is ${baseId}. If they are the same model, set ` +
      `${params.subject} to its name.`,
    path: params.path,
    subject: params.subject,
  });
}

/** The used part of Node's crypto; this code also runs where there is none. */
interface NodeCrypto {
  createHash(name: 'sha256'): { update(bytes: Uint8Array): { digest(encoding: 'hex'): string } };
}
export interface Runtime {
  process?: { getBuiltinModule?: (name: 'node:crypto') => NodeCrypto | undefined };
}

/**
 * Web Crypto copies what it hashes, and an adapter may fill much of the memory. Node, Deno and Bun need no
 * copy, and are detected at run time: nothing is imported, so browsers and bundlers need not know.
 * @returns sha256 as 64 lower-case hex digits.
 */
export async function digestOf(
  bytes: Uint8Array<ArrayBuffer>,
  runtime: Runtime = globalThis as Runtime,
): Promise<string> {
  const crypto = runtime.process?.getBuiltinModule?.('node:crypto');
  return crypto ? crypto.createHash('sha256').update(bytes).digest('hex') : sha256Hex(bytes);
}

/** The length field of a canonical file: u64, little-endian; 0 if it is too short. */
export const headerBytes = ({ buffer, byteOffset, length }: Uint8Array<ArrayBuffer>): number =>
  length < 8 ? 0 : Number(new DataView(buffer, byteOffset).getBigUint64(0, true));

/** What the server would read from the file's header. */
export const fileFacts = (
  { config, modules, classifier, bytes }: PackedAdapter,
  record: BlobRecord,
): FileFacts => ({
  record,
  header_bytes: headerBytes(bytes),
  base: config.base,
  parent: config.parent,
  ...(config.invocation === undefined ? {} : { invocation: [...config.invocation] }),
  ...(classifier === undefined
    ? {}
    : { classifier: { classes: classesOf(classifier), in: widthOf(classifier) } }),
  modules: modules.map((module) => ({
    name: module.name,
    rank: module.rank,
    in: inFeatures(module),
    out: outFeatures(module),
  })),
});
