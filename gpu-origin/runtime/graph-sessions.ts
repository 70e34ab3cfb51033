import type { LlamaConfig } from '../model/base-model.ts';
import type { BuiltGraphs, Progress } from '../model/build-graphs.ts';
import { GRAPH_KINDS, type GraphKind, type Precision } from '../model/graph-form.ts';
import {
  type Device,
  OrtError,
  type OwnMemory,
  type Session,
  type SessionCores,
  type Weights,
} from './device.ts';
import { noRanks } from './row-delta.ts';
import { bindDeltas, bindStep, noDelta, stepTensors } from './step-bindings.ts';

/**
 * The sessions of a base's graphs. Where they share their weights all are opened at once, since the second and third
 * cost little; else the first, and each of the others when a step needs it.
 */
export class GraphSessions {
  private readonly opened = new Map<string, Promise<Session>>();

  private constructor(
    private readonly device: Device,
    private readonly built: BuiltGraphs,
    private readonly weights: Weights,
    /** Smallest first. */
    private readonly kinds: readonly GraphKind[],
  ) {}

  /** @param params.kinds that may be opened; the largest is among them. */
  static async open(params: {
    device: Device;
    built: BuiltGraphs;
    kinds: readonly GraphKind[];
    onProgress: Progress;
  }): Promise<GraphSessions> {
    const { device, built, onProgress } = params;
    const kinds = GRAPH_KINDS.filter((kind) => params.kinds.includes(kind));
    const weights = await device.weights(built.weightsPath, built.weights);
    const sessions = new GraphSessions(device, built, weights, kinds);
    const cores: readonly SessionCores[] = (device.lanes ?? 1) > 1 ? ['all', 'one'] : ['all'];
    const now = (device.sharesWeights ? kinds : kinds.slice(0, 1)).flatMap((kind) => [
      ...cores.map((each) => () => sessions.get(kind, each)),
      ...sessions.parts.map((_, part) => () => sessions.part(kind, part)),
    ]);
    for (const [index, open] of now.entries()) {
      await open();
      onProgress('Loading the graphs', index + 1, now.length);
    }
    return sessions;
  }

  /** What a prompt's chunk may be read in; [] where each session would hold its own weights. */
  get parts(): BuiltGraphs['parts'] {
    return this.device.sharesWeights ? this.built.parts : [];
  }

  /** @returns the smallest graph that may be opened and takes all deltas that `kind` takes. */
  covering(kind: GraphKind): GraphKind {
    const least = GRAPH_KINDS.indexOf(kind);
    return this.kinds.find((each) => GRAPH_KINDS.indexOf(each) >= least) ?? kind;
  }

  /** One that could not be opened is tried again at the next call. @throws OrtError */
  get(kind: GraphKind, cores: SessionCores = 'all'): Promise<Session> {
    return this.session(`${kind} ${cores}`, this.built.graphs[kind], cores);
  }

  /** @throws OrtError */
  part(kind: GraphKind, part: number): Promise<Session> {
    return this.session(`${kind} part ${part}`, this.built.parts[part]!.graphs[kind], 'all');
  }

  private session(key: string, path: string, cores: SessionCores): Promise<Session> {
    const known = this.opened.get(key);
    if (known !== undefined) return known;
    const opening = this.device.session(path, this.weights, cores);
    this.opened.set(key, opening);
    opening.catch(() => this.opened.delete(key));
    return opening;
  }

  async close(): Promise<void> {
    const sessions = await Promise.all(this.opened.values());
    for (const session of sessions) session.close();
    this.weights.close();
  }
}

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
 * A base's graphs in float16, where they say on this GPU what those in float32 say: kernels and their sums differ.
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
