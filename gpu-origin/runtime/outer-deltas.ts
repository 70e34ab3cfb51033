/**
 * Deltas of what lies outside of a base's layers, which few adapters have. The head's is added to a row's logits by a
 * small graph of its own, which runs behind a step for each such row alone: whoever else is in the batch, the row has the
 * same bits, and rows without one take neither memory nor time for it. The embedding's is summed here for a row's tokens.
 */
import { blockOfA, deltaShapeOfA, type GraphFlavour, type LlamaConfig } from '../model/base-model.ts';
import { GraphBuilder, MICROSOFT } from '../model/onnx-proto.ts';
import { foldGain, transpose } from '../model/prepare-weights.ts';
import { rotateColumns, type RotationSet } from '../model/rotation.ts';
import { type LoraModule, readFloat32 } from '../../adapters/index.ts';
import type { Binding, Device, DeviceTensor, HostMemory, Session, SharedArrays } from './device.ts';

/** Adds `(x A^T) B` to logits, x being the last hidden states. */
export interface HeadDelta {
  readonly rank: number;
  /** `[rank, hidden]`, for states as the graphs give them: rotated, and without a folded gain. */
  readonly a: Float32Array<ArrayBuffer>;
  /** `[rank, vocab]`, every scale folded in. */
  readonly b: Float32Array<ArrayBuffer>;
}

/** Adds `scale * a[token] b` to a token's row of the embedding. */
export interface EmbeddingDelta {
  readonly rank: number;
  /** `[vocab, rank]` */
  readonly a: Float32Array<ArrayBuffer>;
  /** `[rank, hidden]`, rotated as the stream is, the adapter's own scale folded in. */
  readonly b: Float32Array<ArrayBuffer>;
  /** Of the adapter in its chain. */
  readonly scale: number;
}

/** How a base's head and embedding were transformed, which their deltas must follow. */
export interface OuterTransform {
  config: LlamaConfig;
  /** Of the norm before the head, folded into it; null = it is not. */
  finalGain: Float32Array | null;
  rotations: RotationSet | null;
}

/** @param module of the head: A `[rank, hidden]`, B `[vocab, rank]`. */
export function headDelta(
  { rank, scale, a, b }: Pick<LoraModule, 'rank' | 'scale' | 'a' | 'b'>,
  { config, finalGain, rotations }: OuterTransform,
): HeadDelta {
  const { hidden, vocab, logitScale } = config;
  const ofA = new Float32Array(rank * hidden);
  readFloat32(a, ofA);
  if (finalGain !== null) foldGain(ofA, finalGain);
  // Where the stream is not rotated, the head's input is, behind the states.
  if (rotations !== null && rotations.stream !== null) rotateColumns(ofA, hidden, rotations.stream);
  const stored = new Float32Array(vocab * rank);
  readFloat32(b, stored);
  const ofB = transpose(stored, vocab, rank);
  for (let i = 0; i < ofB.length; i++) ofB[i]! *= scale * logitScale;
  return { rank, a: ofA, b: ofB };
}

/** @param module of the embedding: A `[rank, vocab]`, B `[hidden, rank]`. */
export function embeddingDelta(
  { rank, scale, a, b }: Pick<LoraModule, 'rank' | 'scale' | 'a' | 'b'>,
  { config, rotations }: OuterTransform,
): EmbeddingDelta {
  const { hidden, vocab, embeddingScale } = config;
  const ofA = new Float32Array(rank * vocab);
  readFloat32(a, ofA);
  const stored = new Float32Array(hidden * rank);
  readFloat32(b, stored);
  const ofB = transpose(stored, hidden, rank);
  for (let i = 0; i < ofB.length; i++) ofB[i]! *= scale * embeddingScale;
  if (rotations !== null && rotations.stream !== null) rotateColumns(ofB, hidden, rotations.stream);
  return { rank, a: transpose(ofA, rank, vocab), b: ofB, scale: 1 };
}

interface Member {
  readonly scale: number;
  readonly adapter: { readonly head: HeadDelta | null; readonly embedding: EmbeddingDelta | null };
}

