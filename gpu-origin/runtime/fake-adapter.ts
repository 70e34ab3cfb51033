/** Adapters of the fake runner and chains of them: no numbers, but memory that is counted as the real runner's is. */
import type { ResidentAdapter, RowDelta } from '../engine/ports.ts';
import { noRanks, rankBucket, type RankByKind } from './row-delta.ts';

/** Memory of one rank of the only linear that the fake model has, a q, bytes. */
export const FAKE_RANK_BYTES = 125;
/** … and of a rank of every linear. */
export const FAKE_RANKS: RankByKind = { ...noRanks(), q: FAKE_RANK_BYTES };

export class FakeAdapter implements ResidentAdapter {
  unloaded = false;
  readonly bytes: number;
  constructor(
    readonly digest: string,
    readonly rank: number,
  ) {
    this.bytes = rank * FAKE_RANK_BYTES;
  }
}

export class FakeDelta implements RowDelta {
  readonly rank: number;
  readonly bytes: number;
  readonly key: string;
  readonly ranks: RankByKind;
  constructor(readonly members: readonly { adapter: FakeAdapter; scale: number }[]) {
    const sum = members.reduce((total, { adapter }) => total + adapter.rank, 0);
    this.rank = rankBucket(sum);
    this.ranks = { ...noRanks(), q: this.rank };
    // As the real one: a lone member at scale 1 whose rank is its bucket is not copied.
    const shared = members.length === 1 && members[0]?.scale === 1 && sum === this.rank;
    this.bytes = shared ? 0 : this.rank * FAKE_RANK_BYTES;
    // A member at scale 0 adds nothing.
    const heard = members.filter(({ scale }) => scale !== 0);
    this.key = heard.map(({ adapter, scale }) => `${adapter.digest}*${scale}`).join('+');
  }
}

export interface FakeRow {
  tokens: number[];
  delta: FakeDelta | null;
}

export const keyOf = (row: FakeRow): string => row.delta?.key ?? '';
