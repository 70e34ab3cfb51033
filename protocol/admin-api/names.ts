/** Names: descriptions, changes, history and removal; requests and answers of the admin API. */
import { z } from 'zod';
import { type AdminOperationTable, MAX_HISTORY_PAGE } from './operation.ts';
import { AdapterName } from '../identity.ts';

export const NameView = z
  .object({
    name: z.string(),
    /** Tenant. */
    owner: z.string(),
    /** Live version; null = all are staged. */
    version: z.int().nullable(),
    /** Highest version; 0 without versions, as for an alias. */
    latest: z.int().min(0),
    /** The name that it stands for. */
    alias: z.string().nullable(),
    /** Neither it nor a name above it answers for a missing name below it. */
    strict: z.boolean(),
    /** Its description; null = none. */
    description: z.string().nullable(),
    /** In their order. */
    tags: z.array(z.string()),
  })
  .meta({ id: 'NameView' });
export type NameView = z.infer<typeof NameView>;

/** `GET /admin/names?prefix=&cursor=`: a page, in alphabetical order. */
export const NameList = z
  .object({ names: z.array(NameView), cursor: z.string().nullable() })
  .meta({ id: 'NameList' });
export type NameList = z.infer<typeof NameList>;

export const NAME_OPERATIONS = {
  'GET /admin/names': {
    id: 'listNames',
    tag: 'adapters',
    rights: 'admin',
    summary: "Lists the tenant's names.",
    query: z.strictObject({
      prefix: z.string().max(256).default(''),
      cursor: z.string().max(256).nullable().default(null),
    }),
    request: null,
    answers: { 200: { description: 'A page of names, in alphabetical order.', schema: NameList } },
  },
} as const satisfies AdminOperationTable;

/** Characters of a reason (`--why`). */
const MAX_WHY = 500;

/** Reason of a change, one line in the history. */
export const Why = z
  .string()
  .trim()
  .min(1)
  .max(MAX_WHY)
  .regex(/^\P{Cc}*$/u, 'must be one line of text');

/** Fields that every change of a name accepts. */
const noteFields = {
  /** For the history. */
  why: Why.nullish(),
  /** Check everything, but change nothing. */
  dry_run: z.boolean().nullish(),
};

/** Characters of a name’s description. */
export const MAX_DESCRIPTION = 500;
/** Tags of a name. */
export const MAX_TAGS = 16;

/** Usual syntax of labels, such as `team:billing`. */
export const Tag = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._:-]{0,39}$/,
    'must be 1 to 40 of a to z, 0 to 9 and . _ : -, and start with a letter or digit',
  );

export const Description = z
  .string()
  .trim()
  .min(1)
  .max(MAX_DESCRIPTION, `has more than ${MAX_DESCRIPTION} characters`)
  .regex(/^\P{Cc}*$/u, 'must be one line of text');

/** In alphabetical order, without duplicates. */
export const Tags = z
  .array(Tag)
  .max(MAX_TAGS)
  .transform((tags) => [...new Set(tags)].sort());

export const AboutName = z.object({
  /** null = none. */
  description: z.string().nullable(),
  tags: z.array(z.string()),
});
export type AboutName = z.infer<typeof AboutName>;

export const NOTHING_SAID: AboutName = { description: null, tags: [] };

/** `POST /admin/edit`. Omitted fields stay. */
export const EditRequest = z
  .strictObject({
    name: AdapterName,
    /** null removes it. */
    description: Description.nullable().optional(),
    /** Replaces all tags. */
    tags: Tags.optional(),
    /** Added to the existing tags, so that concurrent changes are not lost. */
    add_tags: Tags.optional(),
    /** Removed from the existing tags, last. */
    remove_tags: Tags.optional(),
    ...noteFields,
  })
  .refine(
    ({ tags, add_tags: added, remove_tags: taken }) =>
      tags === undefined || (added === undefined && taken === undefined),
    { path: ['tags'], message: 'cannot be combined with add_tags or remove_tags' },
  )
  .meta({ id: 'EditRequest' });
