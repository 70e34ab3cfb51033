/** Pinned names: what the admin API takes and answers. */
import { z } from 'zod';
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

const PINS = {
  200: {
    description: 'Every pinned name as it is now, with what each origin says of it.',
    schema: PinList,
  },
} as const;

export const PIN_OPERATIONS = {
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
