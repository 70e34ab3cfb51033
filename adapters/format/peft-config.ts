/**
 * PEFT's `adapter_config.json`: the settings of a plain LoRA, and a refusal with a remedy for everything else.
 */
import { z } from 'zod';
import { AdapterFormatError, printable, type AdapterErrorCode } from '../errors.ts';
import { CLASSIFIER_NAMES } from './classifier.ts';
import { type Invocation, readInvocation } from './invocation.ts';
import { compileModulePattern, MATCH_BUDGET, type ModuleMatcher } from './peft-pattern.ts';
import type { JsonObject, JsonValue } from './strict-json.ts';

export interface PeftConfig {
  /** As written: a hub id, a local path, or null. */
  readonly baseModel: string | null;
  readonly useRslora: boolean;
  /** Rank and alpha of a module by the path that it was trained under, below `base_model.model.`. */
  readonly rankOf: (module: string) => number;
  readonly alphaOf: (module: string) => number;
  readonly invocation: Invocation;
  /** Names under which the file may have a classification head; empty = it has none. */
  readonly classifiers: readonly string[];
}

const RETRAIN = 'Train the adapter without it.';
/** Settings that make an adapter more than a sum of scale * B A, by key. */
const NOT_PLAIN: readonly (readonly [key: string, code: AdapterErrorCode, why: string])[] = [
  ['use_dora', 'dora', `DoRA rescales the base's weights, which are shared. ${RETRAIN}`],
  ['use_qalora', 'qalora', `QALoRA pools the inputs of A by groups. ${RETRAIN}`],
  ['use_bdlora', 'bdlora', `BD-LoRA's matrices are block-diagonal. ${RETRAIN}`],
  ['kasa_config', 'kasa', `KaSA has a third factor and truncates the base. ${RETRAIN}`],
  [
    'arrow_config',
    'arrow',
    'Arrow routes each token to different adapters. Publish those adapters one by one.',
  ],
  ['monteclora_config', 'monteclora', `MonteCLoRA samples its weights. ${RETRAIN}`],
  [
    'megatron_config',
    'megatron',
    'Adapters of Megatron layers are sharded. Export the adapter from a plain model.',
  ],
  ['layer_replication', 'layer_replication', `Replicated layers are not layers of the base. ${RETRAIN}`],
  [
    'trainable_token_indices',
    'trainable_tokens',
    `Embeddings were trained along with the adapter. ${RETRAIN}`,
  ],
  [
    'target_parameters',
    'target_parameters',
    'Adapters of single parameters (experts) are not supported. Target linear modules.',
  ],
  ['lora_bias', 'lora_bias', `Biases of B are not supported. ${RETRAIN}`],
];
/** Settings that act in training only, or that matter only along with a refused one. */
const HARMLESS: ReadonlySet<string> = new Set([
  'auto_mapping',
  'corda_config',
  'ensure_weight_tying',
  'eva_config',
  'exclude_modules',
  // Describes how the base stores its weights: merging transposes B A for it, the forward pass is the same
  // either way (peft `tuners/lora/layer.py`, `get_delta_weight` and `forward`).
  'fan_in_fan_out',
  'inference_mode',
  'layers_pattern',
  'layers_to_transform',
  'loftq_config',
  'lora_dropout',
  'lora_ga_config',
  'megatron_core',
  'peft_version',
  'qalora_group_size',
  'revision',
  'runtime_config',
  // The tensors, not this list, say what was trained.
  'target_modules',
  'velora_config',
]);
/** Initialisations that do not change the base; all others subtract from it or replace it. */
const PLAIN_INITS: ReadonlySet<JsonValue> = new Set<JsonValue>([
  null,
  true,
  false,
  'gaussian',
  'orthogonal',
  'mica',
  'eva',
]);

/** Defaults are PEFT's own (peft `tuners/lora/config.py`). */
const Plain = z.object({
  r: z.int().positive().default(8),
  lora_alpha: z.number().default(8),
  use_rslora: z.boolean().nullish(),
  rank_pattern: z.map(z.string(), z.int().positive()).nullish(),
  alpha_pattern: z.map(z.string(), z.number()).nullish(),
  base_model_name_or_path: z.string().nullish(),
});
/** Activated LoRA (peft `tuners/lora/config.py`, `LoraConfig`). */
const INVOCATION = 'alora_invocation_tokens';
const READ: readonly string[] = [
  ...Object.keys(Plain.shape),
  ...['peft_type', 'bias', 'init_lora_weights', 'modules_to_save', 'task_type', INVOCATION],
];

/** null, false, "" and empty lists or objects: PEFT's ways to turn a feature off. */
function isOff(value: JsonValue | undefined): boolean {
  if (Array.isArray(value)) return value.length === 0;
  if (value instanceof Map) return value.size === 0;
  return value === undefined || value === null || value === false || value === '';
}

/** The first matching pattern in the file's order decides, as in PEFT. */
function lookup(
  patterns: ReadonlyMap<string, number> | null | undefined,
  spend: (steps: number) => void,
  path: string | undefined,
) {
  const compiled: [ModuleMatcher, number][] = [...(patterns ?? [])].map(([key, value]) => [
    compileModulePattern(key, path),
    value,
  ]);
  return (module: string, otherwise: number): number =>
    compiled.find(([matches]) => matches(module, spend))?.[1] ?? otherwise;
}

type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