export type EditRequest = z.infer<typeof EditRequest>;

export const EditAnswer = z
  .object({
    name: z.string(),
    ...AboutName.shape,
    /** What it was before. */
    from: AboutName,
  })
  .meta({ id: 'EditAnswer' });
export type EditAnswer = z.infer<typeof EditAnswer>;

export const ABOUT_OPERATIONS = {
  'POST /admin/edit': {
    id: 'editName',
    tag: 'adapters',
    rights: 'admin',
    summary: "Changes a name's description and tags.",
    query: null,
    request: EditRequest,
    answers: { 200: { description: 'Description and tags, now and before.', schema: EditAnswer } },
  },
} as const satisfies AdminOperationTable;

/** Fields that every change of a live version accepts. */
const changeFields = {
  name: AdapterName,
  /** Live version that the caller knows; 0 = none. */
  expect: z.int().min(0).nullish(),
  ...noteFields,
};

/** `POST /admin/promote`. */
export const PromoteRequest = z
  .strictObject({
    ...changeFields,
    /** Default: the newest staged version above the live one. */
    version: z.int().positive().nullish(),
  })
  .meta({ id: 'PromoteRequest' });
export type PromoteRequest = z.infer<typeof PromoteRequest>;

/** `POST /admin/rollback`. */
export const RollbackRequest = z
  .strictObject({
    ...changeFields,
    /** Default: the version that was live before. */
    to: z.int().positive().nullish(),
  })
  .meta({ id: 'RollbackRequest' });
export type RollbackRequest = z.infer<typeof RollbackRequest>;

/** `POST /admin/promote` and `rollback`. */
export const LiveAnswer = z
  .object({
    name: z.string(),
    /** What is live now. */
    version: z.int().positive(),
    /** What was before; null = nothing. */
    from: z.int().nullable(),
  })
  .meta({ id: 'LiveAnswer' });
export type LiveAnswer = z.infer<typeof LiveAnswer>;

/** `POST /admin/retire`. */
export const RetireRequest = z
  .strictObject({
    name: AdapterName,
    version: z.int().positive(),
    ...noteFields,
  })
  .meta({ id: 'RetireRequest' });
export type RetireRequest = z.infer<typeof RetireRequest>;

export const RetireAnswer = z
  .object({
    name: z.string(),
    version: z.int().positive(),
    /** Unix ms. */
    retired_at: z.int(),
    /**
     * What other owners built with it, and is no longer served: versions on top of it, and experiments that use
     * any of these.
     */
    stops: z.object({ versions: z.int().min(0), experiments: z.int().min(0) }),
  })
  .meta({ id: 'RetireAnswer' });
export type RetireAnswer = z.infer<typeof RetireAnswer>;

/** `POST /admin/alias`. */
export const AliasRequest = z
  .strictObject({
    name: AdapterName,
    /** Target of the alias; null removes the alias. */
    target: AdapterName.nullable(),
    ...noteFields,
  })
  .meta({ id: 'AliasRequest' });
export type AliasRequest = z.infer<typeof AliasRequest>;

export const AliasAnswer = z
  .object({
    name: z.string(),
    /** Its target now; null = none. */
    target: z.string().nullable(),
    /** Its previous target; null = none. */
    from: z.string().nullable(),
    /** For the bootstrap key, if a new name lies between names of other tenants. */
    notice: z.string().optional(),
  })
  .meta({ id: 'AliasAnswer' });
export type AliasAnswer = z.infer<typeof AliasAnswer>;

/** `POST /admin/strict`. */
export const StrictRequest = z
  .strictObject({
    name: AdapterName,
    /** false makes the name inheritable again. */
    strict: z.boolean(),
    ...noteFields,
  })
  .meta({ id: 'StrictRequest' });
