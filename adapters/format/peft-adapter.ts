import { type AdapterErrorCode, AdapterFormatError, printable } from '../errors.ts';
import {
  convertTensor,
  EMBEDDING_MODULE,
  foldIntoB,
  HEAD_MODULE,
  inFeatures,
  isEmbedding,
  isVision,
  type LoraModule,
  makeLoraModule,
  outFeatures,
  textModule,
} from './lora-module.ts';
import { type Classifier, makeClassifier, readModelConfig } from './classifier.ts';
import { maxMagnitude, type Tensor, toFloat32 } from './dtype.ts';
import type { AdapterContent, Invocation } from './invocation.ts';
import { parsePeftConfig } from './peft-config.ts';
import { type SafetensorsFile, writeSafetensors } from './safetensors.ts';
import type { JsonObject } from './strict-json.ts';

/**
 * Reads a PEFT LoRA. Its scale is alpha / r, or alpha / sqrt(r) under rsLoRA (peft `tuners/lora/layer.py`),
 * with r and alpha from the first pattern that matches the module; the tensors' own rank must agree. float64
 * becomes float32.
 * @param params.config null when there is none, which is refused only after errors in the tensors.
 * @throws AdapterFormatError for everything that is not a plain delta of linear layers.
 */
export function readPeftAdapter(params: {
  file: SafetensorsFile;
  config: JsonObject | null;
  /** transformers' `config.json`, for the labels of a classification head; null = there is none. */
  modelConfig: JsonObject | null;
  weightsPath: string;
  configPath: string;
}): {
  baseModel: string | null;
  modules: LoraModule[];
  invocation: Invocation;
  classifier?: Classifier;
  warnings: string[];
} {
  const config = params.config && parsePeftConfig(params.config, { path: params.configPath });
  const path = params.weightsPath;
  const { pairs, head, own } = readPeftTensors(params.file, { path, classifiers: config?.classifiers ?? [] });
  if (config === null)
    throw new AdapterFormatError({
      code: 'config_missing',
      message:
        "The tensors are PEFT's, whose scale is in adapter_config.json, but there is none. Give the " +
        'folder that save_pretrained wrote.',
      path: params.configPath,
    });
  const trained = pairs.filter((pair) => !isUntrainedVision(pair));
  const narrowed = (tensor: Tensor, name: string): Tensor =>
    tensor.dtype === 'F64' ? convertTensor(tensor, 'F32', { name, path }) : tensor;
  const modules = trained.map(({ name, trainedAs, a, b }) => {
    const rank = config.rankOf(trainedAs);
    const alpha = config.alphaOf(trainedAs) * (config.useRslora ? Math.sqrt(rank) : 1);
    return makeLoraModule({ name, rank, alpha, a: narrowed(a, name), b: narrowed(b, name), path });
  });
  const untrained = pairs.length - trained.length;
  const warnings: string[] =
    untrained === 0
      ? []
      : [`The vision tower is left out (modules: ${untrained}): its B is zero, so it adds nothing.`];
  if (own.length > 0)
    warnings.push(
      `The base's own weights of ${own.map(printable).join(' and ')} are left out. PEFT saves them along with such ` +
        'an adapter; to keep them out of the file, save with save_embedding_layers=False.',
    );
  const embedding = modules.find(({ name }) => isEmbedding(name));
  if (config.invocation !== undefined && embedding !== undefined)
    throw new AdapterFormatError({
      code: 'alora',
      message:
        `alora_invocation_tokens is set, but ${printable(embedding.name)} is adapted, too: PEFT has no activated ` +
        'adapters of embeddings. Train without it in target_modules.',
      path: params.configPath,
      subject: embedding.name,
    });
  const read = { baseModel: config.baseModel, modules, invocation: config.invocation, warnings };
  if (head === null) return read;
  const refuse = (code: AdapterErrorCode, message: string, subject?: string): never => {
    throw new AdapterFormatError({ code, message, path, subject });
  };
  const weight = narrowed(head.tensor, head.name);
  const described = readModelConfig(params.modelConfig, refuse);
  return { ...read, classifier: makeClassifier({ ...described, weight, name: head.name, refuse }) };
}