/** The sum of a chain's, ranks concatenated; a single one at scale 1 is not copied. @returns its bytes of its own, too. */
export function composeHeads(
  { hidden, vocab }: Pick<LlamaConfig, 'hidden' | 'vocab'>,
  chain: readonly Member[],
): { head: HeadDelta | null; bytes: number } {
  const members = chain.flatMap(({ adapter: { head }, scale }) => (head === null ? [] : [{ head, scale }]));
  const [first] = members;
  if (first === undefined) return { head: null, bytes: 0 };
  if (members.length === 1 && first.scale === 1) return { head: first.head, bytes: 0 };
  const rank = members.reduce((sum, { head }) => sum + head.rank, 0);
  const [a, b] = [new Float32Array(rank * hidden), new Float32Array(rank * vocab)];
  let at = 0;
  for (const { head, scale } of members) {
    a.set(head.a, at * hidden);
    const to = at * vocab;
    for (let i = 0; i < head.b.length; i++) b[to + i] = head.b[i]! * scale;
    at += head.rank;
  }
  return { head: { rank, a, b }, bytes: a.byteLength + b.byteLength };
}

/** A chain's embeddings side by side: they are summed where tokens are looked up. */
export const composeEmbeddings = (chain: readonly Member[]): readonly EmbeddingDelta[] =>
  chain.flatMap(({ adapter: { embedding }, scale }) =>
    embedding === null ? [] : [{ ...embedding, scale: embedding.scale * scale }],
  );

/**
 * Sums in float64, and rounds once. @param token null = the row sits the step out.
 * @param out of the token, `[hidden]`.
 */
export function embedDelta(deltas: readonly EmbeddingDelta[], token: number | null, out: Float32Array): void {
  // Not zero: adding that to a zero of the other sign would change its bits.
  out.fill(-0);
  if (token === null || deltas.length === 0) return;
  const sums = new Float64Array(out.length);
  for (const { rank, a, b, scale } of deltas)
    for (let k = 0; k < rank; k++) {
      const factor = a[token * rank + k]! * scale;
      const from = k * out.length;
      for (let i = 0; i < sums.length; i++) sums[i]! += factor * b[from + i]!;
    }
  out.set(sums);
}

const STATES = 'states';
const BASE = 'logits.base';

/**
 * Logits of one row's positions plus the head's delta. Behind a soft cap, what they were before it need not be known:
 * tanh(x + y) = (tanh x + tanh y) / (1 + tanh x tanh y).
 */
export function buildHeadDelta(
  { hidden, vocab, logitCap }: Pick<LlamaConfig, 'hidden' | 'vocab' | 'logitCap'>,
  flavour: GraphFlavour,
): Uint8Array {
  const g = new GraphBuilder();
  const x = g.input(STATES, 'f32', [1, 'P', hidden]);
  const a = g.input('A', 'f32', deltaShapeOfA<string | number>(flavour, 1, 'R', hidden));
  const b = g.input('B', 'f32', [1, 'R', vocab]);
  const base = g.input(BASE, 'f32', [1, 'P', vocab]);
  if (flavour === 'gpu') g.node('MatMul', [x, a], 'xa');
  else g.node('FusedMatMul', [x, a], 'xa', { transB: 1 }, MICROSOFT);
  const delta = g.node('MatMul', ['xa', b], 'delta');
  g.output('logits', 'f32', [1, 'P', vocab]);
  if (logitCap === null) {
    g.node('Add', [base, delta], 'logits');
    return g.build('head-delta');
  }
  const cap = g.constant('cap', 'f32', [], new Float32Array([logitCap]));
  const one = g.constant('one', 'f32', [], new Float32Array([1]));
  const own = g.node('Div', [base, cap], 'unit');
  g.node('Div', [delta, cap], 'delta.unit');
  const more = g.node('Tanh', ['delta.unit'], 'delta.tanh');
  g.node('Add', [own, more], 'sum');
  g.node('Mul', [own, more], 'product');
  g.node('Add', ['product', one], 'divisor');
  g.node('Div', ['sum', 'divisor'], 'capped');
  g.node('Mul', ['capped', cap], 'logits');
  return g.build('head-delta');
}

/** A head's delta in memory that the device reads, and what it was bound to last. */
interface PlacedHead {
  readonly shared: SharedArrays;
  bound: {
    states: HostMemory;
    logits: HostMemory;
    key: string;
    binding: Binding;
    owned: DeviceTensor[];
  } | null;
}

