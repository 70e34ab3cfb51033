/** What gatherers have on disk. */
import type { RequestView } from '../../../protocol/admin-api/traffic.ts';
import { unpackUsage } from '../../../worker/gathering/sum-usage.ts';
import type { PromptRow } from '../../../worker/prompts/ports.ts';
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

/** Usage that D1 gets later. @returns `at`: the end of its hour, unix ms. */
export function summedUsage({ world }: Simulation) {
  const rows = world.objects.get('GATHERERS')?.select<{ usage: string }>('SELECT usage FROM sums');
  return (rows ?? [])
    .flatMap(({ usage }) => unpackUsage(usage))
    .map(({ hour, tenant, keyId }) => ({ at: (hour + 1) * 3_600_000, tenant, keyId }));
}

/** Prompts that D1 gets within seconds. */
export function waitingPrompts({ world }: Simulation): PromptRow[] {
  const rows = world.objects.get('GATHERERS')?.select<{ prompts: string }>('SELECT prompts FROM prompts');
  return (rows ?? []).flatMap(({ prompts }) => JSON.parse(prompts) as PromptRow[]);
}