const PREFIX = 'base_model.model.';
/** `torch.compile`'s wrapper (torch `_dynamo/eval_frame.py`, `OptimizedModule`), anywhere in a path. */
const COMPILED = /(^|\.)_orig_mod\./g;
/** Layers and embedding of a model without a head. */
const HEADLESS = /^(?:layers\.\d|embed_tokens$)/;
/** VeLoRA's projections (peft `tuners/lora/variants.py`): only the backward pass reads them. */
const TRAINING_ONLY = /\.lora_velora_embed(?:\.[A-Za-z0-9_-]+)?$/;
/** `<module>.lora_A.weight`, or with the adapter's name between, as older versions wrote it. */
const PAIR = /^(.*)\.lora_(A|B)(\.[A-Za-z0-9_-]+)?\.weight$/;
/** `<embedding>.lora_embedding_A` `[rank, tokens]` and `_B` `[width, rank]` (peft `tuners/lora/layer.py`, `Embedding`). */
const EMBEDDING_PAIR = /^(.*)\.lora_embedding_(A|B)(\.[A-Za-z0-9_-]+)?$/;
/** The base's own weight of a module with a pair: PEFT saves it where `target_modules` has an embedding or a head. */
const OWN_WEIGHT = /^(.*)\.base_layer\.weight$/;

const WHOLE_WEIGHT =
  'is a whole weight, not a delta. Save without embeddings and heads: save_embedding_layers=False.';

/** First match decides. */
const REFUSED: readonly (readonly [pattern: RegExp, code: AdapterErrorCode, why: string])[] = [
  [
    /\.(?:lora_magnitude_vector|dora_scale$)/,
    'dora',
    'belongs to DoRA, which is not a plain delta. Train without use_dora.',
  ],
  [
    /\.lora_embedding_[AB]/,
    'embedding_lora',
    'adapts an embedding that is not embed_tokens, the only one that is served. Train without it in target_modules.',
  ],
  [/\.lora_diag/, 'kasa', 'belongs to KaSA, which is not a plain delta. Train without kasa_config.'],
  [/\.lora_[AB](\.[^.]+)?\.bias$/, 'lora_bias', 'is a bias of B. Train with lora_bias false.'],
  [
    /trainable_tokens/,
    'trainable_tokens',
    'contains trained token embeddings. Train without trainable_token_indices.',
  ],
  [
    /(?:^|\.)(?:score|classifier)(?:\.modules_to_save(?:\.[^.]+)?)?\.bias$/,
    'classifier_unsupported',
    "is a bias of a head. transformers' sequence classifiers of such models have none, only heads that classify every token, which are not served.",
  ],
  [
    /(?:^|\.)classifier\.(?:modules_to_save\.[^.]+\.)?(?:dense|out_proj|\d+)\./,
    'classifier_unsupported',
    "belongs to a head of several layers, as encoders have it; it does not read a row's last token. Train a decoder with a linear head.",
  ],
  [
    /(?:^|\.)qa_outputs\./,
    'classifier_unsupported',
    'belongs to a head that marks where an answer begins and ends, which is not served.',
  ],
  [/\.modules_to_save\./, 'modules_to_save', 'is a whole trained module. Train without modules_to_save.'],
  [/\.bias$/, 'bias', 'is a trained bias. Train with bias "none".'],
  [/^(?!.*lora_).*\.weight$/, 'full_weight', WHOLE_WEIGHT],
];

const WHOLE_MODEL =
  'The file contains whole weights and no LoRA tensors: it is a model, not an adapter. Save the ' +
  'adapter before merge_and_unload(), or serve the model itself as a base with --base.';

interface PeftPair {
  /** Module path in Hugging Face's naming, as the base has it. */
  readonly name: string;
  /** The file's own path, without `base_model.model.`: what the configuration's patterns match. */
  readonly trainedAs: string;
  readonly a: Tensor;
  readonly b: Tensor;
}

