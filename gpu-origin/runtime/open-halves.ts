/** A base's graphs in float16, where they say on this GPU what those in float32 say: kernels and their sums differ. */
import type { LlamaConfig } from '../model/base-model.ts';
import type { BuiltGraphs, Progress } from '../model/build-graphs.ts';
import type { GraphKind, Precision } from '../model/graph-form.ts';
import { bindDeltas, noDelta } from './bind-deltas.ts';
import { type Device, OrtError, type OwnMemory, type Session } from './device.ts';
import { GraphSessions } from './graph-sessions.ts';
import { noRanks } from './row-delta.ts';
import { bindStep, stepTensors } from './step-tensors.ts';

/** Of a prompt, and one that is decoded behind it: their kernels are others. */
const TOKENS = 24;
/** Mean KL to float32, nats: what is promised of a GPU, all of it to the processor. */
const MOST_DIVERGENCE = 0.02;

interface Where {
  device: Device;
  own: OwnMemory;
  config: LlamaConfig;
}

/**
 * @param params.kinds that may be opened. @param params.chunk tokens that a run may read.
 * @returns sessions in float16, or why there are none, for the operator.
 */
export async function openHalves(
  params: Where & {
    built: BuiltGraphs;
    kinds: readonly GraphKind[];
    chunk: number;
    onProgress: Progress;
  },
): Promise<GraphSessions | string> {
  const { device, built, kinds, onProgress } = params;
  const { halves } = built;
  if (halves === null) throw new Error('graphs of a processor have no float16');
  const first = kinds[0]!;
  const tokens = Math.min(TOKENS, params.chunk);
  let sessions: GraphSessions | null = null;
  try {
    const wanted = await floats(params, first, tokens);
    sessions = await GraphSessions.open({ device, built: { ...built, graphs: halves }, kinds, onProgress });
    const logits = await logitsOf(params, await sessions.get(first), first, 'f16', tokens);
    const divergence = meanDivergence(wanted, logits, params.config.vocab);
    if (divergence <= MOST_DIVERGENCE) return sessions;
    await sessions.close();
    return Number.isNaN(divergence)
      ? 'some of its numbers are beyond the range of float16'
      : `its answers in float16 are too far from those in float32 (mean KL ${divergence.toPrecision(2)})`;
  } catch (error) {
    await sessions?.close();
    if (!(error instanceof OrtError)) throw error;
    return `it does not run in float16 (${error.reason.split('\n')[0]})`;
  }
}

/** … of the same graph in float32, which is closed before the other one is opened. */
async function floats(
  params: Where & { built: BuiltGraphs },
  kind: GraphKind,
  tokens: number,
): Promise<Float32Array> {
  const { device, built } = params;
  const weights = await device.weights(built.weightsPath, built.weights);
  const session = await device.session(built.graphs[kind], weights);
  try {
    return await logitsOf(params, session, kind, 'f32', tokens);
  } finally {
    session.close();
    weights.close();
  }
}

/** @returns logits behind each token of a made-up prompt, and behind one more. */
async function logitsOf(
  { device, own, config }: Where,
  session: Session,
  graph: GraphKind,
  precision: Precision,
  tokens: number,
): Promise<Float32Array> {
  const { vocab, layers, kvHeads, headDim } = config;
  const cache = [];
  for (let index = 0; index < 2 * layers; index++)
    cache.push(await own.allocate(precision, [1, kvHeads, tokens + 1, headDim]));
  const nothing = await noDelta(device, config, 1);
  const all = new Float32Array((tokens + 1) * vocab);
  try {
    for (const { past, length } of [
      { past: 0, length: tokens },
      { past: tokens, length: 1 },
    ]) {
      const positions = Array.from({ length }, (_, at) => at);
      const step = await stepTensors(device, { rows: 1, length, positions, vocab }, cache);
      // Spread over the vocabulary.
      positions.forEach((at) => (step.tokens[at] = BigInt((7 + 7_919 * (past + at)) % vocab)));
      step.lastPosition[0] = past + length - 1;
      step.total[0] = past + length;
      const binding = session.bind();
      bindStep(binding, step);
      const owned = bindDeltas({
        ...{ device, config, precision, binding, graph, nothing, slot: 0, rows: 1 },
        ...{ ranks: noRanks(), memory: () => undefined },
      });
      try {
        await binding.run();
        all.set(step.logits, past * vocab);
      } finally {
        binding.close();
        for (const tensor of [...owned, ...Object.values(step.bound)]) tensor.close();
        step.memory.close();
      }
    }
  } finally {
    for (const tensor of cache) tensor.close();
    nothing.close();
  }
  return all;
}

/** Mean KL(wanted || logits) of rows, nats. NaN where a logit is no number. */
function meanDivergence(wanted: Float32Array, logits: Float32Array, vocab: number): number {
  let sum = 0;
  for (let from = 0; from < wanted.length; from += vocab) {
    const p = wanted.subarray(from, from + vocab);
    const q = logits.subarray(from, from + vocab);
    const [ofP, ofQ] = [logNormalizer(p), logNormalizer(q)];
    p.forEach((logit, id) => (sum += Math.exp(logit - ofP) * (logit - ofP - (q[id]! - ofQ))));
  }
  return sum / (wanted.length / vocab);
}

function logNormalizer(logits: Float32Array): number {
  const most = logits.reduce((most, logit) => Math.max(most, logit), -Infinity);
  return most + Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit - most), 0));
}
