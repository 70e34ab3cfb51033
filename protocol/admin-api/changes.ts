/** Changes of names: what the admin API takes and answers. */
import { z } from 'zod';
import { AdapterName } from '../identity.ts';
import { Why } from './history.ts';
import type { AdminOperationTable } from './operation.ts';

/** What every change of a name takes. */
const noteFields = {
  /** For the history. */
  why: Why.nullish(),
  /** Everything is checked, and nothing changed. */
  dry_run: z.boolean().nullish(),
};

/** What every change of a name's live version takes. */
const changeFields = {
  name: AdapterName,
  /** Live version that the caller knows of; 0 = none. */
  expect: z.int().min(0).nullish(),
  ...noteFields,
};

/** `POST /admin/promote`. */
export const PromoteRequest = z.strictObject({
  ...changeFields,
  /** The newest staged one above the live one unless given. */
  version: z.int().positive().nullish(),
});
export type PromoteRequest = z.infer<typeof PromoteRequest>;

/** `POST /admin/rollback`. */
export const RollbackRequest = z.strictObject({
  ...changeFields,
  /** The one that was live before unless given. */
  to: z.int().positive().nullish(),
});
export type RollbackRequest = z.infer<typeof RollbackRequest>;

/** `POST /admin/promote` and `rollback`. */
export const LiveAnswer = z.object({
  name: z.string(),
  /** What is live now. */
  version: z.int().positive(),
  /** What was before; null = nothing. */
  from: z.int().nullable(),
});
export type LiveAnswer = z.infer<typeof LiveAnswer>;

/** `POST /admin/retire`. */
export const RetireRequest = z.strictObject({
  name: AdapterName,
  version: z.int().positive(),
  ...noteFields,
});
export type RetireRequest = z.infer<typeof RetireRequest>;

export const RetireAnswer = z.object({
  name: z.string(),
  version: z.int().positive(),
  /** Unix ms. */
  retired_at: z.int(),
  /**
   * What other owners have made with it, and is not served any more: versions on top of it, and experiments that name it
   * or one of these. Edges from before do not say.
   */
  stops: z
    .object({ versions: z.int().min(0), experiments: z.int().min(0) })
    .default({ versions: 0, experiments: 0 }),
});
export type RetireAnswer = z.infer<typeof RetireAnswer>;

/** `POST /admin/alias`. */
export const AliasRequest = z.strictObject({
  name: AdapterName,
  /** Name that it is to stand for; null takes the alias away. */
  target: AdapterName.nullable(),
  ...noteFields,
});
export type AliasRequest = z.infer<typeof AliasRequest>;

export const AliasAnswer = z.object({
  name: z.string(),
  /** What it stands for now; null = nothing. */
  target: z.string().nullable(),
  /** What it stood for before; null = nothing. */
  from: z.string().nullable(),
  /** To the bootstrap key, of a new name among other tenants' names. */
  notice: z.string().optional(),
});
export type AliasAnswer = z.infer<typeof AliasAnswer>;

/** `POST /admin/strict`. */
export const StrictRequest = z.strictObject({
  name: AdapterName,
  /** false takes the mark away. */
  strict: z.boolean(),
  ...noteFields,
});
export type StrictRequest = z.infer<typeof StrictRequest>;

export const StrictAnswer = z.object({
  name: z.string(),
  strict: z.boolean(),
  /** What it was before. */
  from: z.boolean(),
});
export type StrictAnswer = z.infer<typeof StrictAnswer>;

const WENT_LIVE = {
  200: { description: 'The version that is live now, and the one before.', schema: LiveAnswer },
} as const;

export const CHANGE_OPERATIONS = {
  'POST /admin/promote': {
    id: 'promoteVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Makes a staged version the live one; the newest above the live one unless given.',
    query: null,
    request: PromoteRequest,
    answers: WENT_LIVE,
  },
  'POST /admin/rollback': {
    id: 'rollbackVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Makes an earlier version the live one again.',
    query: null,
    request: RollbackRequest,
    answers: WENT_LIVE,
  },
  'POST /admin/retire': {
    id: 'retireVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Takes a version out of use.',
    query: null,
    request: RetireRequest,
    answers: { 200: { description: 'The version, and since when it is retired.', schema: RetireAnswer } },
  },
  'POST /admin/alias': {
    id: 'aliasName',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Makes a name without versions stand for another, or ends that.',
    query: null,
    request: AliasRequest,
    answers: { 200: { description: 'What the name stands for now, and before.', schema: AliasAnswer } },
  },
  'POST /admin/strict': {
    id: 'markStrict',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Lets no missing name below this one be answered by it or by what is above it, or ends that.',
    query: null,
    request: StrictRequest,
    answers: {
      200: { description: 'Whether the name is strict now, and was before.', schema: StrictAnswer },
    },
  },
} as const satisfies AdminOperationTable;
