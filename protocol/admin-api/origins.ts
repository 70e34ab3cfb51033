/** Origins, and names whose adapters they keep in memory: requests and answers of the admin API. */
import { z } from 'zod';
import { OriginFigures, BaseInfo, ResidentList } from '../origin-wire.ts';
import { Digest, AdapterName } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

export const OriginView = z
  .object({
    id: z.string(),
    /** Id of the base that the edge's configuration expects; absent if it names none. */
    configured_base: z.string().optional(),
    /** null when it does not answer. */
    base: BaseInfo.nullable(),
    /** Why it has none, in the origin's or the connection's words; only for the bootstrap key. */
    reason: z.string().optional(),
    /** null for everybody but the bootstrap key, like the figures. */
    residents: ResidentList.nullable(),
    /** Only if requested. */
    figures: OriginFigures.nullable().optional(),
  })
  .meta({ id: 'OriginView' });
export type OriginView = z.infer<typeof OriginView>;

/** A version that uses a file. */
export const NamedFile = z
  .object({
    digest: Digest,
    name: z.string(),
    version: z.int(),
    /** Tenant. */
    owner: z.string(),
  })
  .meta({ id: 'NamedFile' });
export type NamedFile = z.infer<typeof NamedFile>;

/** `GET /admin/origins?figures=&names=`. */
export const OriginList = z
  .object({
    origins: z.array(OriginView),
    /** Which adapters the origins hold; only for the bootstrap key and if requested, and possibly incomplete. */
    names: z.array(NamedFile).optional(),
  })
  .meta({ id: 'OriginList' });
export type OriginList = z.infer<typeof OriginList>;

const count = z.int().min(0);

/** `GET /admin/origins/history?origin=&step=`. */
export const OriginHistory = z
  .object({
    origin: z.string(),
    from: z.iso.datetime(),
    to: z.iso.datetime(),
    /** Seconds. */
    step: z.int(),
    /** Maximum of each step; minutes without an answer have none. Oldest first. */
    points: z.array(
      z.object({
        /** Start of the step, unix ms. */
        at: z.int(),
        rows_running: count,
        /** Requests that wait for a row or an adapter. */
        requests_waiting: count,
        slots: count,
        adapters_resident: count,
        adapter_bytes: count,
        /** Resident memory of the process. */
        memory_bytes: count,
      }),
    ),
  })
  .meta({ id: 'OriginHistory' });
export type OriginHistory = z.infer<typeof OriginHistory>;

export const ORIGIN_OPERATIONS = {
  'GET /admin/origins/history': {
    id: 'readOriginHistory',
    tag: 'operation',
    rights: 'operator',
    summary: 'How busy an origin was in the last 24 hours, sampled by the schedule each minute.',
    query: z.strictObject({
      origin: z.string().max(64),
      /** Seconds. */
      step: z.enum(['60', '300']).default('300'),
    }),
    request: null,
    answers: {
      200: { description: 'A point for each step in which the origin answered.', schema: OriginHistory },
    },
  },
  'GET /admin/origins': {
    id: 'listOrigins',
    tag: 'operation',
    rights: 'admin',
    summary: 'Lists the origins; the bootstrap key also sees what they hold and how busy they are.',
    query: z.strictObject({
      /** `true`: include how busy they are. */
      figures: z.enum(['true', 'false']).default('false'),
      /** `true`: include the names of what they hold. */
      names: z.enum(['true', 'false']).default('false'),
    }),
    request: null,
    answers: { 200: { description: 'The origins, with `figures` if asked for.', schema: OriginList } },
  },
} as const satisfies AdminOperationTable;

/** `POST /admin/pins`, and the query of `DELETE /admin/pins`. */
export const PinInput = z.strictObject({ name: AdapterName }).meta({ id: 'PinRequest' });
export type PinInput = z.infer<typeof PinInput>;

/** One origin's answer about one chain. */
export const OriginPin = z
  .object({
    /** Of the origin. */
    id: z.string(),
    ok: z.boolean(),
    /** Why not. */
    reason: z.string().nullable(),
  })
  .meta({ id: 'OriginPin' });
export type OriginPin = z.infer<typeof OriginPin>;

export const PinView = z
  .object({
    name: z.string(),
    /** Unix ms. */
    pinned_at: z.int(),
    /** Id of the key. */
    pinned_by: z.string(),
    /** `name@version`; null = no version is live, so nothing is held. */
    live: z.string().nullable(),
    origins: z.array(OriginPin),
  })
  .meta({ id: 'PinView' });
export type PinView = z.infer<typeof PinView>;

/** `GET`, `POST` and `DELETE /admin/pins`: all pins after the request. */
export const PinList = z.object({ pins: z.array(PinView) }).meta({ id: 'PinList' });
export type PinList = z.infer<typeof PinList>;

/** `POST /admin/warm`. */
export const WarmRequest = z
  .strictObject({
    name: AdapterName,
    /** Default: the live version. */
    version: z.int().positive().nullish(),
  })
  .meta({ id: 'WarmRequest' });
export type WarmRequest = z.infer<typeof WarmRequest>;

/** What one origin did to load a chain. */
export const WarmedOrigin = z
  .object({
    /** Of the origin. */
    id: z.string(),
    ok: z.boolean(),
    /** Why not. */
    reason: z.string().nullable(),
    /** Files that it lacked, and bytes sent now: fewer if it had some of the parts. */
    brought: z.array(z.object({ digest: Digest, bytes: z.int().min(0), ms: z.number().min(0) })),
    /** Total time: transfer and loading. */
    ms: z.number().min(0),
  })
  .meta({ id: 'WarmedOrigin' });
export type WarmedOrigin = z.infer<typeof WarmedOrigin>;

/** `POST /admin/warm`. */
export const WarmAnswer = z
  .object({
    name: z.string(),
    version: z.int().positive(),
    /** In the order in which they were asked; the last one holds it if its `ok` is true. */
    origins: z.array(WarmedOrigin),
  })
  .meta({ id: 'WarmAnswer' });
export type WarmAnswer = z.infer<typeof WarmAnswer>;

const PINS = {
  200: {
    description: 'Lists the pinned names with their state at each origin.',
    schema: PinList,
  },
} as const;

export const PIN_OPERATIONS = {
  'POST /admin/warm': {
    id: 'warmVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Loads a version at the origin that would serve it.',
    query: null,
    request: WarmRequest,
    answers: {
      200: { description: 'The version, and what each asked origin did.', schema: WarmAnswer },
    },
  },
  'GET /admin/pins': {
    id: 'listPins',
    tag: 'operation',
    rights: 'operator',
    summary: 'Lists the names that stay in the memory of every origin. Bootstrap key only.',
    query: null,
    request: null,
    answers: PINS,
  },
  'POST /admin/pins': {
    id: 'pinName',
    tag: 'operation',
    rights: 'operator',
    summary: 'Pins a name. Bootstrap key only.',
    query: null,
    request: PinInput,
    answers: PINS,
  },
  'DELETE /admin/pins': {
    id: 'unpinName',
    tag: 'operation',
    rights: 'operator',
    summary: 'Unpins a name. Bootstrap key only.',
    query: PinInput,
    request: null,
    answers: PINS,
  },
} as const satisfies AdminOperationTable;
