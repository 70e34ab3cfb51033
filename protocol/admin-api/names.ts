/** Names: what the admin API takes and answers. */
import { z } from 'zod';
import type { AdminOperationTable } from './operation.ts';

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