/** Why heads of a task cannot be served: a row has one vector to classify, its last token's. */
const UNPOOLED: ReadonlyMap<JsonValue, string> = new Map([
  ['TOKEN_CLS', 'Its head classifies every token'],
  ['QUESTION_ANS', 'Its head marks where an answer begins and ends'],
]);

/**
 * PEFT saves the head of a sequence classifier as one of `modules_to_save`, and lists both names for every model
 * (peft `peft_model.py`, `PeftModelForSequenceClassification`). All other whole modules are refused.
 */
function classifiersIn(config: JsonObject, refuse: Refuse): readonly string[] {
  const task = config.get('task_type') ?? null;
  const saved = config.get('modules_to_save');
  if (isOff(saved)) return [];
  const unpooled = UNPOOLED.get(task);
  if (unpooled !== undefined)
    refuse(
      'classifier_unsupported',
      `task_type is ${printable(JSON.stringify(task))}. ${unpooled}, which is not served. Train with ` +
        'task_type "SEQ_CLS" or "CAUSAL_LM".',
      'task_type',
    );
  const names = Array.isArray(saved) ? saved : [saved];
  const other = names.find((name) => typeof name !== 'string' || !CLASSIFIER_NAMES.includes(name));
  if (other !== undefined)
    refuse(
      'modules_to_save',
      `modules_to_save has ${printable(JSON.stringify(other))}: only the head of a sequence classifier ` +
        `(${CLASSIFIER_NAMES.join(' or ')}) can be trained along with the adapter. ${RETRAIN}`,
      'modules_to_save',
    );
  // Reward models are often saved without a task; a head of tokens then shows by its bias.
  if (task !== 'SEQ_CLS' && (task !== null || !names.includes('score')))
    refuse(
      'classifier_unsupported',
      `modules_to_save has a head, but task_type is ${printable(JSON.stringify(task))}, so it is unknown which ` +
        'token it reads. If it reads the last one, set task_type to "SEQ_CLS".',
      'task_type',
    );
  return task === 'SEQ_CLS' ? CLASSIFIER_NAMES : ['score'];
}

/** @throws AdapterFormatError */
export function parsePeftConfig(config: JsonObject, options: { path?: string } = {}): PeftConfig {
  const refuse = (code: AdapterErrorCode, message: string, subject?: string): never => {
    throw new AdapterFormatError({ code, message, path: options.path, subject });
  };
  const type = config.get('peft_type');
  if (type !== 'LORA')
    refuse(
      'not_lora',
      `peft_type is ${printable(JSON.stringify(type ?? null))}; only "LORA" is supported. Train a plain LoRA.`,
      'peft_type',
    );
  for (const [key, code, why] of NOT_PLAIN)
    if (!isOff(config.get(key))) refuse(code, `${key} is set. ${why}`, key);
  const classifiers = classifiersIn(config, refuse);
  const bias = config.get('bias');
  if (!isOff(bias) && bias !== 'none')
    refuse(
      'bias',
      `bias is ${printable(JSON.stringify(bias))}; biases are not supported. Train with bias "none".`,
      'bias',
    );
  const init = config.get('init_lora_weights') ?? null;
  // PEFT's conversion subtracts what the initialisation took from the base; LoftQ's base was quantized on the way, so
  // that the difference is no longer of the adapter's rank (peft `utils/loftq_utils.py`).
  if (init === 'loftq')
    refuse(
      'init_mutates_base',
      'init_lora_weights "loftq" trains on a base quantized by LoftQ, and cannot be converted back to ' +
        'the plain base. Train on the plain base, with init_lora_weights true.',
      'init_lora_weights',
    );
  if (!PLAIN_INITS.has(init))
    refuse(
      'init_mutates_base',
      `init_lora_weights ${printable(JSON.stringify(init))} changes the base. Convert the adapter with PEFT's ` +
        `save_pretrained(…, path_initial_model_for_weight_conversion=…).`,
      'init_lora_weights',
    );
  for (const [key, value] of config)
    if (
      !READ.includes(key) &&
      !HARMLESS.has(key) &&
      !NOT_PLAIN.some(([known]) => known === key) &&
      !isOff(value)
    )
      refuse(
        'config_key_unknown',
        `"${printable(key)}" is not a known setting, so the delta may not be plain. Remove it if it ` +
          'acts in training only.',
        key,
      );
  const parsed = Plain.safeParse(
    Object.fromEntries(READ.filter((key) => config.has(key)).map((key) => [key, config.get(key)])),
  );
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const key = (issue?.path ?? []).map(String).join('.');
    return refuse(
      'config_invalid',
      `${printable(key)}: ${printable(issue?.message ?? 'invalid')}. Correct that setting.`,
      key,
    );
  }
  const invocation = config.get(INVOCATION);
  const { r, lora_alpha, use_rslora, rank_pattern, alpha_pattern, base_model_name_or_path } = parsed.data;

  let budget = MATCH_BUDGET;
  const spend = (steps: number): void => {
    budget -= steps;
    if (budget < 0)
      refuse(
        'pattern_unsupported',
        'rank_pattern and alpha_pattern take too long to match. List the modules by name.',
      );
  };
  const rank = lookup(rank_pattern, spend, options.path);
  const alpha = lookup(alpha_pattern, spend, options.path);
  return {
    baseModel: base_model_name_or_path ?? null,
    useRslora: use_rslora ?? false,
    rankOf: (module) => rank(module, r),
    alphaOf: (module) => alpha(module, lora_alpha),
    invocation: isOff(invocation) ? undefined : readInvocation(invocation, INVOCATION, refuse),
    classifiers,
  };
}
