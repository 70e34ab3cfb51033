/** Erasing names and tenants for good: what the admin API takes and answers. */
import { z } from 'zod';
import { AdapterName, Scope, Tenant } from '../identity.ts';
import { Why } from './names.ts';
import type { AdminOperationTable } from './operation.ts';

/** In this order; an erasure is at one of them. */
export const ERASE_STEPS = [
  'keys',
  'experiments',
  'names',
  'others',
  'files',
  'origins',
  'traffic',
  'requests',
  'usage',
  'rest',
] as const;
export type EraseStep = (typeof ERASE_STEPS)[number];

/**
 * What was noted of requests that were under way is looked for once more after this time, ms: keys and names are good for
 * a minute or two where KV is behind, a request may then take ten, and it is noted within a minute of its end.
 */
export const ERASE_SETTLE_MS = 15 * 60_000;

/** `POST /admin/erase`. */
export const EraseRequest = z
  .strictObject({
    /** All of a tenant's. Bootstrap key only. */
    tenant: Tenant.nullish(),
    /** A name, or `<name>/**`: that and all below it. */
    name: Scope.refine((name) => name !== '**', 'must be a name or "<name>/**"').nullish(),
    /** Also what of the same owner was made on top of it; what others made on top of it is not served any more. */
    cascade: z.boolean().nullish(),
    /** Also what was used, which bills are made of. */
    usage: z.boolean().nullish(),
    /** For the history. */
    why: Why.nullish(),
    /** Says what would be erased. */
    dry_run: z.boolean().nullish(),
    /** Of the answer before; with it nothing but tenant and name counts. */
    cursor: z
      .string()
      .regex(/^[1-9]\d{0,14}$/, 'is not a cursor of an earlier answer')
      .nullish(),
  })
  .refine(({ tenant, name }) => (tenant == null) !== (name == null), {
    message: 'give a tenant or a name, one of them',
    path: ['name'],
  })
  .meta({ id: 'EraseRequest' });
export type EraseRequest = z.infer<typeof EraseRequest>;

const count = z.int().min(0);

/** What is erased, in numbers. */
export const EraseCounts = z
  .object({
    ...{ names: count, versions: count, aliases: count, pins: count, experiments: count },
    ...{ keys: count, grants: count, rooms: count },
    /** Adapters' files that nobody else has, and their bytes. */
    ...{ files: count, bytes: count },
    /** Sums of traffic, single requests, and hours of usage. */
    ...{ traffic: count, requests: count, usage: count },
  })
  .meta({ id: 'EraseCounts' });
export type EraseCounts = z.infer<typeof EraseCounts>;

export const EraseAnswer = z
  .object({
    /** Tenant whose things these are; null = there is nothing. */
    owner: z.string().nullable(),
    /** What there is, with the first answer: none of `traffic`, `requests` and, but on request, `usage` is counted yet. */
    plan: EraseCounts.nullable(),
    /** Files that stay, since another version or tenant has the same bytes. */
    kept: z.object({ files: count, bytes: count }),
    /** What other owners have made on top of it, and is not served any more. */
    stops: z.object({ versions: count, experiments: count }),
    /** What this request has erased of it. */
    erased: EraseCounts,
    /** Origins that have not dropped all that they may hold: it is tried again each minute, and when this is repeated. */
    unreached: z.array(z.object({ origin: z.string(), files: count, reason: z.string() })),
    /** Where it is; null = at its end, or nothing is done. */
    step: z.string().nullable(),
    /** Goes on; null at the end. */
    cursor: z.string().nullable(),
    /** Unix ms: what was noted of requests that were under way is taken away then; null = nothing is to come. */
    settles_at: z.int().nullable(),
  })
  .meta({ id: 'EraseAnswer' });
export type EraseAnswer = z.infer<typeof EraseAnswer>;

export const ERASE_OPERATIONS = {
  'POST /admin/erase': {
    id: 'erasePage',
    tag: 'operation',
    rights: 'admin',
    summary: 'Erases a name, all below one, or a tenant, for good: a page of the work.',
    description:
      'The first request, without a cursor, takes all of it out of service; `cursor` goes on. Whoever stops asking leaves the rest to the schedule. Repeating it is harmless. Names are their owner’s to erase; a tenant the bootstrap key’s.',
    query: null,
    request: EraseRequest,
    answers: { 200: { description: 'What was erased; `cursor` goes on.', schema: EraseAnswer } },
  },
} as const satisfies AdminOperationTable;

/** @returns what `name` of a request means. */
export const eraseScope = (scope: string): { kind: 'name' | 'below'; name: string } =>
  scope.endsWith('/**')
    ? { kind: 'below', name: AdapterName.parse(scope.slice(0, -3)) }
    : { kind: 'name', name: scope };
