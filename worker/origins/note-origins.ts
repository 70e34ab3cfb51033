import type { OriginClient } from './client.ts';
import { ORIGIN_HISTORY_KEPT_S } from './limits.ts';
import type { OriginHistoryLedger } from './ports.ts';

/** Notes how busy each origin is that answers, and forgets what is too old. */
export async function noteOrigins(deps: {
  origins: OriginClient;
  originHistory: OriginHistoryLedger;
  now: () => number;
}): Promise<void> {
  const at = 60 * Math.floor(deps.now() / 60_000);
  const measured = await deps.origins.measure();
  if (measured.length > 0)
    await deps.originHistory.note(
      measured.map(({ id, figures }) => ({
        ...{ origin: id, at, rowsRunning: figures.rows_running, slots: figures.slots },
        requestsWaiting: figures.requests_waiting + figures.requests_loading,
        adaptersResident: figures.adapters_resident,
        adapterBytes: figures.adapter_bytes,
        memoryBytes: figures.memory_bytes,
      })),
    );
  await deps.originHistory.forget(at - ORIGIN_HISTORY_KEPT_S);
}
