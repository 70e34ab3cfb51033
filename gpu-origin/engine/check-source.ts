import type { ApiError } from '../../protocol/index.ts';
import { adapterLoading, missingAdapters, unavailableAdapter } from './adapter-errors.ts';
import type { EngineObserver } from './engine-types.ts';
import type { AdapterSource } from './ports.ts';

/** @returns why the source cannot give all of these files now; null when it can. */
export async function checkSource(
  digests: readonly string[],
  source: AdapterSource,
  observer: EngineObserver,
): Promise<ApiError | null> {
  let states: ('held' | 'receiving' | 'missing')[];
  try {
    states = await Promise.all(digests.map((digest) => source.status(digest)));
  } catch (error) {
    observer.onFault?.({ where: 'adapter status', error, requestIds: [] });
    return unavailableAdapter(digests[0] ?? '');
  }
  const missing = digests.filter((_, index) => states[index] === 'missing');
  if (missing.length > 0) return missingAdapters(missing);
  return states.includes('receiving') ? adapterLoading() : null;
}
