import type { ApiError } from '../../protocol/index.ts';

/** When an adapter that could not be had may be asked for again, ms. */
export const ADAPTER_RETRY_MS = 1_000;

export const missingAdapters = (missing: string[]): ApiError => ({
  code: 'adapter_missing',
  message: `This origin does not hold ${missing.length === 1 ? 'an adapter' : `${missing.length} adapters`} of the chain.`,
  missing,
});

export const adapterLoading = (): ApiError => ({
  code: 'adapter_loading',
  message: 'An adapter of the chain is being received.',
  retryAfterMs: ADAPTER_RETRY_MS,
});

export const unavailableAdapter = (digest: string): ApiError => ({
  code: 'adapter_unavailable',
  message: `Adapter ${digest.slice(0, 12)} could not be loaded.`,
  retryAfterMs: ADAPTER_RETRY_MS,
});

export const pinnedTooMuch = (limit: number): ApiError => ({
  code: 'adapter_unavailable',
  message: `Pinned adapters may take ${Math.floor(limit / 1e6)} MB of this origin's memory together, and this one would pass that; unpin another.`,
  retryAfterMs: ADAPTER_RETRY_MS,
});

/**
 * What `ModelRunner.loadAdapter` threw. AdapterFormatError is known by its name: the engine imports no format code.
 * @returns null when it was not about the file.
 */
export function formatErrorOf(error: unknown): ApiError | null {
  if (!(error instanceof Error) || error.name !== 'AdapterFormatError') return null;
  const reason = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return { code: 'adapter_invalid', message: error.message, ...(reason === undefined ? {} : { reason }) };
}

export const rankSumExceeded = (sum: number, limit: number): ApiError => ({
  code: 'adapter_invalid',
  message: `The ranks of the chain add up to ${sum}; this base serves at most ${limit}.`,
  reason: 'rank_sum_exceeded',
});
