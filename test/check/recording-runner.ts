import { createHash } from 'node:crypto';
import type {
  BatchRows,
  ChainMember,
  DecodeRows,
  ModelRunner,
  ResidentAdapter,
  RowDelta,
} from '../../gpu-origin/engine/ports.ts';

/** What one row was computed from and to. */
export interface RowRecord {
  /** Every token fed, prompt and answer. */
  tokens: number[];
  /** Hash of each row of logits that was handed out, in order. */
  logits: string[];
}

interface Row extends RowRecord {
  delta: RowDelta | null;
}

/** A runner that notes what each row's logits were, and whatever a caller must not do. */
export class RecordingRunner implements ModelRunner {
  /** Rows that have left their slots. */
  readonly records: RowRecord[] = [];
  readonly misuses: string[] = [];
  /** Chunks that were taken instead of read. */
  reused = 0;
  /** Rows that decoded in a run that read a chunk. */
  mixed = 0;
  readonly #inner: ModelRunner;
  readonly #rows: (Row | null)[];
  readonly #members = new WeakMap<RowDelta, readonly ResidentAdapter[]>();
  readonly #unloaded = new WeakSet<ResidentAdapter>();
  readonly #kept = new Map<number, readonly number[]>();
  #stepping = false;

  constructor(inner: ModelRunner) {
    this.#inner = inner;
    this.#rows = new Array<Row | null>(inner.slots + inner.swapSlots).fill(null);
  }

  get base() {
    return this.#inner.base;
  }
  get vocabSize() {
    return this.#inner.vocabSize;
  }
  get hiddenSize() {
    return this.#inner.hiddenSize;
  }
  get slots() {
    return this.#inner.slots;
  }
  get swapSlots() {
    return this.#inner.swapSlots;
  }
  get kvTokens() {
    return this.#inner.kvTokens;
  }
  get chunk() {
    return this.#inner.chunk;
  }
  get parts() {
    return this.#inner.parts;
  }
  get mixes() {
    return this.#inner.mixes;
  }
  get doublingTokens() {
    return this.#inner.doublingTokens;
  }
  get blocks() {
    return this.#inner.blocks;
  }
  get blockBytes() {
    return this.#inner.blockBytes;
  }

  /** Slots that hold a row. */
  get occupied(): number[] {
    return this.#rows.flatMap((row, slot) => (row === null ? [] : [slot]));
  }

  keep(params: Parameters<ModelRunner['keep']>[0]): void {
    this.#require(!this.#stepping, 'a chunk is kept during a step');
    const { slot, at, block } = params;
    const tokens = this.#rows[slot]?.tokens.slice(at, at + params.tokens) ?? [];
    this.#require(tokens.length === params.tokens, 'a chunk is kept that is not whole');
    this.#kept.set(block, tokens);
    this.#inner.keep(params);
  }

  reuse(params: Parameters<ModelRunner['reuse']>[0]): void {
    this.#require(!this.#stepping, 'a chunk is taken during a step');
    const { slot, at, block } = params;
    this.#require(this.#rows[slot]?.tokens.length === at, 'a chunk is taken that does not come next');
    this.#rows[slot]?.tokens.push(...(this.#kept.get(block) ?? []));
    this.reused += 1;
    this.#inner.reuse(params);
  }

  changeDelta(slot: number, delta: RowDelta | null): void {
    this.#require(!this.#stepping, 'a row gets another delta during a step');
    const row = this.#rows[slot];
    this.#require(row != null, 'an empty slot gets another delta');
    if (row != null) row.delta = delta;
    this.#inner.changeDelta(slot, delta);
  }

  loadAdapter(file: Uint8Array<ArrayBuffer>, digest: string): Promise<ResidentAdapter> {
    return this.#inner.loadAdapter(file, digest);
  }

  batchBytes(batch: BatchRows): number {
    return this.#inner.batchBytes(batch);
  }
  get batchHeldBytes(): number {
    return this.#inner.batchHeldBytes;
  }
  trimBatch(batch: BatchRows): void {
    this.#require(!this.#stepping, 'the batch is trimmed during a step');
    this.#inner.trimBatch(batch);
  }