/** A module's path in a model with a head. */
const withHead = (path: string): string => (HEADLESS.test(path) ? `model.${path}` : path);

/** One side of a pair, of a linear or of the table of tokens. @returns null for any other tensor. */
function sideOf(path: string): { trainedAs: string; side: 'A' | 'B'; infix: string } | null {
  const linear = PAIR.exec(path);
  const [, trainedAs, side, infix = ''] = linear ?? EMBEDDING_PAIR.exec(path) ?? [];
  if (trainedAs === undefined || isEmbedding(withHead(trainedAs)) !== (linear === null)) return null;
  return { trainedAs, side: side as 'A' | 'B', infix };
}

/** After training on text alone, B is still zero, as PEFT starts it: the module adds nothing. */
const isUntrainedVision = ({ name, b }: PeftPair): boolean => isVision(name) && maxMagnitude(b) === 0;

/** A head's one tensor: PEFT's own name, and the one of a state that was saved by other means. */
const CLASSIFIER = /^([a-z]+)(?:\.modules_to_save(?:\.[A-Za-z0-9_-]+)?)?\.weight$/;

interface PeftTensors {
  /** Sorted by module. */
  readonly pairs: PeftPair[];
  /** Modules of which the file has the base's own weight, too. */
  readonly own: readonly string[];
  /** Of a sequence classifier; null = it has none. */
  readonly head: { readonly name: string; readonly tensor: Tensor } | null;
}

/**
 * Names in PEFT's `adapter_model.safetensors` (peft `utils/save_and_load.py`): which are LoRA pairs, which are refused.
 * transformers' own `save_pretrained(…, save_peft_format=False)` leaves `base_model.model.` out, a model that went
 * through `torch.compile` has `_orig_mod.` in its paths, and one loaded by `AutoModel` (without a head) has its layers
 * at the top, where the same layers with a head lie below `model.`.
 * @param options.classifiers names under which a head may be saved, in which case there must be one; default: none.
 * @throws AdapterFormatError
 */
