import { AdapterFormatError } from '../../adapters/errors.ts';
import type {
  BatchRows,
  ChainMember,
  ClassifierHead,
  DecodeRows,
  ModelRunner,
  ResidentAdapter,
  RowDelta,
  ChunkParts,
} from '../../gpu-origin/engine/ports.ts';
import type { BaseInfo } from '../../protocol/origin-wire.ts';
import {
  layoutBytes,
  neededLayout,
  nextLayout,
  NO_BUFFERS,
  noRanks,
  rankBucket,
  type RankByKind,
} from '../../gpu-origin/runtime/adapter-batch.ts';

const CONTEXT = 256;

/**
 * A model whose logits are a hash of the row's tokens and delta alone, and a strict reader of the port's contract:
 * it throws at overlapping steps, wrong slots, lengths and borders, and at adapters that were unloaded. Logits of the
 * step before are overwritten with NaN, so that nobody reads them.
 */
export class FakeRunner implements ModelRunner {
  readonly base: BaseInfo;
  readonly vocabSize: number;
  readonly hiddenSize = 8;
  readonly slots: number;
  readonly swapSlots: number;
  readonly kvTokens: number;
  readonly chunk: number;
  readonly parts: number;
  readonly mixes: boolean;
  readonly doublingTokens: number;
  readonly blocks: number;
  readonly blockBytes = 1_000;
  /** Breaches of the contract; each was thrown as well. */
  readonly misuses: string[] = [];
  steps = 0;
  readonly #options: FakeRunnerOptions;
  readonly #rows: (FakeRow | null)[];
  readonly #adapters = new Set<FakeAdapter>();
  readonly #kept: FakeBlocks;
  #batch = NO_BUFFERS;
  readonly #begun: FakeParts;
  #busy = false;
  #closed = false;
  #lent = new Float32Array(0);

  constructor(options: FakeRunnerOptions = {}) {
    this.#options = options;
    this.slots = options.slots ?? 16;
    this.chunk = options.chunk ?? 8;
    this.parts = options.parts ?? 1;
    this.#begun = new FakeParts(this.parts);
    this.mixes = options.mixes ?? false;
    this.doublingTokens = options.doublingTokens ?? 1_000;
    this.blocks = options.blocks ?? 0;
    this.#kept = new FakeBlocks(this.chunk, (what) => this.#misuse(what));
    this.vocabSize = options.vocabSize ?? 64;
    this.swapSlots = options.swapSlots ?? this.slots;
    this.#rows = Array.from({ length: this.slots + this.swapSlots }, () => null);
    this.kvTokens = options.kvTokens ?? this.#rows.length * (options.context ?? CONTEXT);
    this.base = {
      id: 'fake',
      digest: 'f'.repeat(64),
      weights: 'fake',
      context: options.context ?? CONTEXT,
      max_rank_sum: options.maxRankSum ?? 128,
      attention: { heads: 1, kv_heads: 1 },
      modules: [],
    };
  }

