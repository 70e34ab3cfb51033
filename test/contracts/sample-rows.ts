import { createHash } from 'node:crypto';
import type { KeyRow } from '../../worker/access/ports.ts';
import type { VersionRow } from '../../worker/registry/ports.ts';

export const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export function versionRow(name: string, version: number, more: Partial<VersionRow> = {}): VersionRow {
  const digest = digestOf(`${name}@${version}`);
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
    owners: ['clinic'],
    label: "it's; DROP TABLE keys --",
    createdAt: 1_700_000_000_000,
    createdBy: 'bootstrap',
    revokedAt: null,
    expiresAt: null,
    strict: false,
    strictFields: false,
    download: false,
    keepPrompts: null,
    prompts: false,
    degrade: null,
    limits: null,
    limitsFixed: false,
    tenantLimits: null,
    counter: id,
    replacedBy: null,
    replaces: null,
    ...more,
  };
}
