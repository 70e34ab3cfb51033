/** Names whose adapters origins have in memory before anybody asks: what the admin API takes and answers. */
import { z } from 'zod';
import { Digest } from '../identity.ts';
import { AdapterName } from '../names.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/pins`, and the query of `DELETE /admin/pins`. */
export const PinInput = z.strictObject({ name: AdapterName });
export type PinInput = z.infer<typeof PinInput>;

/** One origin's word on one chain. */
export const OriginPin = z.object({
  /** Of the origin. */
  id: z.string(),
  ok: z.boolean(),
  /** Why not. */
  reason: z.string().nullable(),
});
export type OriginPin = z.infer<typeof OriginPin>;

export const PinView = z.object({
  name: z.string(),
  /** Unix ms. */
  pinned_at: z.int(),
  /** Id of the key. */
  pinned_by: z.string(),
  /** `name@version`; null = nothing of it is live, and nothing is held. */
  live: z.string().nullable(),
  origins: z.array(OriginPin),
});
export type PinView = z.infer<typeof PinView>;

/** `GET`, `POST` and `DELETE /admin/pins`: all of them, as they are after it. */
export const PinList = z.object({ pins: z.array(PinView) });
export type PinList = z.infer<typeof PinList>;

/** `POST /admin/warm`. */
export const WarmRequest = z.strictObject({
  name: AdapterName,
  /** The live one unless given. */
  version: z.int().positive().nullish(),
});
export type WarmRequest = z.infer<typeof WarmRequest>;

/** What one origin did to have a chain in memory. */
export const WarmedOrigin = z.object({
  /** Of the origin. */
  id: z.string(),
  ok: z.boolean(),
  /** Why not. */
  reason: z.string().nullable(),
  /** Files that it lacked; bytes that were sent now, which are fewer where it had some of the parts. */
  brought: z.array(z.object({ digest: Digest, bytes: z.int().min(0), ms: z.number().min(0) })),
  /** All of it: what was brought, and loading. */
  ms: z.number().min(0),
});
export type WarmedOrigin = z.infer<typeof WarmedOrigin>;

/** `POST /admin/warm`. */
export const WarmAnswer = z.object({
  name: z.string(),
  version: z.int().positive(),
  /** In the order in which they were asked; the last one has it when its `ok` is true. */
  origins: z.array(WarmedOrigin),
});
export type WarmAnswer = z.infer<typeof WarmAnswer>;

const PINS = {
  200: {
    description: 'Every pinned name as it is now, with what each origin says of it.',
    schema: PinList,
  },
} as const;

export const PIN_OPERATIONS = {
  'POST /admin/warm': {
    id: 'warmVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Has the origin that would serve a version load it now.',
    query: null,
    request: WarmRequest,
    answers: {
      200: { description: 'The version, and what each origin that was asked did.', schema: WarmAnswer },
    },
  },
  'GET /admin/pins': {
    id: 'listPins',
    tag: 'operation',
    rights: 'operator',
    summary: 'Names that stay in the memory of every origin. Bootstrap key only.',
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
