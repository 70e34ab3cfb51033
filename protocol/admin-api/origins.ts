/** Origins: what the admin API takes and answers. */
import { z } from 'zod';
import { OriginFigures } from '../origin-figures.ts';
import { Digest } from '../identity.ts';
import { BaseInfo, ResidentList } from '../origin-request.ts';
import type { AdminOperationTable } from './operation.ts';

export const OriginView = z.object({
  id: z.string(),
  /** Id of the base that the edge's configuration has it serve; absent where it does not say. */
  configured_base: z.string().optional(),
  /** null when it does not answer. */
  base: BaseInfo.nullable(),
  /** null also for all but the bootstrap key, as the figures. */
  residents: ResidentList.nullable(),
  /** Only where they were asked for. */
  figures: OriginFigures.nullable().optional(),
});
export type OriginView = z.infer<typeof OriginView>;

/** A version that the registry knows a file by. */
export const NamedFile = z.object({
  digest: Digest,
  name: z.string(),
  version: z.int(),
  /** Tenant. */
  owner: z.string(),
});
export type NamedFile = z.infer<typeof NamedFile>;

/** `GET /admin/origins?figures=&names=`. */
export const OriginList = z.object({
  origins: z.array(OriginView),
  /** What the adapters are that the origins hold, to the bootstrap key where it was asked for; not of all if many. */
  names: z.array(NamedFile).optional(),
});
export type OriginList = z.infer<typeof OriginList>;

const count = z.int().min(0);

/** `GET /admin/origins/history?origin=&step=`. */
export const OriginHistory = z.object({
  origin: z.string(),
  from: z.iso.datetime(),
  to: z.iso.datetime(),
  /** Seconds. */
  step: z.int(),
  /** The most of each step; a minute in which it did not answer has none. Oldest first. */
  points: z.array(
    z.object({
      /** Where the step begins, unix ms. */
      at: z.int(),
      rows_running: count,
      /** For a row, or for an adapter. */
      requests_waiting: count,
      slots: count,
      adapters_resident: count,
      adapter_bytes: count,
      /** Resident memory of the process. */
      memory_bytes: count,
    }),
  ),
});
export type OriginHistory = z.infer<typeof OriginHistory>;

export const ORIGIN_OPERATIONS = {
  'GET /admin/origins/history': {
    id: 'readOriginHistory',
    tag: 'operation',
    rights: 'operator',
    summary: 'How busy an origin was in the last 24 hours, as the schedule saw it each minute.',
    query: z.strictObject({
      origin: z.string().max(64),
      /** Seconds. */
      step: z.enum(['60', '300']).default('300'),
    }),
    request: null,
    answers: { 200: { description: 'A point for each step in which it answered.', schema: OriginHistory } },
  },
  'GET /admin/origins': {
    id: 'listOrigins',
    tag: 'operation',
    rights: 'admin',
    summary: 'The origins, and to the bootstrap key what they hold and how busy they are.',
    query: z.strictObject({
      /** `true`: how busy they are, too. */
      figures: z.enum(['true', 'false']).default('false'),
      /** `true`: names of what they hold, too. */
      names: z.enum(['true', 'false']).default('false'),
    }),
    request: null,
    answers: { 200: { description: 'All of them, with `figures` where asked for.', schema: OriginList } },
  },
} as const satisfies AdminOperationTable;
