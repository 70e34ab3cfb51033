import { Hono } from 'hono';
import type { OriginHistory, OriginList, OriginView } from '../../protocol/index.ts';
import { adminRoute } from '../http/admin-route.ts';
import type { AppEnv } from '../http/request-scope.ts';
import type { OriginClient, OriginReport } from './client.ts';
import { MAX_RESIDENT_NAMES } from './limits.ts';
import type { FileNames, OriginHistoryLedger } from './ports.ts';

const DAY_S = 86_400;
const operatorOnly = {
  code: 'insufficient_scope',
  message: 'How busy origins were is shown to the bootstrap key alone.',
} as const;

/** What origins are; null when one does not answer. `residents` and `figures` are null for all but the bootstrap key. */
export function adminOriginRoutes(deps: {
  origins: OriginClient;
  originHistory: OriginHistoryLedger;
  fileNames: FileNames;
  now: () => number;
}): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  adminRoute(
    routes,
    'GET /admin/origins/history',
    async ({ context, query }) => {
      const step = Number(query.step);
      const to = Math.ceil((deps.now() + 1) / 1000 / step) * step;
      const of = { origin: query.origin, from: to - DAY_S, to, step };
      const minutes = await deps.originHistory.read(of);
      return context.json({
        origin: of.origin,
        from: new Date(1000 * of.from).toISOString(),
        to: new Date(1000 * to).toISOString(),
        step,
        points: minutes.map((minute) => ({
          at: 1000 * minute.at,
          rows_running: minute.rowsRunning,
          requests_waiting: minute.requestsWaiting,
          slots: minute.slots,
          adapters_resident: minute.adaptersResident,
          adapter_bytes: minute.adapterBytes,
          memory_bytes: minute.memoryBytes,
        })),
      } satisfies OriginHistory);
    },
    { operatorOnly },
  );
  adminRoute(routes, 'GET /admin/origins', async ({ context, caller, query }) => {
    const measured = query.figures === 'true';
    // Residents tell who uses what, and figures how much: for the operator alone.
    const { root } = caller;
    const reports = await deps.origins.report(measured && root);
    const shown = ({ id, configuredBase, base, residents, figures }: OriginReport): OriginView => ({
      id,
      ...(configuredBase === null ? {} : { configured_base: configuredBase }),
      base,
      residents: root ? residents : null,
      ...(measured ? { figures: root ? figures : null } : {}),
    });
    const digests = reports.flatMap(({ residents }) => residents?.adapters.map(({ digest }) => digest) ?? []);
    const names =
      root && query.names === 'true'
        ? await deps.fileNames.of([...new Set(digests)], MAX_RESIDENT_NAMES)
        : null;
    return context.json({
      origins: reports.map(shown),
      ...(names === null ? {} : { names }),
    } satisfies OriginList);
  });
  return routes;
}