/** Where one row's hidden states and logits are: host memory, and the byte that they begin at. */
export interface HeadRow {
  readonly head: HeadDelta;
  readonly positions: number;
  readonly states: { readonly memory: HostMemory; readonly at: number };
  readonly logits: { readonly memory: HostMemory; readonly at: number };
}

/** Adds heads' deltas to logits. */
export class HeadDeltas {
  private session: Promise<Session> | null = null;
  /** Least recently used first. */
  private readonly placed = new Map<HeadDelta, PlacedHead>();

  constructor(
    private readonly device: Device,
    private readonly config: LlamaConfig,
    /** Deltas that stay in place. */
    private readonly kept: number,
  ) {}

  /** Bytes that a device which cannot read the adapters' own memory takes for these. */
  bytesFor(heads: Iterable<HeadDelta>): number {
    if (this.device.provider === 'cpu') return 0;
    let bytes = 0;
    for (const { a, b } of new Set(heads)) bytes += a.byteLength + b.byteLength;
    return bytes;
  }

  get bytes(): number {
    return this.bytesFor(this.placed.keys());
  }

  /** Its memory is the same in the next step: the binding stays. */
  async add(row: HeadRow): Promise<void> {
    await (await this.bind(row)).run();
  }

  /** Its memory is given back soon. */
  async addOnce(row: HeadRow): Promise<void> {
    try {
      await this.add(row);
    } finally {
      const placed = this.placed.get(row.head);
      if (placed !== undefined) unbind(placed);
    }
  }

  /** Forgets all others, and frees what was copied for them. */
  keepOnly(heads: readonly HeadDelta[]): void {
    for (const [head, placed] of this.placed) if (!heads.includes(head)) this.drop(head, placed);
  }

  async close(): Promise<void> {
    this.keepOnly([]);
    (await this.session)?.close();
  }

  /** Opened when the first row needs it; a failed one is retried at the next. */
  private opened(): Promise<Session> {
    if (this.session !== null) return this.session;
    const { device, config } = this;
    const opening = device.session(buildHeadDelta(config, device.flavour), null);
    this.session = opening;
    opening.catch(() => (this.session = null));
    return opening;
  }

  private async bind({ head, positions, states, logits }: HeadRow): Promise<Binding> {
    const { device, config } = this;
    const placed = await this.place(head);
    const key = `${states.at} ${logits.at} ${positions}`;
    const { bound } = placed;
    if (bound?.key === key && bound.states === states.memory && bound.logits === logits.memory)
      return bound.binding;
    unbind(placed);
    const binding = (await this.opened()).bind();
    const { hidden, vocab } = config;
    const [a, b] = placed.shared.memories;
    const owned = [
      device.tensor('f32', states.memory, states.at, [1, positions, hidden]),
      device.tensor('f32', a!, 0, deltaShapeOfA(device.flavour, 1, head.rank, hidden)),
      device.tensor('f32', b!, 0, [1, head.rank, vocab]),
      device.tensor('f32', logits.memory, logits.at, [1, positions, vocab]),
    ] as const;
    placed.bound = { states: states.memory, logits: logits.memory, key, binding, owned: [...owned] };
    [STATES, 'A', 'B', BASE].forEach((name, at) => binding.input(name, owned[at]!));
    // In place: sums and products of elements.
    binding.output('logits', owned[3]);
    return binding;
  }

  private async place(head: HeadDelta): Promise<PlacedHead> {
    const known = this.placed.get(head);
    const { device, config } = this;
    const placed = known ?? {
      shared: await device.share([blockOfA(device.flavour, head.a, head.rank, config.hidden), head.b]),
      bound: null,
    };
    this.placed.delete(head);
    this.placed.set(head, placed);
    for (const [other, old] of this.placed) {
      if (this.placed.size <= this.kept) break;
      this.drop(other, old);
    }
    return placed;
  }

  private drop(head: HeadDelta, placed: PlacedHead): void {
    unbind(placed);
    placed.shared.close();
    this.placed.delete(head);
  }
}

function unbind(placed: PlacedHead): void {
  placed.bound?.binding.close();
  for (const tensor of placed.bound?.owned ?? []) tensor.close();
  placed.bound = null;
}
