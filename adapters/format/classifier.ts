/**
 * Classification heads: one linear layer without bias over the hidden state of a row's last token, as transformers'
 * `…ForSequenceClassification` of decoders has it (`modeling_layers.py`, `GenericForSequenceClassification`).
 */
import { z } from 'zod';
import { ClassLabels, PROBLEM_TYPES, type ProblemType } from '../../protocol/classes.ts';
import { MAX_CLASSES } from '../../protocol/limits.ts';
import { AdapterFormatError, type AdapterErrorCode, printable } from '../errors.ts';
import type { Dtype, Tensor } from './dtype.ts';
import type { JsonObject, JsonValue } from './strict-json.ts';

export interface Classifier {
  /** `[classes, hidden]`, float32, float16 or bfloat16. */
  readonly weight: Tensor;
  /** By class; null = `LABEL_0`, `LABEL_1` and so on, as in transformers. */
  readonly labels: readonly string[] | null;
  /** As transformers names it; null = one class of several, or a score. */
  readonly problemType: ProblemType | null;
}

/** A classifier without its values. */
export interface ShapedClassifier {
  readonly weight: { readonly shape: readonly number[] };
}

export const classesOf = ({ weight }: ShapedClassifier): number => weight.shape[0] as number;
export const widthOf = ({ weight }: ShapedClassifier): number => weight.shape[1] as number;

/** Names that transformers and PEFT use for it (peft `peft_model.py`, `PeftModelForSequenceClassification`). */
export const CLASSIFIER_NAMES: readonly string[] = ['score', 'classifier'];

type Refuse = (code: AdapterErrorCode, message: string, subject?: string) => never;

const DTYPES: ReadonlySet<Dtype> = new Set<Dtype>(['F32', 'F16', 'BF16']);

/** @param name of the tensor, for the error. @throws what `refuse` throws. */
export function makeClassifier(params: Classifier & { name: string; refuse: Refuse }): Classifier {
  const { weight, labels, problemType, name, refuse } = params;
  const { dtype, shape } = weight;
  if (!DTYPES.has(dtype))
    refuse('dtype_unsupported', `${printable(name)} is ${dtype}; save it as F32, F16 or BF16.`, name);
  if (shape.length !== 2 || shape.includes(0))
    refuse(
      'classifier_invalid',
      `${printable(name)} has the shape [${shape.join(', ')}]; a classification head is [classes, hidden].`,
      name,
    );
  const classes = classesOf({ weight });
  if (classes > MAX_CLASSES)
    refuse(
      'classifier_invalid',
      `${printable(name)} has ${classes} classes; at most ${MAX_CLASSES} are served. Train with fewer.`,
      name,
    );
  if (labels !== null && labels.length !== classes)
    refuse(
      'classifier_invalid',
      `There are ${labels.length} labels, but ${printable(name)} has ${classes} classes. Correct id2label.`,
      'id2label',
    );
  return { weight, labels, problemType };
}

/** Keys in this order, for a canonical file. */
export const encodeClassifierConfig = ({
  labels,
  problemType,
}: Pick<Classifier, 'labels' | 'problemType'>): string =>
  `{"labels":${JSON.stringify(labels)},"problem_type":${JSON.stringify(problemType)}}`;

/** What a canonical file's configuration says of its classifier. */
export const ClassifierConfig = z.strictObject({
  labels: ClassLabels.nullable(),
  problem_type: z.enum(PROBLEM_TYPES).nullable(),
});

/** `{"0": "a", "1": "b"}` in any order, without holes. */
function labelsIn(value: JsonValue | undefined, refuse: Refuse): readonly string[] | null {
  if (value === undefined || value === null) return null;
  if (!(value instanceof Map)) return refuse('classifier_invalid', 'id2label is not an object.', 'id2label');
  const labels = Array.from({ length: value.size }, (_, at) => value.get(String(at)));
  const parsed = ClassLabels.safeParse(labels);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    const place = issue?.path.length ? ` for class ${issue.path.map(String).join('.')}` : '';
    return refuse(
      'classifier_invalid',
      `id2label has no valid label${place}: ${printable(issue?.message ?? 'invalid')}. Correct it.`,
      'id2label',
    );
  }
  // The names that it has without labels.
  return parsed.data.every((label, at) => label === `LABEL_${at}`) ? null : parsed.data;
}

/**
 * Labels and kind of problem in a transformers `config.json`, which lies beside the adapter.
 * @param config null = there is none.
 */
export function readModelConfig(
  config: JsonObject | null,
  refuse: Refuse,
): Pick<Classifier, 'labels' | 'problemType'> {
  const problem = config?.get('problem_type') ?? null;
  const problemType = PROBLEM_TYPES.find((known) => known === problem) ?? null;
  if (problem !== null && problemType === null)
    refuse(
      'classifier_invalid',
      `problem_type is ${printable(JSON.stringify(problem))}; transformers has ${PROBLEM_TYPES.join(', ')}.`,
      'problem_type',
    );
  return { labels: labelsIn(config?.get('id2label'), refuse), problemType };
}

/** The classifier of a sum or chain of adapters. @throws AdapterFormatError `classifier_unsupported` for two. */
export function commonClassifier(
  members: readonly { readonly classifier?: Classifier | undefined }[],
): Classifier | undefined {
  const [first, second] = members.flatMap(({ classifier }) => classifier ?? []);
  if (second === undefined) return first;
  throw new AdapterFormatError({
    code: 'classifier_unsupported',
    message: 'More than one of the adapters has a classification head. Use one of them.',
  });
}
