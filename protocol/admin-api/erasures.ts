/** Erasing names and tenants permanently: requests and answers of the admin API. */
import { z } from 'zod';
import { AdapterName, Scope, Tenant } from '../identity.ts';
import { Why } from './names.ts';
import type { AdminOperationTable } from './operation.ts';

/** Steps of an erasure, in this order. */
export const ERASE_STEPS = [
  'keys',
  'experiments',
  'names',
  'others',
  'files',
  'training',
  'origins',
  'traffic',
  'requests',
  'usage',
  'rest',
] as const;
export type EraseStep = (typeof ERASE_STEPS)[number];

/**
 * Records of requests still in progress are searched again after this time, ms: keys and names stay valid for
 * up to two minutes where KV lags, a request may then take ten, and it is recorded within a minute of its end.
 */
export const ERASE_SETTLE_MS = 15 * 60_000;

/** `POST /admin/erase`. */
export const EraseRequest = z
  .strictObject({
    /** Everything of a tenant. Bootstrap key only. */
    tenant: Tenant.nullish(),
    /** A name, or `<name>/**`: the name and everything below it. */
    name: Scope.refine((name) => name !== '**', 'must be a name or "<name>/**"').nullish(),
    /** Also what the same owner built on it. What others built on it is no longer served. */
    cascade: z.boolean().nullish(),
    /** Also usage records, which bills are based on. */
    usage: z.boolean().nullish(),
    /** For the history. */
    why: Why.nullish(),
    /** Only reports what would be erased. */
    dry_run: z.boolean().nullish(),
    /** Of the previous answer; all other fields but tenant and name are then ignored. */
    cursor: z
      .string()
      .regex(/^[1-9]\d{0,14}$/, 'is not a cursor from an earlier response')
      .nullish(),
  })
  .refine(({ tenant, name }) => (tenant == null) !== (name == null), {
    message: 'give either a tenant or a name',
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
    /** Adapter files that nobody else has, and their bytes. */
    ...{ files: count, bytes: count },
    /** Files of rows, fine-tuning jobs, and kept evaluations. */
    ...{ row_files: count, jobs: count, evaluations: count },
    /** Traffic sums, single requests, and hours of usage. */
    ...{ traffic: count, requests: count, usage: count },
  })
  .meta({ id: 'EraseCounts' });
export type EraseCounts = z.infer<typeof EraseCounts>;

export const EraseAnswer = z
  .object({
    /** Owner of what is erased; null = there is nothing. */
    owner: z.string().nullable(),
    /**
     * What exists, in the first answer only. `traffic` and `requests` are not counted yet, nor is `usage` unless
     * requested.
     */
    plan: EraseCounts.nullable(),
    /** Files that stay because another version or tenant has the same bytes. */
    kept: z.object({ files: count, bytes: count }),
    /** What other owners built on it, and is no longer served. */
    stops: z.object({ versions: count, experiments: count }),
    /** What this request erased of it. */
    erased: EraseCounts,
    /**
     * Origins that have not dropped everything yet: the edge retries each minute, and when the request is
     * repeated.
     */
    unreached: z.array(z.object({ origin: z.string(), files: count, reason: z.string() })),
    /** Current step; null = finished, or dry run. */
    step: z.string().nullable(),
    /** Cursor of the next page; null at the end. */
    cursor: z.string().nullable(),
    /** Unix ms: when records of requests in progress are erased; null = none are left. */
    settles_at: z.int().nullable(),
  })
  .meta({ id: 'EraseAnswer' });
export type EraseAnswer = z.infer<typeof EraseAnswer>;

export const ERASE_OPERATIONS = {
  'POST /admin/erase': {
    id: 'erasePage',
    tag: 'operation',
    rights: 'admin',
    summary: 'Erases a name, everything below a name, or a tenant permanently, one page at a time.',
    description:
      'The first request, without a cursor, takes everything out of service. Pass `cursor` to ' +
      "continue; if you stop, the worker's schedule finishes the rest. Repeating a request is " +
      'harmless. Only its owner can erase a name; only the bootstrap key can erase a tenant.',
    query: null,
    request: EraseRequest,
    answers: { 200: { description: 'What was erased; pass `cursor` to continue.', schema: EraseAnswer } },
  },
} as const satisfies AdminOperationTable;

/** @returns what `name` of a request covers. */
export const eraseScope = (scope: string): { kind: 'name' | 'below'; name: string } =>
  scope.endsWith('/**')
    ? { kind: 'below', name: AdapterName.parse(scope.slice(0, -3)) }
    : { kind: 'name', name: scope };