export function readPeftTensors(
  file: SafetensorsFile,
  options: { path?: string; classifiers?: readonly string[] } = {},
): PeftTensors {
  const { classifiers = [] } = options;
  const refuse = (code: AdapterErrorCode, message: string, subject?: string): never => {
    throw new AdapterFormatError({ code, message, path: options.path, subject });
  };
  const found = new Map<string, { A?: Tensor; B?: Tensor; infix: string; trainedAs: string }>();
  const names = [...file.tensors.keys()];
  if (names.some((name) => name.endsWith('.weight')) && !names.some((name) => name.includes('lora_')))
    return refuse('full_weight', WHOLE_MODEL, names[0]);
  let prefix: string | undefined;
  let head: PeftTensors['head'] = null;
  const weights = new Map<string, { key: string; shape: readonly number[] }>();
  for (const [key, tensor] of file.tensors) {
    if (TRAINING_ONLY.test(key)) continue;
    const plain = key.replace(COMPILED, '$1');
    const shown = printable(key);
    const own = plain.startsWith(PREFIX) ? PREFIX : '';
    const match = sideOf(plain.slice(own.length));
    const [, weightOf] = OWN_WEIGHT.exec(plain.slice(own.length)) ?? [];
    if (weightOf !== undefined) {
      weights.set(withHead(weightOf), { key, shape: tensor.shape });
      continue;
    }
    if (classifiers.includes(CLASSIFIER.exec(plain.slice(own.length))?.[1] ?? '')) {
      if (head !== null)
        refuse('classifier_unsupported', `Tensor "${shown}" is a second head beside "${head.name}".`, key);
      head = { name: key, tensor };
      continue;
    }
    if (match) prefix ??= own;
    if (!match || own !== prefix) {
      const known = REFUSED.find(([pattern]) => pattern.test(key));
      if (known) refuse(known[1], `Tensor "${shown}" ${known[2]}`, key);
      return refuse(
        'unknown_tensor',
        `Tensor "${shown}" is not named like PEFT's (${PREFIX}<module>.lora_A.weight, or all without ` +
          'the prefix). Save the adapter with PEFT.',
        key,
      );
    }
    const { trainedAs, side, infix } = match;
    const module = withHead(trainedAs);
    const pair = found.get(module) ?? { infix, trainedAs };
    if (pair[side] || pair.infix !== infix || pair.trainedAs !== trainedAs)
      refuse(
        'duplicate_module',
        `${printable(module)} has more than one pair. Save one adapter per file.`,
        key,
      );
    pair[side] = tensor;
    found.set(module, pair);
  }
  if (found.size === 0)
    refuse('empty_adapter', 'The file has no LoRA tensors. Check that the adapter was saved, not the base.');
  const pairs: PeftPair[] = [];
  for (const [name, { A: a, B: b, trainedAs }] of found) {
    if (!a || !b)
      return refuse(
        'missing_pair',
        `${printable(name)}: lora_${a ? 'B' : 'A'} is missing from the file. Save the adapter again.`,
        name,
      );
    pairs.push({ name, trainedAs, a, b });
  }
  for (const [name, { key, shape }] of weights) {
    const pair = pairs.find((each) => each.name === name);
    if (pair === undefined || !isOuter(name))
      return refuse('full_weight', `Tensor "${printable(key)}" ${WHOLE_WEIGHT}`, key);
    const { a, b } = pair;
    const [inputs, outputs] = [a.shape[1], b.shape[0]];
    const expected = isEmbedding(name) ? [inputs, outputs] : [outputs, inputs];
    if (shape.join() !== expected.join())
      return refuse(
        'shape_invalid',
        `Tensor "${printable(key)}" has the shape [${shape.join(', ')}], but the pair of ${printable(name)} is for ` +
          `[${expected.join(', ')}]. Save the adapter again.`,
        key,
      );
  }
  if (head === null && classifiers.length > 0)
    refuse(
      'classifier_invalid',
      `modules_to_save has a head, but the file has no tensor ${classifiers.map((name) => `"${PREFIX}${name}.weight"`).join(' or ')}. Save the adapter again.`,
      'modules_to_save',
    );
  return { pairs: pairs.sort((x, y) => (x.name < y.name ? -1 : 1)), head, own: [...weights.keys()].sort() };
}

/** `<stem>.<layer>.<rest>`; the first number is the layer's. */
const IN_LAYER = /^(.*?)\.(0|[1-9]\d*)\.(.+)$/;

const compare = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

const lastSegment = (path: string): string => path.slice(path.lastIndexOf('.') + 1);

/** The head or the table of tokens, of which a model has one each. */
const isOuter = (name: string): boolean => [HEAD_MODULE, EMBEDDING_MODULE].includes(textModule(name));

/**
 * Last segments of the modules' paths when layers 0 … n-1 all have the same modules, else the whole paths: PEFT would
 * put an empty pair where a last segment matches and the file has none, and other readers drop such a module everywhere.
 */
function targetModules(names: readonly string[]): string[] {
  const layers = new Map<string, Set<string>>();
  const [outer, inner] = [names.filter(isOuter), names.filter((name) => !isOuter(name))];
  if (outer.length > 0) return [...targetModules(inner), ...outer.map(lastSegment)].sort(compare);
  for (const name of names) {
    const match = IN_LAYER.exec(name);
    if (match === null) return [...names].sort(compare);
    const [, stem, layer, rest] = match as unknown as [string, string, string, string];
    const key = `${stem}.${layer}`;
    layers.set(key, (layers.get(key) ?? new Set()).add(rest));
  }
  const kinds = new Set([...layers.values()].flatMap((rests) => [...rests]));
  const stems = new Set([...layers.keys()].map((key) => key.slice(0, key.lastIndexOf('.'))));
  const uniform =
    stems.size === 1 &&
    [...stems].every((stem) => layers.has(`${stem}.0`) && layers.has(`${stem}.${layers.size - 1}`)) &&
    [...layers.values()].every((rests) => rests.size === kinds.size);
  if (!uniform) return [...names].sort(compare);
  return [...new Set([...kinds].map(lastSegment))].sort(compare);
}

