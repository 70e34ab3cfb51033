/**
 * How many rows run at once where nobody says, and how many tokens they may hold: as there is memory, and as a device
 * that addresses less than the machine has leaves room for. Pure.
 */
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

interface Fit {
  kinds: readonly GraphKind[];
  /** Tokens a row. */
  context: number;
  /** A sentence for the operator where less is served than was asked for by default; null = all of it. */
  notice: string | null;
}

/**
 * What of a base fits a device: which graphs, and how many tokens a row.
 * @throws BaseModelError that says what would fit.
 */
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

/**
 * Where rows take memory as they are written. 64 rows of SmolLM2-135M decode 1.5 times as many tokens a second as 16 on
 * two cores, 48 as many as 64; fewer than 4 leave cores idle.
 */
export const FITTING_ROWS = { least: 4, most: 64 } as const;
/** Where all of their memory is taken at the start, so that more of them leave each a shorter context. */
export const FIXED_ROWS = 16;
/**
 * A row is reckoned with so many tokens, or with its context where that is less: most are shorter, and the few that are
 * longer wait until those that run leave them the room.
 */
const TOKENS_A_ROW = 2_048;
/** Of what all else leaves; the rest is for what slots without a row keep, a quarter of this at most, and for the system. */
const ROWS_SHARE = 0.75;

interface FittingRows {
  slots: number;
  /** Of all rows together, those that are set aside too. */
  tokens: number;
}

/**
 * @param given.available bytes that there are. @param given.taken bytes of them for all else: base, adapters, prompts that
 * are kept. @param given.tokenBytes keys and values of one token. @param given.context tokens that a row may have.
 * @param given.slots rows that were asked for. @param given.mostRows that keys and values can be allocated for, as many
 * set aside as run.
 */
export function fittingRows(given: {
  available: number;
  taken: number;
  tokenBytes: number;
  context: number;
  slots?: number | undefined;
  mostRows: number;
}): FittingRows {
  const { available, taken, tokenBytes, context, mostRows } = given;
  const aRow = Math.min(context, TOKENS_A_ROW);
  const room = Math.max(0, Math.floor(((available - taken) * ROWS_SHARE) / tokenBytes));
  const { least, most } = FITTING_ROWS;
  return {
    slots: given.slots ?? Math.max(least, Math.min(most, Math.floor(room / aRow), Math.floor(mostRows / 2))),
    tokens: Math.max(room, least * aRow),
  };
}
