/** Names: what their owners say of them, changes of them and their history, removal; what the admin API takes and answers. */
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
    /** Highest version; 0 when it has none, as an alias. */
    latest: z.int().min(0),
    /** The name that it stands for. */
    alias: z.string().nullable(),
    /** A missing name below it is answered neither by it nor by what is above it. */
    strict: z.boolean(),
    /** What its owner says of it; null = nothing. */
    description: z.string().nullable(),
    /** In their order. */
    tags: z.array(z.string()),
  })
  .meta({ id: 'NameView' });
export type NameView = z.infer<typeof NameView>;

/** `GET /admin/names?prefix=&cursor=`: a page, in the names' order. */
export const NameList = z
  .object({ names: z.array(NameView), cursor: z.string().nullable() })
  .meta({ id: 'NameList' });
export type NameList = z.infer<typeof NameList>;

export const NAME_OPERATIONS = {
  'GET /admin/names': {
    id: 'listNames',
    tag: 'adapters',
    rights: 'admin',
    summary: "The tenant's names.",
    query: z.strictObject({
      prefix: z.string().max(256).default(''),
      cursor: z.string().max(256).nullable().default(null),
    }),
    request: null,
    answers: { 200: { description: "A page of them, in the names' order.", schema: NameList } },
  },
} as const satisfies AdminOperationTable;

/** Longest reason of a change, characters. */
const MAX_WHY = 500;

/** Why something is changed, in the words of who changes it; one line of the history. */
export const Why = z
  .string()
  .trim()
  .min(1)
  .max(MAX_WHY)
  .regex(/^\P{Cc}*$/u, 'must be one line of text');

/** What every change of a name takes. */
const noteFields = {
  /** For the history. */
  why: Why.nullish(),
  /** Everything is checked, and nothing changed. */
  dry_run: z.boolean().nullish(),
};

/** Characters: a paragraph. */
export const MAX_DESCRIPTION = 500;
export const MAX_TAGS = 16;

/** As labels are written everywhere; `team:billing` is one. */
export const Tag = z
  .string()
  .regex(
    /^[a-z0-9][a-z0-9._:-]{0,39}$/,
    'must be 1 to 40 of a to z, 0 to 9 and . _ : -, and begin with a letter or digit',
  );

export const Description = z
  .string()
  .trim()
  .min(1)
  .max(MAX_DESCRIPTION, `has more than ${MAX_DESCRIPTION} characters`)
  .regex(/^\P{Cc}*$/u, 'must be one line of text');

/** In their order, each once. */
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

/** `POST /admin/edit`. What is not given stays as it is. */
export const EditRequest = z
  .strictObject({
    name: AdapterName,
    /** null takes it away. */
    description: Description.nullable().optional(),
    /** All of them. */
    tags: Tags.optional(),
    /** Beside those that it has; whoever changes others at the same time loses none. */
    add_tags: Tags.optional(),
    /** Of those that it has; they go last. */
    remove_tags: Tags.optional(),
    ...noteFields,
  })
  .refine(
    ({ tags, add_tags: added, remove_tags: taken }) =>
      tags === undefined || (added === undefined && taken === undefined),
    { path: ['tags'], message: 'goes with neither add_tags nor remove_tags' },
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
    summary: 'Changes what is said of a name: its description and tags.',
    query: null,
    request: EditRequest,
    answers: { 200: { description: 'What is said of it now, and was before.', schema: EditAnswer } },
  },
} as const satisfies AdminOperationTable;

/** What every change of a name's live version takes. */
const changeFields = {
  name: AdapterName,
  /** Live version that the caller knows of; 0 = none. */
  expect: z.int().min(0).nullish(),
  ...noteFields,
};

/** `POST /admin/promote`. */
export const PromoteRequest = z
  .strictObject({
    ...changeFields,
    /** The newest staged one above the live one unless given. */
    version: z.int().positive().nullish(),
  })
  .meta({ id: 'PromoteRequest' });
export type PromoteRequest = z.infer<typeof PromoteRequest>;