export type StrictRequest = z.infer<typeof StrictRequest>;

export const StrictAnswer = z
  .object({
    name: z.string(),
    strict: z.boolean(),
    /** What it was before. */
    from: z.boolean(),
  })
  .meta({ id: 'StrictAnswer' });
export type StrictAnswer = z.infer<typeof StrictAnswer>;

const WENT_LIVE = {
  200: { description: 'The version that is live now, and the one before.', schema: LiveAnswer },
} as const;

export const CHANGE_OPERATIONS = {
  'POST /admin/promote': {
    id: 'promoteVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Promotes a staged version; by default the newest one above the live version.',
    query: null,
    request: PromoteRequest,
    answers: WENT_LIVE,
  },
  'POST /admin/rollback': {
    id: 'rollbackVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Rolls back to an earlier version.',
    query: null,
    request: RollbackRequest,
    answers: WENT_LIVE,
  },
  'POST /admin/retire': {
    id: 'retireVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Retires a version.',
    query: null,
    request: RetireRequest,
    answers: { 200: { description: 'The version, and when it was retired.', schema: RetireAnswer } },
  },
  'POST /admin/alias': {
    id: 'aliasName',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Makes a name without versions an alias of another, or removes the alias.',
    query: null,
    request: AliasRequest,
    answers: { 200: { description: 'The alias target, now and before.', schema: AliasAnswer } },
  },
  'POST /admin/strict': {
    id: 'markStrict',
    tag: 'adapters',
    rights: 'admin',
    summary:
      'Makes a name strict or inheritable. Requests for missing names below a strict name are not served ' +
      'by it or its ancestors.',
    query: null,
    request: StrictRequest,
    answers: {
      200: { description: 'Whether the name is strict, now and before.', schema: StrictAnswer },
    },
  },
} as const satisfies AdminOperationTable;

/** How long a removed name or version can be restored. */
// A week's holiday and no more.
export const REMOVAL_GRACE_MS = 7 * 86_400_000;

const removalFields = {
  name: AdapterName,
  /** Default: the whole name. */
  version: z.int().positive().nullish(),
  ...noteFields,
};

/** `POST /admin/remove`. */
export const RemoveRequest = z
  .strictObject({
    ...removalFields,
    /** Also what the same owner built on it, its aliases and its pins. */
    cascade: z.boolean().nullish(),
  })
  .meta({ id: 'RemoveRequest' });
export type RemoveRequest = z.infer<typeof RemoveRequest>;

/** A name, or some of its versions, that is removed or restored. */
export const ChangedName = z
  .object({
    name: z.string(),
    /** Whether the name itself disappears, or reappears. */
    whole: z.boolean(),
    /** In their order. */
    versions: z.array(z.int().positive()),
    /**
     * The live version before the removal, and again after a restore; null = none, or only other versions are
     * affected.
     */
    live: z.int().positive().nullable(),
    /** Of an alias: its target, before and after. */
    alias: z.string().nullable(),
  })
  .meta({ id: 'ChangedName' });
export type ChangedName = z.infer<typeof ChangedName>;

export const RemoveAnswer = z
  .object({
    /** The named one comes first. */
    removed: z.array(ChangedName),
    /** Names whose pins in the origins' memory were removed. */
    unpinned: z.array(z.string()),
    /** What other owners built with it, and is no longer served: versions on top of it, and experiments. */
    stops: z.object({ versions: z.int().min(0), experiments: z.int().min(0) }),
    /** Unix ms. */
    removed_at: z.int(),
    /** Unix ms: until then `POST /admin/restore` brings it back. */
    restorable_until: z.int(),
  })
  .meta({ id: 'RemoveAnswer' });
export type RemoveAnswer = z.infer<typeof RemoveAnswer>;

