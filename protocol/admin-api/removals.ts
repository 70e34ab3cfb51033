/** Removing names and versions, and bringing them back: what the admin API takes and answers. */
import { z } from 'zod';
import { AdapterName } from '../identity.ts';
import { Why } from './history.ts';
import type { AdminOperationTable } from './operation.ts';

/** How long what was removed can be restored, ms: seven days, a week's holiday and no more. */
export const REMOVAL_GRACE_MS = 7 * 86_400_000;

const fields = {
  name: AdapterName,
  /** The whole name unless given. */
  version: z.int().positive().nullish(),
  /** For the history. */
  why: Why.nullish(),
  /** Everything is checked, and nothing changed. */
  dry_run: z.boolean().nullish(),
};

/** `POST /admin/remove`. */
export const RemoveRequest = z.strictObject({
  ...fields,
  /** Also what of the same owner was made on top of it, and aliases and pins of what goes. */
  cascade: z.boolean().nullish(),
});
export type RemoveRequest = z.infer<typeof RemoveRequest>;

/** A name, or some of its versions, that is removed or brought back. */
export const ChangedName = z.object({
  name: z.string(),
  /** The name itself: it was there, and is not any more; or the other way round. */
  whole: z.boolean(),
  /** In their order. */
  versions: z.array(z.int().positive()),
  /** The live one, before it was removed and again when it is restored; null = none, or not of the name's whole. */
  live: z.int().positive().nullable(),
  /** Of an alias: what it stood for, and stands for again. */
  alias: z.string().nullable(),
});
export type ChangedName = z.infer<typeof ChangedName>;

export const RemoveAnswer = z.object({
  /** The one that was named comes first. */
  removed: z.array(ChangedName),
  /** Names that were pinned in the origins' memory, and are not any more. */
  unpinned: z.array(z.string()),
  /** What other owners have made with it, and is not served any more: versions on top of it, and experiments. */
  stops: z.object({ versions: z.int().min(0), experiments: z.int().min(0) }),
  /** Unix ms. */
  removed_at: z.int(),
  /** Unix ms: until then `POST /admin/restore` brings it back. */
  restorable_until: z.int(),
});
export type RemoveAnswer = z.infer<typeof RemoveAnswer>;

/** `POST /admin/restore`. */
export const RestoreRequest = z.strictObject({
  ...fields,
  /** Also all that was removed together with it. */
  cascade: z.boolean().nullish(),
});
export type RestoreRequest = z.infer<typeof RestoreRequest>;

export const RestoreAnswer = z.object({ restored: z.array(ChangedName) });
export type RestoreAnswer = z.infer<typeof RestoreAnswer>;

/** A name of which something can be restored. */
export const RemovedName = z.object({
  name: z.string(),
  owner: z.string(),
  /** The name itself is removed, not only versions of it. */
  whole: z.boolean(),
  /** That are removed and can be restored, in their order; none of an alias. */
  versions: z.array(z.int().positive()),
  /** Unix ms: when the first of them was removed … */
  removed_at: z.int(),
  /** … and until when that one can be restored. */
  restorable_until: z.int(),
});
export type RemovedName = z.infer<typeof RemovedName>;

/** `GET /admin/removed?prefix=&cursor=`: a page, in the names' order. */
export const RemovedList = z.object({ removed: z.array(RemovedName), cursor: z.string().nullable() });
export type RemovedList = z.infer<typeof RemovedList>;

export const REMOVAL_OPERATIONS = {
  'GET /admin/removed': {
    id: 'listRemoved',
    tag: 'adapters',
    rights: 'admin',
    summary: "The tenant's names of which something was removed and can be restored.",
    query: z.strictObject({
      prefix: z.string().max(256).default(''),
      cursor: z.string().max(256).nullable().default(null),
    }),
    request: null,
    answers: { 200: { description: "A page of them, in the names' order.", schema: RemovedList } },
  },
  'POST /admin/remove': {
    id: 'removeName',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Removes a name, or a version of it; for seven days it can be restored.',
    query: null,
    request: RemoveRequest,
    answers: {
      200: { description: 'What was removed, and until when it can be restored.', schema: RemoveAnswer },
    },
  },
  'POST /admin/restore': {
    id: 'restoreName',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Brings back what was removed: the same versions, and the live one as it was.',
    query: null,
    request: RestoreRequest,
    answers: { 200: { description: 'What is there again.', schema: RestoreAnswer } },
  },
} as const satisfies AdminOperationTable;
