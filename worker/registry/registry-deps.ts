import type {
  ApiError,
  EvaluateAnswer,
  EvaluationRow,
  Result,
  VerifyAnswer,
  VerifyRequest,
} from '../../protocol/index.ts';
import type { BlobLedger, BlobStore } from '../blobs/ports.ts';
import type { PointerWriter, Registry } from './ports.ts';
import type { ByteGate } from '../blobs/byte-gate.ts';
import type { Bases, BasedChain, OriginWarmth } from '../origins/ports.ts';
import type { Sha256 } from '../platform/ports.ts';

/** What work on behalf of a request needs of it. */
export interface RequestLife {
  /** Aborts when the client has gone. */
  signal: AbortSignal;
  /** Lets work go on after the response. */
  keepAlive: (work: Promise<unknown>) => void;
}

/** The last adapter of the chain is the one in question. What an origin lacks of it is brought there. */
export interface AdapterTrial extends RequestLife, BasedChain {
  /** Prefers the origin that serves this name. */
  name: string;
  /** Whose share of the machine it takes. */
  tenant: string;
}

/** Trying adapters at the origins of their base. Every one fails with `origin_unavailable` when none answers sensibly. */
export interface AdapterTrials {
  /** Asks one origin after the other, until one answers. */
  verify(trial: AdapterTrial): Promise<Result<VerifyAnswer, ApiError>>;
  /** Asks all of them, each what it says now against what is expected. */
  verifyEverywhere(
    trial: AdapterTrial,
    expected: VerifyRequest['expected'],
  ): Promise<{ id: string; answer: Result<VerifyAnswer, ApiError> }[]>;
  /** @returns one score a row, in order. */
  evaluate(trial: AdapterTrial, rows: EvaluationRow[]): Promise<Result<EvaluateAnswer, ApiError>>;
}

/** What intake needs from the outside. */
export interface IntakeDeps {
  blobs: BlobStore;
  blobLedger: BlobLedger;
  registry: Registry;
  /** The only way in which a name's change reaches KV. */
  pointers: PointerWriter;
  bases: Bases;
  trials: AdapterTrials;
  warmth: OriginWarmth;
  createSha256: () => Sha256;
  /** What the isolate has room for. */
  uploadMemory: ByteGate;
  /** Unix ms. */
  now: () => number;
}
