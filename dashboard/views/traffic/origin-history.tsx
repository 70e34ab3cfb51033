import type { OriginHistory } from '../../../protocol/admin-api/origins.ts';
import type { Client } from '../../api/client.ts';
import { amount, bytes, moment } from '../../model/words.ts';
import { fromFirst, gridOf, valuesOf } from '../../model/time-series.ts';
import { Skeleton } from '../../parts/notes.tsx';
import { TimeChart } from '../../parts/time-chart.tsx';
import { useLoad } from '../../parts/use-load.ts';

const REFRESH_MS = 60_000;

/** The last 24 hours of an origin; for the bootstrap key. */
export function OriginHistoryCharts({ client, origin }: { client: Client; origin: string }) {
  const history = useLoad(
    origin,
    () => client.call('GET /admin/origins/history', { query: { origin } }),
    REFRESH_MS,
  );
  const { data, problem } = history;
  if (data === null) return problem === null ? <Skeleton label={`the last 24 hours of ${origin}`} /> : null;
  if (data.points.length === 0)
    return <p class="hint">Its last 24 hours are noted each minute; the first of them is not over yet.</p>;
  return <Charts history={data} />;
}

function Charts({ history }: { history: OriginHistory }) {
  const asked = gridOf(history);
  const grid = fromFirst(asked, history.points);
  const values = (read: (point: OriginHistory['points'][number]) => number) =>
    valuesOf(grid, history.points, read, null);
  return (
    <div class="charts within">
      <TimeChart
        title="Rows"
        kind="bars"
        grid={grid}
        write={amount}
        series={[
          { name: 'running', color: 1, values: values((point) => point.rows_running) },
          { name: 'waiting', color: 2, values: values((point) => point.requests_waiting) },
        ]}
      />
      <TimeChart
        title="Memory"
        kind="lines"
        grid={grid}
        write={bytes}
        series={[
          { name: 'process', color: 3, values: values((point) => point.memory_bytes) },
          { name: 'adapters', color: 4, values: values((point) => point.adapter_bytes) },
        ]}
      />
      <TimeChart
        title="Resident adapters"
        kind="lines"
        grid={grid}
        write={amount}
        series={[{ name: 'resident', color: 1, values: values((point) => point.adapters_resident) }]}
      />
      <p class="hint">
        The most of each five minutes,{' '}
        {grid.times.length < asked.times.length
          ? `since ${moment(grid.times[0] ?? 0)}; nothing is known of the time before`
          : 'of the last 24 hours'}
        . A gap: it did not answer.
      </p>
    </div>
  );
}