/** `[rows, columns]` in the upper left corner of zeros `[toRows, toColumns]`. */
function padded(
  values: Float32Array<ArrayBuffer>,
  columns: number,
  [toRows, toColumns]: readonly [number, number],
): Tensor {
  const out = new Float32Array(toRows * toColumns);
  for (let row = 0; row * columns < values.length; row++)
    out.set(values.subarray(row * columns, (row + 1) * columns), row * toColumns);
  return { dtype: 'F32', shape: [toRows, toColumns], data: new Uint8Array(out.buffer) };
}

/**
 * One rank R for all modules, scale 1 (r = lora_alpha = R), no patterns, no rsLoRA: PEFT, vLLM, LoRAX and llama.cpp's
 * converter, of which some ignore patterns or rsLoRA, then read the same delta. Smaller ranks are padded with zeros,
 * which adds nothing. The scale goes into B, in float32: each entry of scale * B is rounded once, off by at most 2^-24
 * (6e-8) of itself, exact for powers of two; A is exact. Deterministic.
 * @param params.baseModel as PEFT writes it: a hub id or a path; null = unknown.
 * @param params.invocation of an activated adapter; absent = it acts on every token.
 * @param params.classifier its classification head, which keeps its type; absent = it has none.
 * @returns the contents of `adapter_config.json` and `adapter_model.safetensors`, and of `config.json`, which has a
 * head's labels; null = it needs none.
 * @throws AdapterFormatError `empty_adapter`, or `non_finite` when scale * B leaves float32.
 */
export function writePeftAdapter(params: AdapterContent & { baseModel: string | null }): {
  configJson: string;
  safetensors: Uint8Array<ArrayBuffer>;
  modelConfigJson: string | null;
} {
  const { modules, baseModel, invocation, classifier } = params;
  if (modules.length === 0)
    throw new AdapterFormatError({ code: 'empty_adapter', message: 'The adapter has no modules.' });
  const rank = Math.max(...modules.map((module) => module.rank));
  const tensors = new Map<string, Tensor>();
  for (const module of modules) {
    const [inputs, outputs] = [inFeatures(module), outFeatures(module)];
    const a = padded(toFloat32(module.a), inputs, [rank, inputs]);
    const b = padded(foldIntoB(module, module.scale), module.rank, [outputs, rank]);
    const path = `${PREFIX}${module.name}`;
    if (isEmbedding(module.name))
      tensors.set(`${path}.lora_embedding_A`, a).set(`${path}.lora_embedding_B`, b);
    else tensors.set(`${path}.lora_A.weight`, a).set(`${path}.lora_B.weight`, b);
  }
  if (classifier !== undefined) tensors.set(`${PREFIX}score.weight`, classifier.weight);
  const config = {
    ...(invocation === undefined ? {} : { alora_invocation_tokens: invocation }),
    alpha_pattern: {},
    base_model_name_or_path: baseModel,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    layers_pattern: null,
    layers_to_transform: null,
    lora_alpha: rank,
    lora_dropout: 0,
    modules_to_save: classifier === undefined ? null : ['score'],
    peft_type: 'LORA',
    r: rank,
    rank_pattern: {},
    target_modules: targetModules(modules.map(({ name }) => name)),
    task_type: classifier === undefined ? 'CAUSAL_LM' : 'SEQ_CLS',
    use_dora: false,
    use_rslora: false,
  };
  return {
    configJson: `${JSON.stringify(config, null, 2)}\n`,
    safetensors: writeSafetensors({ metadata: new Map([['format', 'pt']]), tensors }),
    modelConfigJson: classifier === undefined ? null : modelConfigOf(classifier),
  };
}

/** What transformers' `config.json` says of a head; null = nothing but its defaults. */
function modelConfigOf({ labels, problemType }: Classifier): string | null {
  if (labels === null && problemType === null) return null;
  const id2label = labels === null ? undefined : Object.fromEntries(labels.entries());
  return `${JSON.stringify({ id2label, problem_type: problemType ?? undefined }, null, 2)}\n`;
}
