/**
 * The canonical adapter file: one safetensors file with `<module>.lora_A` [rank, in] and `<module>.lora_B`
 * [out, rank], and the metadata entry `graft.config`. The same adapter always gives the same bytes, and its
 * sha256 is its identity. Its beginning contains everything but the tensors' values, and can be read alone.
 */
import { z } from 'zod';
import { InvocationTokens } from '../../protocol/adapter-manifest.ts';
import { Digest, baseIdOf } from '../../protocol/identity.ts';
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import type { Tensor } from './dtype.ts';
import { type Classifier, ClassifierConfig, encodeClassifierConfig, makeClassifier } from './classifier.ts';
import type { AdapterContent, Invocation } from './invocation.ts';
import { makeLoraModule, type LoraModule, bytesAs, convertInto, type LoraDtype } from './lora-module.ts';
import {
  MAX_ADAPTER_TENSORS,
  parseSafetensorsHeader,
  encodeSafetensorsPrefix,
  parseSafetensors,
  writeSafetensors,
  type TensorToMake,
} from './safetensors.ts';
import { parseStrictJson, StrictJsonError, type JsonValue } from './strict-json.ts';

export const CONFIG_KEY = 'graft.config';
const FORMAT = 1;
const AGAIN = 'Pack the adapter again.';
/** Three a module: itself, its rank, its alpha; the rest holds the labels of classes. */
const MAX_CONFIG_VALUES = 2 * MAX_ADAPTER_TENSORS;
const SUFFIX_A = '.lora_A';
const SUFFIX_B = '.lora_B';
const CLASSIFIER_TENSOR = 'classifier.weight';

export interface CanonicalConfig {
  /** The base model's id, as `baseIdOf` (protocol/identity.ts) makes it. */
  readonly base: string;
  /** Chain id of the adapters that this one was trained on top of; null = trained on the base itself. */
  readonly parent: string | null;
  /** By module path, sorted. */
  readonly modules: ReadonlyMap<string, { readonly rank: number; readonly alpha: number }>;
  /** Tokens from whose last occurrence in a prompt on it acts; absent = on every token. */
  readonly invocation?: Invocation;
}

const ConfigSchema = z.strictObject({
  format: z.number(),
  base: z
    .string()
    .min(1)
    .max(256)
    .refine((id) => baseIdOf(id) === id, 'must be a base id: a-z, 0-9, ".", "_", "-"'),
  modules: z.map(z.string(), z.instanceof(Map)),
  parent: Digest.nullable(),
  invocation: InvocationTokens.optional(),
  classifier: z.instanceof(Map).optional(),
});
const ModuleSchema = z.strictObject({ rank: z.int().positive(), alpha: z.number() });

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/** Deterministic: fixed key order, modules sorted, numbers as JavaScript prints them, no spaces. */
function encodeConfig(
  base: string,
  parent: string | null,
  modules: readonly Pick<LoraModule, 'name' | 'rank' | 'alpha'>[],
  { invocation, classifier }: Pick<AdapterContent, 'invocation' | 'classifier'>,
): string {
  const entries = modules.map(
    ({ name, rank, alpha }) => `${JSON.stringify(name)}:{"rank":${rank},"alpha":${JSON.stringify(alpha)}}`,
  );
  const own = `"modules":{${entries.join(',')}},"parent":${JSON.stringify(parent)}`;
  // Most adapters have neither, and keep the digest that they have without the fields.
  const acting = invocation === undefined ? own : `${own},"invocation":${JSON.stringify(invocation)}`;
  const tail =
    classifier === undefined ? acting : `${acting},"classifier":${encodeClassifierConfig(classifier)}`;
  return `{"format":${FORMAT},"base":${JSON.stringify(base)},${tail}}`;
}

function parseConfig(text: string, refuse: (code: AdapterErrorCode, message: string) => never) {
  let json: JsonValue;
  try {
    json = parseStrictJson(text, { maxValues: MAX_CONFIG_VALUES });
  } catch (error) {
    if (!(error instanceof StrictJsonError)) throw error;
    return refuse('not_canonical', `${CONFIG_KEY}: ${error.message}. ${AGAIN}`);
  }
  if (!(json instanceof Map)) return refuse('not_canonical', `${CONFIG_KEY} is not an object. ${AGAIN}`);
  if (json.get('format') !== FORMAT)
    return refuse(
      'format_version',
      `The file's format is not ${FORMAT}, the only one that this version reads. ${AGAIN}`,
    );
  const parsed = ConfigSchema.safeParse(Object.fromEntries(json));
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const where = printable([CONFIG_KEY, ...(issue?.path ?? [])].map(String).join('.'));
    return refuse('not_canonical', `${where}: ${printable(issue?.message ?? 'invalid')}. ${AGAIN}`);
  }
  const modules = new Map<string, { rank: number; alpha: number }>();
  for (const [name, value] of parsed.data.modules) {
    const module = ModuleSchema.safeParse(Object.fromEntries(value));
    if (!module.success)
      return refuse(
        'not_canonical',
        `${CONFIG_KEY}: module "${printable(name)}" must have a rank and an alpha. ${AGAIN}`,
      );
    modules.set(name, module.data);
  }
  const { base, parent, invocation } = parsed.data;
  const config = { base, parent, modules, ...(invocation === undefined ? {} : { invocation }) };
  return { config, classifier: parseClassifier(parsed.data.classifier, refuse) };
}