/** `POST /admin/restore`. */
export const RestoreRequest = z
  .strictObject({
    ...removalFields,
    /** Also everything that was removed together with it. */
    cascade: z.boolean().nullish(),
  })
  .meta({ id: 'RestoreRequest' });
export type RestoreRequest = z.infer<typeof RestoreRequest>;

export const RestoreAnswer = z.object({ restored: z.array(ChangedName) }).meta({ id: 'RestoreAnswer' });
export type RestoreAnswer = z.infer<typeof RestoreAnswer>;

/** A name that can be restored, wholly or partly. */
export const RemovedName = z
  .object({
    name: z.string(),
    owner: z.string(),
    /** The name itself is removed, not only some of its versions. */
    whole: z.boolean(),
    /** Versions that can be restored, in order; none for an alias. */
    versions: z.array(z.int().positive()),
    /** Unix ms: when the first of them was removed … */
    removed_at: z.int(),
    /** … and until when that one can be restored. */
    restorable_until: z.int(),
  })
  .meta({ id: 'RemovedName' });
export type RemovedName = z.infer<typeof RemovedName>;

/** `GET /admin/removed?prefix=&cursor=`: a page, in alphabetical order. */
export const RemovedList = z
  .object({ removed: z.array(RemovedName), cursor: z.string().nullable() })
  .meta({ id: 'RemovedList' });
export type RemovedList = z.infer<typeof RemovedList>;

export const REMOVAL_OPERATIONS = {
  'GET /admin/removed': {
    id: 'listRemoved',
    tag: 'adapters',
    rights: 'admin',
    summary: "Lists the tenant's names with removed versions that can be restored.",
    query: z.strictObject({
      prefix: z.string().max(256).default(''),
      cursor: z.string().max(256).nullable().default(null),
    }),
    request: null,
    answers: { 200: { description: 'A page of names, in alphabetical order.', schema: RemovedList } },
  },
  'POST /admin/remove': {
    id: 'removeName',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Removes a name or one of its versions; it can be restored for seven days.',
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
    summary: 'Restores what was removed: the same versions, with the same one live.',
    query: null,
    request: RestoreRequest,
    answers: { 200: { description: 'What was restored.', schema: RestoreAnswer } },
  },
} as const satisfies AdminOperationTable;

/** One change of a name. */
export const ChangeView = z
  .object({
    /** Increases with every change of any name. */
    id: z.int(),
    name: z.string(),
    /** Tenant. */
    owner: z.string(),
    /** Unix ms. */
    at: z.int(),
    /** Id of the key. */
    actor: z.string(),
    /**
     * `publish`, `promote`, `retire` and so on. Any text is accepted: there will be more, and a history is only
     * read.
     */
    action: z.string(),
    /** Live version before; null = none. */
    from: z.int().nullable(),
    /** Version that was changed. */
    to: z.int().nullable(),
    /** Target of an alias, or id of an experiment. */
    target: z.string().nullable(),
    why: z.string().nullable(),
  })
  .meta({ id: 'ChangeView' });
export type ChangeView = z.infer<typeof ChangeView>;

/** `GET /admin/history?name=&tenant=&before=&limit=`. */
export const ChangeList = z
  .object({
    /** Newest first. */
    changes: z.array(ChangeView),
    /** Cursor of the next page; null at the end. */
    before: z.int().nullable(),
  })
  .meta({ id: 'ChangeList' });
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
    summary: 'Lists changes, newest first: of one name, or of all of the tenant’s names.',
    query: z.strictObject({
      name: AdapterName.optional(),
      /** Owner of the names; only the bootstrap key may name another tenant. */
      tenant: z.string().max(64).optional(),
      before: number(Number.MAX_SAFE_INTEGER).optional(),
      limit: number(MAX_HISTORY_PAGE).optional(),
    }),
    request: null,
    answers: {
      200: { description: 'A page of changes; pass `before` to get the next.', schema: ChangeList },
    },
  },
} as const satisfies AdminOperationTable;
