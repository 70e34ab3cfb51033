/** The history of names, and why something was changed: what the admin API takes and answers. */
import { z } from 'zod';
import { AdapterName } from '../identity.ts';
import { MAX_HISTORY_PAGE } from './limits.ts';
import type { AdminOperationTable } from './operation.ts';

/** Longest reason of a change, characters. */
const MAX_WHY = 500;

/** Why something is changed, in the words of who changes it; one line of the history. */
export const Why = z
  .string()
  .trim()
  .min(1)
  .max(MAX_WHY)
  .regex(/^\P{Cc}*$/u, 'must be one line of text');

/** One change of a name. */
export const ChangeView = z.object({
  /** Grows with every change of any name. */
  id: z.int(),
  name: z.string(),
  /** Tenant. */
  owner: z.string(),
  /** Unix ms. */
  at: z.int(),
  /** Id of the key. */
  actor: z.string(),
  /** `publish`, `promote`, `retire` and so on. Any text: there will be others, and a history is only read. */
  action: z.string(),
  /** Live version before; null = none. */
  from: z.int().nullable(),
  /** Version that the change is about. */
  to: z.int().nullable(),
  /** Of an alias; id of an experiment. */
  target: z.string().nullable(),
  why: z.string().nullable(),
});
export type ChangeView = z.infer<typeof ChangeView>;

/** `GET /admin/history?name=&tenant=&before=&limit=`. */
export const ChangeList = z.object({
  /** Newest first. */
  changes: z.array(ChangeView),
  /** Goes on where the answer ends; null at the end. */
  before: z.int().nullable(),
});
export type ChangeList = z.infer<typeof ChangeList>;

const number = (most: number) =>
  z
    .string()
    .regex(/^[1-9]\d{0,14}$/, 'must be a positive whole number')
    .transform(Number)
    .pipe(z.int().max(most));

export const HISTORY_OPERATIONS = {
  'GET /admin/history': {
    id: 'listChanges',
    tag: 'adapters',
    rights: 'admin',
    summary: 'What was changed, the newest first: of one name, or of all of the tenant’s.',
    query: z.strictObject({
      name: AdapterName.optional(),
      /** What it owns; the bootstrap key may name any, others their own. */
      tenant: z.string().max(64).optional(),
      before: number(Number.MAX_SAFE_INTEGER).optional(),
      limit: number(MAX_HISTORY_PAGE).optional(),
    }),
    request: null,
    answers: { 200: { description: 'A page of changes; `before` goes on.', schema: ChangeList } },
  },
} as const satisfies AdminOperationTable;