/** `POST /admin/rollback`. */
export const RollbackRequest = z
  .strictObject({
    ...changeFields,
    /** The one that was live before unless given. */
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
     * What other owners have made with it, and is not served any more: versions on top of it, and experiments that name it
     * or one of these.
     */
    stops: z.object({ versions: z.int().min(0), experiments: z.int().min(0) }),
  })
  .meta({ id: 'RetireAnswer' });
export type RetireAnswer = z.infer<typeof RetireAnswer>;

/** `POST /admin/alias`. */
export const AliasRequest = z
  .strictObject({
    name: AdapterName,
    /** Name that it is to stand for; null takes the alias away. */
    target: AdapterName.nullable(),
    ...noteFields,
  })
  .meta({ id: 'AliasRequest' });
export type AliasRequest = z.infer<typeof AliasRequest>;

export const AliasAnswer = z
  .object({
    name: z.string(),
    /** What it stands for now; null = nothing. */
    target: z.string().nullable(),
    /** What it stood for before; null = nothing. */
    from: z.string().nullable(),
    /** To the bootstrap key, of a new name among other tenants' names. */
    notice: z.string().optional(),
  })
  .meta({ id: 'AliasAnswer' });
export type AliasAnswer = z.infer<typeof AliasAnswer>;

/** `POST /admin/strict`. */
export const StrictRequest = z
  .strictObject({
    name: AdapterName,
    /** false takes the mark away. */
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

/** How long what was removed can be restored, ms: seven days, a week's holiday and no more. */
export const REMOVAL_GRACE_MS = 7 * 86_400_000;

const removalFields = {
  name: AdapterName,
  /** The whole name unless given. */
  version: z.int().positive().nullish(),
  ...noteFields,
};

/** `POST /admin/remove`. */
export const RemoveRequest = z
  .strictObject({
    ...removalFields,
    /** Also what of the same owner was made on top of it, and aliases and pins of what goes. */
    cascade: z.boolean().nullish(),
  })
  .meta({ id: 'RemoveRequest' });
export type RemoveRequest = z.infer<typeof RemoveRequest>;

/** A name, or some of its versions, that is removed or brought back. */
export const ChangedName = z
  .object({
    name: z.string(),
    /** The name itself: it was there, and is not any more; or the other way round. */
    whole: z.boolean(),
    /** In their order. */
    versions: z.array(z.int().positive()),
    /** The live one, before it was removed and again when it is restored; null = none, or not of the name's whole. */
    live: z.int().positive().nullable(),
    /** Of an alias: what it stood for, and stands for again. */
    alias: z.string().nullable(),
  })
  .meta({ id: 'ChangedName' });
export type ChangedName = z.infer<typeof ChangedName>;

export const RemoveAnswer = z
  .object({
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
  })
  .meta({ id: 'RemoveAnswer' });
export type RemoveAnswer = z.infer<typeof RemoveAnswer>;

/** `POST /admin/restore`. */
export const RestoreRequest = z
  .strictObject({
    ...removalFields,
    /** Also all that was removed together with it. */
    cascade: z.boolean().nullish(),
  })
  .meta({ id: 'RestoreRequest' });
export type RestoreRequest = z.infer<typeof RestoreRequest>;

export const RestoreAnswer = z.object({ restored: z.array(ChangedName) }).meta({ id: 'RestoreAnswer' });
export type RestoreAnswer = z.infer<typeof RestoreAnswer>;

/** A name of which something can be restored. */
export const RemovedName = z
  .object({
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
  })
  .meta({ id: 'RemovedName' });
export type RemovedName = z.infer<typeof RemovedName>;

/** `GET /admin/removed?prefix=&cursor=`: a page, in the names' order. */
export const RemovedList = z
  .object({ removed: z.array(RemovedName), cursor: z.string().nullable() })
  .meta({ id: 'RemovedList' });
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

/** One change of a name. */
export const ChangeView = z
  .object({
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
  })
  .meta({ id: 'ChangeView' });
export type ChangeView = z.infer<typeof ChangeView>;

/** `GET /admin/history?name=&tenant=&before=&limit=`. */
export const ChangeList = z
  .object({
    /** Newest first. */
    changes: z.array(ChangeView),
    /** Goes on where the answer ends; null at the end. */
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
