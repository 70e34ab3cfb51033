/** What gatherers have on disk. */
import type { RequestView } from '../../../protocol/admin-api/traffic.ts';
import { type PackedRow, unpackRequests } from '../../../worker/traffic/pack-traffic.ts';
import type { Simulation } from '../simulation.ts';

/** Requests of all lists. */
export function listedRequests({ world }: Simulation): RequestView[] {
  const rows = world.objects
    .get('GATHERERS')
    ?.select<{ tenant: string; requests: string }>('SELECT tenant, requests FROM requests');
  return (rows ?? []).flatMap(({ tenant, requests }) => unpackRequests(requests, tenant));
}

/** Series of all minutes. @returns `at` in seconds. */
export function countedMinutes({ world }: Simulation) {
  const rows = world.objects.get('GATHERERS')?.select<{ traffic: string }>('SELECT traffic FROM minutes');
  return (rows ?? [])
    .flatMap(({ traffic }) => JSON.parse(traffic) as PackedRow[])
    .map(([at, tenant, name, keyId]) => ({ at, tenant, name, keyId }));
}