/** @param value of the configuration; undefined = it has none. */
function parseClassifier(
  value: ReadonlyMap<unknown, unknown> | undefined,
  refuse: (code: AdapterErrorCode, message: string) => never,
) {
  if (value === undefined) return null;
  const parsed = ClassifierConfig.safeParse(Object.fromEntries(value));
  if (parsed.success) return { labels: parsed.data.labels, problemType: parsed.data.problem_type };
  const issue = parsed.error.issues[0];
  const where = printable([CONFIG_KEY, 'classifier', ...(issue?.path ?? [])].map(String).join('.'));
  return refuse('not_canonical', `${where}: ${printable(issue?.message ?? 'invalid')}. ${AGAIN}`);
}

interface NamedTensor {
  readonly dtype: Tensor['dtype'];
  readonly shape: readonly number[];
}

/** The modules of the header's config and tensors, sorted, and the classifier; each tensor belongs to one of them. */
function readContent<T extends NamedTensor, M extends { readonly name: string }>(
  header: { metadata: ReadonlyMap<string, string>; tensors: ReadonlyMap<string, T> },
  refuse: (code: AdapterErrorCode, message: string, subject?: string) => never,
  make: (module: { name: string; rank: number; alpha: number; a: T; b: T }) => M,
): {
  config: CanonicalConfig;
  modules: M[];
  classifier: (Pick<Classifier, 'labels' | 'problemType'> & { weight: T }) | null;
} {
  const { metadata, tensors } = header;
  const text = metadata.get(CONFIG_KEY);
  if (text === undefined)
    return refuse('not_canonical', `The file has no ${CONFIG_KEY} in its metadata. Pack the adapter first.`);
  const { config, classifier } = parseConfig(text, refuse);
  if (config.modules.size === 0) refuse('empty_adapter', `The adapter has no modules. ${AGAIN}`);

  const modules: M[] = [];
  for (const [name, { rank, alpha }] of config.modules) {
    const a = tensors.get(name + SUFFIX_A);
    const b = tensors.get(name + SUFFIX_B);
    if (!a || !b)
      return refuse(
        'missing_pair',
        `${printable(name)}: ${a ? 'lora_B' : 'lora_A'} is missing from the file. ${AGAIN}`,
        name,
      );
    modules.push(make({ name, rank, alpha, a, b }));
  }
  const weight = classifier === null ? undefined : tensors.get(CLASSIFIER_TENSOR);
  if (classifier !== null && weight === undefined)
    refuse(
      'classifier_invalid',
      `${CLASSIFIER_TENSOR} is missing from the file. ${AGAIN}`,
      CLASSIFIER_TENSOR,
    );
  for (const name of tensors.keys()) {
    if (name === CLASSIFIER_TENSOR && weight !== undefined) continue;
    const module =
      name.endsWith(SUFFIX_A) || name.endsWith(SUFFIX_B) ? name.slice(0, -SUFFIX_A.length) : undefined;
    if (module === undefined || !config.modules.has(module))
      refuse(
        'unknown_tensor',
        `Tensor "${printable(name)}" belongs to no module of ${CONFIG_KEY}. ${AGAIN}`,
        name,
      );
  }
  modules.sort((x, y) => compare(x.name, y.name));
  return {
    config,
    modules,
    classifier: classifier === null || weight === undefined ? null : { ...classifier, weight },
  };
}

const refuser =
  (path: string | undefined) =>
  (code: AdapterErrorCode, message: string, subject?: string): never => {
    throw new AdapterFormatError({ code, message, path, subject });
  };

/** @throws AdapterFormatError unless the file begins as {@link encodeCanonical} would write it. */
function checkPrefix(expected: Uint8Array, bytes: Uint8Array, refuse: ReturnType<typeof refuser>): void {
  if (!expected.every((byte, index) => byte === bytes[index]))
    refuse('not_canonical', 'The header is not in canonical form. Pack the adapter again.');
}

/** A canonical file's beginning: everything but the values of its tensors. */
export interface CanonicalHead {
  readonly config: CanonicalConfig;
  /** Sorted by name. The tensors' `data` is empty. */
  readonly modules: readonly LoraModule[];
  /** Its tensor's `data` is empty. */
  readonly classifier?: Classifier;
}

