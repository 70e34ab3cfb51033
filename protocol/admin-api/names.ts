/** Names and what their owners say of them: what the admin API takes and answers. */
import { z } from 'zod';
import type { AdminOperationTable } from './operation.ts';
import { AdapterName } from '../identity.ts';
import { Why } from './history.ts';

export const NameView = z.object({
  name: z.string(),
  /** Tenant. */
  owner: z.string(),
  /** Live version; null = all are staged. */
  version: z.int().nullable(),
  /** Highest version; 0 when it has none, as an alias. */
  latest: z.int().min(0),
  /** The name that it stands for. */
  alias: z.string().nullable(),
  /** A missing name below it is answered neither by it nor by what is above it. Edges from before do not say. */
  strict: z.boolean().default(false),
  /** What its owner says of it; null = nothing. */
  description: z.string().nullable().default(null),
  /** In their order. */
  tags: z.array(z.string()).default([]),
});
export type NameView = z.infer<typeof NameView>;

/** `GET /admin/names?prefix=&cursor=`: a page, in the names' order. */
export const NameList = z.object({ names: z.array(NameView), cursor: z.string().nullable() });
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
    /** For the history. */
    why: Why.nullish(),
    /** Everything is checked, and nothing changed. */
    dry_run: z.boolean().nullish(),
  })
  .refine(
    ({ tags, add_tags: added, remove_tags: taken }) =>
      tags === undefined || (added === undefined && taken === undefined),
    { path: ['tags'], message: 'goes with neither add_tags nor remove_tags' },
  );
export type EditRequest = z.infer<typeof EditRequest>;

export const EditAnswer = z.object({
  name: z.string(),
  ...AboutName.shape,
  /** What it was before. */
  from: AboutName,
});
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