  /** Adapters in memory now. */
  get loaded(): readonly ResidentAdapter[] {
    return [...this.#adapters];
  }

  /** Slots that hold a row now. */
  get occupied(): number[] {
    return [...this.#rows.keys()].filter((slot) => this.#rows[slot] !== null);
  }

  async loadAdapter(file: Uint8Array<ArrayBuffer>, digest: string): Promise<ResidentAdapter> {
    await this.#options.duringLoad?.(digest);
    if (file.length === 0)
      throw new AdapterFormatError({ code: 'truncated_file', message: 'The file is empty.' });
    const { rank, invocation, stacked, classifier } = this.#options;
    const adapter = new FakeAdapter(
      ...([digest, rank?.(digest) ?? 8, invocation?.(digest) ?? null, stacked?.(digest) ?? false] as const),
      classifier?.(digest) ?? null,
    );
    this.#adapters.add(adapter);
    return adapter;
  }

  unloadAdapter(adapter: ResidentAdapter): void {
    this.#expectIdle('unloadAdapter');
    const own = this.#own(adapter);
    own.unloaded = true;
    this.#adapters.delete(own);
    if (this.#rows.some((row) => row?.delta?.members.some((member) => member.adapter === own)))
      this.#misuse('unloadAdapter: a row uses the adapter');
  }

  compose(chain: readonly ChainMember[]): RowDelta {
    this.#expectIdle('compose');
    if (chain.length === 0) this.#misuse('compose: the chain is empty');
    return new FakeDelta(chain.map(({ adapter, scale }) => ({ adapter: this.#own(adapter), scale })));
  }

  batchBytes(batch: BatchRows): number {
    return layoutBytes(this.#needed(batch), FAKE_RANKS);
  }

  get batchHeldBytes(): number {
    return layoutBytes(this.#batch, FAKE_RANKS);
  }

  trimBatch(batch: BatchRows): void {
    this.#expectIdle('trimBatch');
    this.#batch = this.#needed(batch);
  }

  #needed({ rows, deltas }: BatchRows) {
    const ranks = deltas.map((delta) => this.#ownDelta(delta, 'batch').ranks);
    return neededLayout({ rows, ranks, slots: this.slots });
  }

  #ownDelta(delta: RowDelta, where: string): FakeDelta {
    return delta instanceof FakeDelta ? delta : this.#misuse(`${where}: a foreign delta`);
  }

  assign(slot: number, delta: RowDelta | null): void {
    this.#expectIdle('assign');
    this.#expectSlot(slot, 'assign');
    if (slot >= this.slots) this.#misuse(`assign: slot ${slot} is a swap slot`);
    if (this.#rows[slot] !== null) this.#misuse(`assign: slot ${slot} is taken`);
    const row = { tokens: [], before: '', changedAt: 0, delta: this.#deltaOf(delta, 'assign') };
    this.#checkDelta(row);
    this.#rows[slot] = row;
  }

  changeDelta(slot: number, delta: RowDelta | null): void {
    this.#expectIdle('changeDelta');
    const row = this.#row(slot, 'changeDelta');
    if (this.#begun.has(slot)) this.#misuse(`changeDelta: a chunk of slot ${slot} is half read`);
    row.before = `${keyOf(row)}|${row.tokens.length}:`;
    row.changedAt = row.tokens.length;
    row.delta = this.#deltaOf(delta, 'changeDelta');
    this.#checkDelta(row);
  }

  #deltaOf(delta: RowDelta | null, where: string): FakeDelta | null {
    return delta === null ? null : this.#ownDelta(delta, where);
  }

  move(from: number, to: number, length: number): void {
    this.#expectIdle('move');
    this.#expectSlot(to, 'move');
    const row = this.#row(from, 'move');
    if (this.#begun.leave(from)) this.#misuse(`move: a chunk of slot ${from} is half read`);
    if (this.#rows[to] !== null) this.#misuse(`move: slot ${to} is taken`);
    if (row.tokens.length !== length)
      this.#misuse(`move: the row has ${row.tokens.length} tokens, not ${length}`);
    this.#rows[to] = row;
    this.#rows[from] = null;
  }

  release(slot: number): void {
    this.#expectIdle('release');
    this.#row(slot, 'release');
    this.#begun.leave(slot);
    this.#rows[slot] = null;
  }

  keep({ slot, at, block, tokens }: Parameters<ModelRunner['keep']>[0]): void {
    this.#expectIdle('keep');
    if (block < 0 || block >= this.blocks) this.#misuse(`keep: there is no block ${block}`);
    this.#kept.keep(this.#row(slot, 'keep'), at, block, tokens);
  }

  reuse({ slot, at, block, tokens }: Parameters<ModelRunner['reuse']>[0]): void {
    this.#expectIdle('reuse');
    this.#kept.reuse(this.#row(slot, 'reuse'), at, block, tokens);
  }

  async prefill(params: Parameters<ModelRunner['prefill']>[0]): Promise<Float32Array> {
    const { slot, tokens, past, positions, parts, beside } = params;
    if (positions.some((at) => at < 0 || at >= tokens.length))
      this.#misuse('prefill: a position outside the chunk');
    const row = this.#read(params, 'prefill');
    if (beside !== undefined && (!this.mixes || (parts !== undefined && parts.to - parts.from < this.parts)))
      this.#misuse('prefill: rows decode beside a part, or in a runner that does not mix');
    if (beside !== undefined && beside.tokens.length > slot)
      this.#misuse(`prefill: slot ${slot} is read and decodes`);
    if (row === null) return this.#step('prefill', [this.#row(slot, 'prefill')], 0, () => []);
    const decoding = beside === undefined ? [] : this.#decoding(beside, 'prefill');
    return this.#step(beside === undefined ? 'prefill' : 'mixed', [row, ...decoding], this.vocabSize, () => [
      ...positions.map((at) => ({ ...row, tokens: row.tokens.slice(0, past + at + 1) })),
      ...decoding,
    ]);
  }

  async hiddenStates(params: Parameters<ModelRunner['hiddenStates']>[0]): Promise<Float32Array> {
    const { tokens, past } = params;
    const row = this.#read(params, 'hiddenStates');
    if (row === null) return this.#step('prefill', [this.#row(params.slot, 'hiddenStates')], 0, () => []);
    return this.#step('prefill', [row], this.hiddenSize, () =>
      tokens.map((_, at) => ({ ...row, tokens: row.tokens.slice(0, past + at + 1) })),
    );
  }

  /** Checks a chunk, and appends it to its row with the last part. @returns null before that. */
  #read(params: Parameters<ModelRunner['hiddenStates']>[0], where: string): FakeRow | null {
    const { slot, tokens, past, parts = { from: 0, to: this.parts } } = params;
    this.#expectIdle(where);
    if (slot >= this.slots) this.#misuse(`${where}: slot ${slot} is a swap slot`);
    const row = this.#row(slot, where);
    if (past !== row.tokens.length)
      this.#misuse(`${where}: the row has ${row.tokens.length} tokens, not ${past}`);
    if (past % this.chunk !== 0 && past !== row.changedAt)
      this.#misuse(`${where}: ${past} is no multiple of ${this.chunk}`);
    if (tokens.length === 0 || tokens.length > this.chunk - (past % this.chunk))
      this.#misuse(`${where}: a chunk of ${tokens.length} tokens`);
    if (!this.#begun.go(`${slot} ${past} ${tokens.join()}`, parts))
      this.#misuse(`${where}: parts ${parts.from} to ${parts.to} out of turn`);
    if (parts.to < this.parts) return null;
    this.#append(row, tokens);
    return row;
  }

  async decode(params: DecodeRows): Promise<Float32Array> {
    this.#expectIdle('decode');
    const rows = this.#decoding(params, 'decode');
    return this.#step('decode', rows, this.vocabSize, () => rows);
  }

  /** Checks rows that decode, and appends their tokens. */
  #decoding({ tokens, lengths }: DecodeRows, where: string): FakeRow[] {
    if (tokens.length === 0 || tokens.length > this.slots || tokens.length !== lengths.length)
      this.#misuse(`${where}: ${tokens.length} tokens, ${lengths.length} lengths`);
    const rows = tokens.map((token, slot) => {
      const row = this.#row(slot, where);
      if (row.tokens.length === 0 || row.tokens.length !== lengths[slot])
        this.#misuse(`${where}: slot ${slot} has ${row.tokens.length} tokens, not ${lengths[slot]}`);
      // What sits out may lie anywhere but at the end: a step goes up to the last row that has a token.
      if (token === null && slot === tokens.length - 1)
        this.#misuse(`${where}: slot ${slot} sits out at the end`);
      if (token !== null) this.#append(row, [token]);
      return row;
    });
    const deltas = rows.flatMap(({ delta }) => delta ?? []);
    // As the real one, a row that is alone leaves the buffers as they are.
    if (rows.length > 1) this.#batch = nextLayout(this.#batch, this.#needed({ rows: rows.length, deltas }));
    return rows;
  }

  async close(): Promise<void> {
    this.#expectIdle('close');
    this.#closed = true;
  }

  async #step(
    kind: FakeStep['kind'],
    rows: readonly FakeRow[],
    width: number,
    wanted: () => FakeRow[],
  ): Promise<Float32Array> {
    this.#busy = true;
    this.#lent.fill(NaN);
    this.steps += 1;
    try {
      await new Promise((resolve) => setImmediate(resolve));
      await this.#options.duringStep?.({
        kind,
        rows: rows.map((row) => ({ tokens: [...row.tokens], delta: keyOf(row) })),
      });
      for (const row of rows) this.#checkDelta(row);
      const outputs = wanted();
      this.#lent = new Float32Array(outputs.length * width);
      outputs.forEach((row, index) =>
        fillOutput(this.#lent.subarray(index * width, (index + 1) * width), row, this.#options),
      );
      return this.#lent;
    } finally {
      this.#busy = false;
    }
  }

  #append(row: FakeRow, tokens: readonly number[]): void {
    if (tokens.some((id) => !Number.isInteger(id) || id < 0 || id >= this.vocabSize))
      this.#misuse('a token outside the vocabulary');
    if (row.tokens.length + tokens.length > this.base.context) this.#misuse('a row longer than the context');
    row.tokens.push(...tokens);
  }

  #row(slot: number, where: string): FakeRow {
    this.#expectSlot(slot, where);
    return this.#rows[slot] ?? this.#misuse(`${where}: slot ${slot} is empty`);
  }

  #own(adapter: ResidentAdapter): FakeAdapter {
    if (!(adapter instanceof FakeAdapter) || !this.#adapters.has(adapter))
      return this.#misuse(`adapter ${adapter.digest} is not loaded`);
    return adapter;
  }

  #checkDelta(row: FakeRow): void {
    if (row.delta?.members.some((member) => member.adapter.unloaded))
      this.#misuse('a row uses an adapter that was unloaded');
  }

  #expectSlot(slot: number, where: string): void {
    if (!Number.isInteger(slot) || slot < 0 || slot >= this.#rows.length)
      this.#misuse(`${where}: there is no slot ${slot}`);
  }

  #expectIdle(where: string): void {
    if (this.#closed) this.#misuse(`${where}: the runner is closed`);
    if (this.#busy) this.#misuse(`${where} during a step`);
  }

  #misuse(what: string): never {
    this.misuses.push(what);
    throw new Error(`misuse of the runner: ${what}`);
  }
}

/** Memory of one rank of the only linear that the fake model has, a q, bytes. */
export const FAKE_RANK_BYTES = 125;
/** … and of a rank of every linear. */
const FAKE_RANKS: RankByKind = { ...noRanks(), q: FAKE_RANK_BYTES };

class FakeAdapter implements ResidentAdapter {
  unloaded = false;
  readonly bytes: number;
  constructor(
    readonly digest: string,
    readonly rank: number,
    readonly invocation: readonly number[] | null,
    readonly stacked: boolean,
    readonly classifier: ClassifierHead | null,
  ) {
    // As the real one's, with zeros up to the bucket.
    this.bytes = rankBucket(rank) * FAKE_RANK_BYTES + (classifier?.weight.byteLength ?? 0);
  }
}

class FakeDelta implements RowDelta {
  readonly rank: number;
  readonly bytes: number;
  readonly key: string;
  readonly ranks: RankByKind;
  constructor(readonly members: readonly { adapter: FakeAdapter; scale: number }[]) {
    const sum = members.reduce((total, { adapter }) => total + adapter.rank, 0);
    this.rank = rankBucket(sum);
    this.ranks = { ...noRanks(), q: this.rank };
    // As the real one: a lone member at scale 1 is not copied.
    const shared = members.length === 1 && members[0]?.scale === 1;
    this.bytes = shared ? 0 : this.rank * FAKE_RANK_BYTES;
    // A member at scale 0 adds nothing.
    const heard = members.filter(({ scale }) => scale !== 0);
    this.key = heard.map(({ adapter, scale }) => `${adapter.digest}*${scale}`).join('+');
  }
}

interface FakeRow {
  tokens: number[];
  /** The deltas that acted before this one, and where each ended. */
  before: string;
  /** Tokens that it had when its delta changed. */
  changedAt: number;
  delta: FakeDelta | null;
}

const keyOf = (row: FakeRow): string => row.before + (row.delta?.key ?? '');

/** What a fake runner keeps of its rows: chunks of tokens, with what came before them and by which delta. */
class FakeBlocks {
  readonly #kept = new Map<number, { before: string; tokens: readonly number[] }>();
  readonly #chunk: number;
  readonly #misuse: (what: string) => never;

  constructor(chunk: number, misuse: (what: string) => never) {
    this.#chunk = chunk;
    this.#misuse = misuse;
  }

  keep(row: FakeRow, at: number, block: number, count: number): void {
    const starts = at % this.#chunk === 0 || at === row.changedAt;
    if (!starts || count > this.#chunk - (at % this.#chunk) || at + count > row.tokens.length)
      this.#misuse(`keep: no chunk of ${count} at ${at} of ${row.tokens.length} tokens`);
    const tokens = row.tokens.slice(at, at + count);
    this.#kept.set(block, { before: this.#before(row, at), tokens });
  }

  reuse(row: FakeRow, at: number, block: number, count: number): void {
    const kept = this.#kept.get(block);
    const fits = at === row.tokens.length && kept?.tokens.length === count;
    if (kept === undefined || !fits || kept.before !== this.#before(row, at))
      return this.#misuse(`reuse: block ${block} is not what comes after ${row.tokens.length} tokens`);
    row.tokens.push(...kept.tokens);
  }

  #before(row: FakeRow, at: number): string {
    return `${keyOf(row)} ${row.tokens.slice(0, at).join(' ')}`;
  }
}

/** The chunk of which some parts were read. */
class FakeParts {
  #begun: { chunk: string; parts: number } | null = null;

  readonly #parts: number;

  constructor(parts: number) {
    this.#parts = parts;
  }

  /** @param chunk begins with its slot. @returns whether these parts are next. */
  go(chunk: string, { from, to }: ChunkParts): boolean {
    const next = from === 0 || (this.#begun?.chunk === chunk && this.#begun.parts === from);
    this.#begun = to < this.#parts ? { chunk, parts: to } : null;
    return next && to > from && to <= this.#parts;
  }

  has(slot: number): boolean {
    return this.#begun?.chunk.startsWith(`${slot} `) === true;
  }

  /** @returns whether it was this slot's. */
  leave(slot: number): boolean {
    const its = this.has(slot);
    if (its) this.#begun = null;
    return its;
  }
}

/** What comes out for a row. */
function fillOutput(
  output: Float32Array,
  row: FakeRow,
  { logit, poisoned }: Pick<FakeRunnerOptions, 'logit' | 'poisoned'>,
): void {
  if (logit !== undefined) for (let id = 0; id < output.length; id += 1) output[id] = logit(id, row.tokens);
  else if (poisoned?.(row.tokens, keyOf(row)) === true) output.fill(NaN);
  else fillWithHash(output, keyOf(row), row.tokens);
}

/** Numbers from -8 to 8 that follow from a row's tokens and delta alone. */
export function fillWithHash(output: Float32Array, delta: string, tokens: readonly number[]): void {
  let state = fnv(delta, 0x811c9dc5);
  for (const token of tokens) state = Math.imul(state ^ (token + 1), 0x01000193) ^ (state >>> 15);
  for (let at = 0; at < output.length; at += 1) {
    state = Math.imul(state ^ (state >>> 16), 0x45d9f3b) + 0x9e3779b9;
    output[at] = ((state >>> 8) / 2 ** 24) * 16 - 8;
  }
}

/** FNV-1a. */
function fnv(text: string, seed: number): number {
  let hash = seed;
  for (let at = 0; at < text.length; at += 1) hash = Math.imul(hash ^ text.charCodeAt(at), 0x01000193);
  return hash;
}

export interface FakeRunnerOptions {
  slots?: number;
  /** As many as slots unless given. */
  swapSlots?: number;
  /** Room for every row's whole context unless given. */
  kvTokens?: number;
  chunk?: number;
  /** 1 unless given. */
  parts?: number;
  /** Not unless given. */
  mixes?: boolean;
  /** 1,000 unless given. */
  doublingTokens?: number;
  /** None unless given. */
  blocks?: number;
  vocabSize?: number;
  context?: number;
  maxRankSum?: number;
  /** Rank of an adapter; 8 unless given. Its memory is `FAKE_RANK_BYTES` a rank. */
  rank?: (digest: string) => number;
  /** Tokens from which on an adapter acts; null, also unless given, = on every token. */
  invocation?: (digest: string) => readonly number[] | null;
  /** Whether it was trained on the adapters before it; no unless given. */
  stacked?: (digest: string) => boolean;
  /** Its classification head; none unless given. */
  classifier?: (digest: string) => ClassifierHead | null;
  /** Awaited inside each load and each step: a test may hold it, or throw. */
  duringLoad?: (digest: string) => Promise<void>;
  duringStep?: (step: FakeStep) => Promise<void> | void;
  /** The logit of a token after these ones; a hash of tokens and delta unless given. */
  logit?: (id: number, tokens: readonly number[]) => number;
  /** Rows whose logits come out as NaN. */
  poisoned?: (tokens: readonly number[], delta: string) => boolean;
}

export interface FakeStep {
  readonly kind: 'prefill' | 'decode' | 'mixed';
  /** Tokens and delta of each row in the step, as they are after it; of a mixed one, first the row that is read. */
  readonly rows: readonly { readonly tokens: readonly number[]; readonly delta: string }[];
}
