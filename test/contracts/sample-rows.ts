import { createHash } from 'node:crypto';
import { NO_RIGHTS } from '../../protocol/admin-api/keys.ts';
import type { RequestView } from '../../protocol/admin-api/traffic.ts';
import type { KeyRow } from '../../worker/access/ports.ts';
import type { ExperimentRow } from '../../worker/experiments/ports.ts';
import type { OriginMinute } from '../../worker/origins/ports.ts';
import type { VersionRow } from '../../worker/registry/ports.ts';
import { addTraffic, rowOf, type TrafficRows } from '../../worker/traffic/sum-traffic.ts';
import { experimentOf } from '../worker/experiments/sample-experiment.ts';

export const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export function versionRow(name: string, version: number, more: Partial<VersionRow> = {}): VersionRow {
  const digest = more.digest ?? digestOf(`${name}@${version}`);
  const owner = more.owner ?? 'default';
  return {
    name,
    version,
    digest,
    owner,
    chain: [{ digest, scale: 1, name, owner }],
    chainId: digestOf(`chain ${name}@${version}`),
    parent: null,
    base: { id: 'tiny', digest: digestOf('tiny') },
    bytes: 100,
    rank: 8,
    rankSum: 8,
    createdAt: 1_700_000_000_000 + version,
    createdBy: 'bootstrap',
    proof: null,
    evaluation: null,
    retiredAt: null,
    withdrawnAt: null,
    ...more,
  };
}

export function keyRow(id: string, more: Partial<KeyRow> = {}): KeyRow {
  return {
    id,
    hash: digestOf(id),
    kind: 'api',
    tenant: 'default',
    scopes: ['medicine/**'],
    scope_owners: ['clinic'],
    label: "it's; DROP TABLE keys --",
    created_at: 1_700_000_000_000,
    created_by: 'bootstrap',
    revoked_at: null,
    expires_at: null,
    ...NO_RIGHTS,
    limits_fixed: false,
    tenant_limits: null,
    counter: id,
    replaced_by: null,
    replaces: null,
    ...more,
  };
}

/** For tests of something else. */
export const NO_CAPS = { holder: 99, pair: 99, giver: 99 };

export const experimentId = (letter: string): string => `exp_${letter.repeat(16)}`;

export function experimentRow(
  letter: string,
  changes: Record<string, unknown> = {},
  more: Partial<ExperimentRow> = {},
): ExperimentRow {
  const document = experimentOf({ status: 'draft', ...changes });
  return {
    id: experimentId(letter),
    owner: 'default',
    document,
    seeds: [document.seed],
    createdAt: 1_700_000_000_000 + letter.charCodeAt(0),
    createdBy: 'key_1',
    startedAt: null,
    coverageAt: null,
    stepUnits: 0,
    endedAt: null,
    proposal: null,
    evaluation: null,
    ...more,
  };
}

export const MINUTE: OriginMinute = {
  ...{ origin: 'o1', at: 600, rowsRunning: 2, requestsWaiting: 1, slots: 8 },
  ...{ adaptersResident: 3, adapterBytes: 400, memoryBytes: 5_000 },
};

/** 2026-03-31T22:58:30Z */
export const ENDED_AT = Date.UTC(2026, 2, 31, 22, 58, 30);

export const ended = (more: Partial<RequestView> = {}): RequestView => ({
  ...{ id: 'r1', at: ENDED_AT, tenant: 'me', key_id: 'key_1', name: 'notes', version: 1 },
  ...{ route: '/v1/chat/completions', status: 200, code: '', stream: true, experiment: '', variant: '' },
  ...{ origin: 'o1', degraded: '', cold: false, prompt_tokens: 10, completion_tokens: 5 },
  ...{ duration_ms: 800, ttft_ms: 90, phases: [{ name: 'origin-first', ms: 70.5 }] },
  ...more,
});

/** An hour of a gatherer, with the totals. */
export function trafficHour(requests: readonly RequestView[], writer = 1) {
  const at = 3_600 * Math.floor(ENDED_AT / 3_600_000);
  const rows: TrafficRows = new Map();
  for (const request of requests) {
    const row = { ...rowOf(request), at };
    for (const one of [row, { ...row, name: '', keyId: '' }, { ...row, tenant: '', name: '', keyId: '' }])
      addTraffic(rows, one);
  }
  return { at, writer, rows: [...rows.values()] };
}
