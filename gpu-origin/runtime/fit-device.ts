/** What of a base fits a device that addresses less than the machine has: which graphs, and how many tokens a row. */
import { BaseModelError } from '../model/base-model.ts';
import { GRAPH_KINDS, type GraphKind } from '../model/graph-form.ts';
import { PREFILL_CHUNK } from './ort-runner.ts';

/**
 * Kept for what a step makes, for deltas of the rows and for holes between allocations. Of the 4 GiB of WebAssembly that
 * is 1 GiB: 16 rows of rank 64 on q and v of SmolLM2-135M take 150 MB.
 */
const KEPT_SHARE = 0.25;
/**
 * Taken for granted of a device that does not say how much memory it has, as WebGPU's do not: what integrated GPUs lend
 * and the smallest cards have. A context that is asked for may take more.
 */
export const ASSUMED_BYTES = 4 * 1024 ** 3;
/** Fewer tokens a row are of no use; a shorter context than asked for is never taken. */
const LEAST_CONTEXT = 256;
/** With fewer than these, one graph for all rows is better than three, which are faster by a quarter for base rows. */
const ENOUGH_CONTEXT = 2_048;

export interface FitParams {
  /** null = no limit of its own. */
  addressableBytes: number | null;
  /** Nobody knows, and this much is taken for granted: nothing is refused then. */
  assumed?: boolean;
  /** Whether the second and third session cost next to nothing. */
  sharesWeights: boolean;
  /** One session's weights, bytes. */
  sessionBytes: number;
  /** Of keys and values of all rows, bytes a token. */
  tokenBytes: number;
  /** Tokens a row that the base was trained for. */
  most: number;
  /** Tokens a row that were asked for. */
  asked: number | undefined;
}

export interface Fit {
  kinds: readonly GraphKind[];
  /** Tokens a row. */
  context: number;
  /** A sentence for the operator where less is served than was asked for by default; null = all of it. */
  notice: string | null;
}

/** @throws BaseModelError that says what would fit. */
export function fitDevice(params: FitParams): Fit {
  const { addressableBytes, sessionBytes, tokenBytes } = params;
  const wanted = Math.min(params.asked ?? params.most, params.most);
  if (addressableBytes === null || (params.assumed && params.asked !== undefined))
    return { kinds: GRAPH_KINDS, context: wanted, notice: null };
  const usable = addressableBytes * (1 - KEPT_SHARE);
  const room = (kinds: readonly GraphKind[]): number => {
    const tokens = (usable - sessionBytes * (params.sharesWeights ? 1 : kinds.length)) / tokenBytes;
    return Math.max(0, Math.floor(tokens / PREFILL_CHUNK) * PREFILL_CHUNK);
  };
  const enough = Math.min(wanted, params.asked ?? ENOUGH_CONTEXT);
  const all: readonly GraphKind[] = ['all'];
  const kinds = room(GRAPH_KINDS) >= enough ? GRAPH_KINDS : all;
  const least = Math.min(LEAST_CONTEXT, wanted);
  const context = Math.max(params.assumed ? least : 0, Math.min(wanted, room(kinds)));
  if (context < least || (params.asked !== undefined && context < wanted))
    throw new BaseModelError(
      `this provider addresses ${(addressableBytes / 1e9).toFixed(1)} GB, in which the base leaves room for ${context} tokens a row: fewer --slots, ${params.asked === undefined ? '' : 'a shorter --context, '}--weights int8, a smaller base or --provider cpu`,
    );
  if (context === wanted) return { kinds, context, notice: null };
  const limit = `${(addressableBytes / 1e9).toFixed(1)} GB`;
  const row = `a row has ${context.toLocaleString('en')} tokens, of ${wanted.toLocaleString('en')} that the base was trained for`;
  const notice = params.assumed
    ? `how much memory the GPU has is not known, so ${row}, which fits ${limit}; --context ${wanted} takes more`
    : `this provider addresses ${limit}, so ${row}; fewer --slots leave room for more`;
  return { kinds, context, notice };
}
