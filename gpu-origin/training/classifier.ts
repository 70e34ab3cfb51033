/** The classification head that is trained along with an adapter: its loss and gradients, in plain code. */
import type { Classifier } from '../../adapters/index.ts';
import type { ProblemType } from '../../protocol/classes.ts';
import type { LlamaConfig } from '../model/base-model.ts';
import { type Rotation, rotateColumns, undoRotation } from '../model/rotation.ts';
import { emptyParameter, type Parameter } from './frozen-base.ts';

/** A head among the parameters: `[classes, hidden]`, all zeros, so that every class begins as likely. */
export const newHead = (classes: number, { hidden }: Pick<LlamaConfig, 'hidden'>): Parameter =>
  emptyParameter({
    layer: -1,
    linear: { name: 'classifier', kinds: [] },
    side: 'A',
    rank: classes,
    width: hidden,
  });

/** What a head is trained for. */
export interface HeadKind {
  /** By class; null = it has one output. */
  labels: readonly string[] | null;
  /** null = a text has one of its classes. */
  problemType: Exclude<ProblemType, 'single_label_classification'> | null;
}

/** The trained head as an adapter's, float32. */
export const trainedClassifier = (
  { values, rank, width }: Parameter,
  { labels, problemType }: HeadKind,
): Classifier => ({
  weight: { dtype: 'F32', shape: [rank, width], data: new Uint8Array(values.slice().buffer) },
  labels,
  problemType,
});

/** What lies between the last layer's output and the head. */
export interface HeadInput {
  /** Of the norm before it, `[hidden]`. */
  readonly gain: Float32Array;
  readonly epsilon: number;
  /** Of the layers' output; null = it is not rotated. */
  readonly rotation: Rotation | null;
  readonly problemType: HeadKind['problemType'];
}

export interface ClassLoss {
  /** -log p of the label, nats; of a `regression` the squared error. */
  nll: number;
  /** The label is not the likeliest class, or 0.5 lies between score and sigmoid; true of every `regression`. */
  missed: boolean;
  /** Of weight * nll, by the layers' output: `[hidden]`. */
  gradient: Float32Array;
}

/**
 * The loss of one row by the head's product with the normalized state: softmax and cross-entropy, or of one output
 * transformers' `MSELoss` or `BCEWithLogitsLoss`.
 * @param x `[hidden]` of the last layer's output. @param wanted the class, or of one output the number.
 * @param weight of the loss; the head's gradient grows by it unless 0.
 */
export function classLoss(
  head: Parameter,
  { gain, epsilon, rotation, problemType }: HeadInput,
  { x, wanted, weight }: { x: Float32Array; wanted: number; weight: number },
): ClassLoss {
  const { values, gradient: sum, rank: classes, width } = head;
  const scale = 1 / Math.sqrt(x.reduce((square, one) => square + one * one, 0) / width + epsilon);
  // A rotation keeps lengths, so the norm may come first.
  const normal = x.map((one) => one * scale);
  const plain = normal.slice();
  if (rotation !== null) undoRotation(plain, rotation);
  const state = Float64Array.from(plain, (one, i) => one * gain[i]!);
  const logits = Array.from({ length: classes }, (_, at) =>
    state.reduce((product, one, i) => product + one * values[at * width + i]!, 0),
  );
  const { nll, missed, slopes } =
    problemType === null
      ? crossEntropy(logits, wanted)
      : problemType === 'regression'
        ? squaredError(logits[0]!, wanted)
        : binaryCrossEntropy(logits[0]!, wanted);
  const gradient = new Float32Array(width);
  for (let at = 0; at < classes; at += 1) {
    const slope = weight * slopes[at]!;
    if (slope === 0) continue;
    for (let i = 0; i < width; i += 1) {
      sum[at * width + i]! += slope * state[i]!;
      gradient[i]! += slope * values[at * width + i]! * gain[i]!;
    }
  }
  if (rotation !== null) rotateColumns(gradient, width, rotation);
  // d(x * scale): what lies along the state only changes its length, which the norm takes away.
  const along = gradient.reduce((product, one, i) => product + one * normal[i]!, 0) / width;
  for (let i = 0; i < width; i += 1) gradient[i] = scale * (gradient[i]! - along * normal[i]!);
  return { nll, missed, gradient };
}

interface OutputLoss extends Pick<ClassLoss, 'nll' | 'missed'> {
  /** By output. */
  slopes: readonly number[];
}

function crossEntropy(logits: readonly number[], label: number): OutputLoss {
  const largest = Math.max(...logits);
  const powers = logits.map((logit) => Math.exp(logit - largest));
  const total = powers.reduce((all, power) => all + power, 0);
  return {
    nll: Math.log(total) + largest - logits[label]!,
    missed: logits.indexOf(largest) !== label,
    slopes: powers.map((power, at) => power / total - (at === label ? 1 : 0)),
  };
}

const squaredError = (output: number, target: number): OutputLoss => ({
  nll: (output - target) ** 2,
  missed: true,
  slopes: [2 * (output - target)],
});

function binaryCrossEntropy(logit: number, target: number): OutputLoss {
  const share = 1 / (1 + Math.exp(-logit));
  return {
    nll: Math.max(logit, 0) - logit * target + Math.log1p(Math.exp(-Math.abs(logit))),
    missed: logit > 0 !== target > 0.5,
    slopes: [share - target],
  };
}
