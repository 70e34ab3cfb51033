import { err, ok, type ApiError, type Result } from '../../protocol/index.ts';
import { formatErrorOf, missingAdapters, unavailableAdapter } from './adapter-errors.ts';
import type { EngineObserver } from './engine-types.ts';
import type { AdapterSource, ModelRunner, ResidentAdapter } from './ports.ts';

/** Source -> runner. Never throws: whatever goes wrong fails only the requests that want this adapter. */
export async function loadAdapterFile(
  ports: { runner: ModelRunner; source: AdapterSource; observer: EngineObserver },
  digest: string,
): Promise<Result<ResidentAdapter, ApiError>> {
  try {
    const file = await ports.source.read(digest);
    if (file === null) return err(missingAdapters([digest]));
    return ok(await ports.runner.loadAdapter(file, digest));
  } catch (error) {
    const format = formatErrorOf(error);
    if (format === null) ports.observer.onFault?.({ where: 'adapter load', error, requestIds: [] });
    return err(format ?? unavailableAdapter(digest));
  }
}