  unloadAdapter(adapter: ResidentAdapter): void {
    this.#require(!this.#stepping, 'an adapter is unloaded during a step');
    this.#require(!this.#unloaded.has(adapter), 'an adapter is unloaded twice');
    const used = this.#rows.some(
      (row) => row?.delta != null && this.#members.get(row.delta)?.includes(adapter),
    );
    this.#require(!used, 'an adapter is unloaded while a row uses it');
    this.#unloaded.add(adapter);
    this.#inner.unloadAdapter(adapter);
  }

  compose(chain: readonly ChainMember[]): RowDelta {
    this.#require(!this.#stepping, 'a chain is composed during a step');
    for (const { adapter } of chain)
      this.#require(!this.#unloaded.has(adapter), 'a chain is composed of an unloaded adapter');
    const delta = this.#inner.compose(chain);
    this.#members.set(
      delta,
      chain.map(({ adapter }) => adapter),
    );
    return delta;
  }

  assign(slot: number, delta: RowDelta | null): void {
    this.#require(!this.#stepping, 'a row is assigned during a step');
    this.#require(this.#rows[slot] === null, `slot ${slot} is assigned while it holds a row`);
    const gone = delta !== null && this.#members.get(delta)?.some((adapter) => this.#unloaded.has(adapter));
    this.#require(gone !== true, 'a row gets the delta of an unloaded adapter');
    this.#rows[slot] = { delta, tokens: [], logits: [] };
    this.#inner.assign(slot, delta);
  }

  move(from: number, to: number, length: number): void {
    this.#require(!this.#stepping, 'a row is moved during a step');
    const row = this.#rows[from] ?? null;
    this.#require(
      row?.tokens.length === length,
      `slot ${from} is moved with another length than its row has`,
    );
    this.#require(this.#rows[to] === null, `a row is moved onto that of slot ${to}`);
    this.#rows[to] = row;
    this.#rows[from] = null;
    this.#inner.move(from, to, length);
  }

  release(slot: number): void {
    this.#require(!this.#stepping, 'a row is released during a step');
    const row = this.#rows[slot] ?? null;
    this.#require(row !== null, `slot ${slot} is released and holds no row`);
    if (row !== null) this.records.push({ tokens: row.tokens, logits: row.logits });
    this.#rows[slot] = null;
    this.#inner.release(slot);
  }

  async prefill(params: Parameters<ModelRunner['prefill']>[0]): Promise<Float32Array> {
    const { slot, tokens, past, positions, parts, beside } = params;
    this.#require(past % this.chunk === 0 && tokens.length <= this.chunk, 'a chunk has other borders');
    if (parts !== undefined && parts.to < this.parts) return this.#step(() => this.#inner.prefill(params));
    const row = this.#feed(slot, past, tokens);
    const rows = beside === undefined ? [] : this.#feedAll(beside);
    const logits = await this.#step(() => this.#inner.prefill(params));
    positions.forEach((_, index) => row?.logits.push(this.#hash(logits, index)));
    rows.forEach((each, index) => each?.logits.push(this.#hash(logits, positions.length + index)));
    this.mixed += rows.length;
    return logits;
  }

  hiddenStates(params: Parameters<ModelRunner['hiddenStates']>[0]): Promise<Float32Array> {
    const { slot, past, tokens, parts } = params;
    if (parts === undefined || parts.to === this.parts) this.#feed(slot, past, tokens);
    return this.#step(() => this.#inner.hiddenStates(params));
  }

  async decode(params: Parameters<ModelRunner['decode']>[0]): Promise<Float32Array> {
    const rows = this.#feedAll(params);
    const logits = await this.#step(() => this.#inner.decode(params));
    rows.forEach((row, index) => row?.logits.push(this.#hash(logits, index)));
    return logits;
  }

  close(): Promise<void> {
    return this.#inner.close();
  }

  #feedAll({ tokens, lengths }: DecodeRows): (Row | null)[] {
    return tokens.map((token, slot) => (token === null ? null : this.#feed(slot, lengths[slot], [token])));
  }

  #feed(slot: number, past: number | undefined, tokens: readonly number[]): Row | null {
    const row = this.#rows[slot] ?? null;
    this.#require(row !== null, `a step runs over slot ${slot}, which holds no row`);
    this.#require(row?.tokens.length === past, `a step takes slot ${slot} to hold another number of tokens`);
    row?.tokens.push(...tokens);
    return row;
  }

  async #step<T>(run: () => Promise<T>): Promise<T> {
    this.#require(!this.#stepping, 'two steps overlap');
    this.#stepping = true;
    try {
      return await run();
    } finally {
      this.#stepping = false;
    }
  }

  #hash(logits: Float32Array, row: number): string {
    return createHash('sha1')
      .update(logits.subarray(row * this.vocabSize, (row + 1) * this.vocabSize))
      .digest('base64');
  }

  #require(holds: boolean, misuse: string): void {
    if (!holds) this.misuses.push(misuse);
  }
}