/**
 * Reads and checks a canonical file's first bytes, without the rest: anything that `encodeCanonical` would not
 * write is refused.
 * @param params.prefix the length field and the header, exactly. @param params.fileBytes of the whole file.
 * @throws AdapterFormatError
 */
export function parseCanonicalHead(params: { prefix: Uint8Array; fileBytes: number }): CanonicalHead {
  const { prefix, fileBytes } = params;
  const refuse = refuser(undefined);
  const header = parseSafetensorsHeader({
    header: prefix.subarray(8),
    dataBytes: fileBytes - prefix.byteLength,
    maxTensors: MAX_ADAPTER_TENSORS,
  });
  const empty = new Uint8Array(0);
  const withoutData = ({ dtype, shape }: NamedTensor): Tensor => ({ dtype, shape, data: empty });
  const {
    config,
    modules,
    classifier: found,
  } = readContent(header, refuse, ({ a, b, ...module }) =>
    makeLoraModule({ ...module, a: withoutData(a), b: withoutData(b) }),
  );
  const classifier =
    found === null ? undefined : checked({ ...found, weight: withoutData(found.weight) }, refuse);
  const tensors = new Map(
    [...header.tensors].map(([name, { dtype, shape, begin, end }]) => [
      name,
      { dtype, shape, byteLength: end - begin, make: () => undefined },
    ]),
  );
  const metadata = new Map([
    [CONFIG_KEY, encodeConfig(config.base, config.parent, modules, { ...config, classifier })],
  ]);
  checkPrefix(encodeSafetensorsPrefix({ metadata, tensors }), prefix, refuse);
  return { config, modules, ...(classifier === undefined ? {} : { classifier }) };
}

const checked = (classifier: Classifier, refuse: ReturnType<typeof refuser>): Classifier =>
  makeClassifier({ ...classifier, name: CLASSIFIER_TENSOR, refuse });

export interface CanonicalAdapter {
  readonly config: CanonicalConfig;
  /** Sorted by name. Tensors are views into the file. */
  readonly modules: readonly LoraModule[];
  /** Absent = it generates text. Its tensor is a view into the file, too. */
  readonly classifier?: Classifier;
}

function layout(params: EncodedParams) {
  const { base, parent, modules, classifier, dtype = 'keep' } = params;
  const tensors = new Map<string, Tensor | TensorToMake>();
  for (const module of modules)
    for (const [suffix, tensor] of [
      [SUFFIX_A, module.a],
      [SUFFIX_B, module.b],
    ] as const)
      tensors.set(
        module.name + suffix,
        dtype === 'keep' || dtype === tensor.dtype
          ? tensor
          : {
              dtype,
              shape: tensor.shape,
              byteLength: bytesAs(tensor, dtype),
              make: (target) => convertInto(tensor, dtype, target, module),
            },
      );
  if (classifier !== undefined) tensors.set(CLASSIFIER_TENSOR, classifier.weight);
  return { metadata: new Map([[CONFIG_KEY, encodeConfig(base, parent, modules, params)]]), tensors };
}

interface EncodedParams extends AdapterContent {
  base: string;
  parent: string | null;
  dtype?: LoraDtype | 'keep';
}

/**
 * @param params.base base id. @param params.parent chain id or null.
 * @param params.modules in any order, no name twice. @param params.invocation absent = it acts on every token.
 * @param params.dtype to round A and B to on their way into the file; the default keeps their types.
 * @throws AdapterFormatError `non_finite` when a value is NaN or infinite, or becomes so in that type.
 */
export function encodeCanonical(params: EncodedParams): Uint8Array<ArrayBuffer> {
  const modules = [...params.modules].sort((a, b) => compare(a.name, b.name));
  return writeSafetensors(layout({ ...params, modules }));
}

/**
 * Reads and checks a canonical file, byte for byte: anything that {@link encodeCanonical} would not write is
 * refused. `validateAdapter` checks the tensors' values and the base's shapes.
 * @throws AdapterFormatError
 */
export function parseCanonical(bytes: Uint8Array, options: { path?: string } = {}): CanonicalAdapter {
  const refuse = refuser(options.path);
  const file = parseSafetensors(bytes, { ...options, maxTensors: MAX_ADAPTER_TENSORS });
  const {
    config,
    modules,
    classifier: found,
  } = readContent(file, refuse, (module) => makeLoraModule({ ...module, path: options.path }));
  const classifier = found === null ? undefined : checked(found, refuse);
  checkPrefix(encodeSafetensorsPrefix(layout({ ...config, modules, classifier })), bytes, refuse);
  return { config, modules, ...(classifier === undefined ? {} : { classifier }) };
}
