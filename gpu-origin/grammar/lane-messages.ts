/** What a lane in a thread of its own is told, and what it answers. */
import type { LaneRow } from './ports.ts';

/** Given to the thread when it starts. */
export interface LaneStart {
  /** Bytes of all tokens, one behind the other, and where each ends. */
  bytes: SharedArrayBuffer;
  ends: Int32Array;
  eosIds: readonly number[];
  /** Int32, `[rows, words]`. */
  masks: SharedArrayBuffer;
}

export type LaneMessage =
  | { kind: 'compile'; job: number; grammar: number; ebnf: string }
  | { kind: 'forget'; grammar: number }
  | { kind: 'open'; row: number; grammar: number }
  | { kind: 'close'; row: number }
  | { kind: 'step'; job: number; rows: readonly LaneRow[] };

export type LaneReply =
  | { kind: 'started' }
  /** `error`: why it does not compile. */
  | { kind: 'compiled'; job: number; error: string | null }
  /** `lost`: why the instance is not to be trusted any more. */
  | { kind: 'stepped'; job: number; failures: readonly (string | null)[]; lost: string | null };
