/** Files of rows: the part of OpenAI's Files API that graft has. */
import { z } from 'zod';

export const RowFileId = z.string().regex(/^file-[0-9a-z]{24}$/, 'must be a file id, file-…');
export type RowFileId = z.infer<typeof RowFileId>;

/** The one purpose that a file can have. */
export const FILE_PURPOSE = 'fine-tune';

/** Seconds since 1970, like all times here. */
const seconds = z.int().min(0);

export const FileObject = z
  .object({
    id: RowFileId,
    object: z.literal('file'),
    bytes: z.int().min(0),
    created_at: seconds,
    /** Then it is deleted. */
    expires_at: seconds,
    filename: z.string(),
    purpose: z.literal(FILE_PURPOSE),
    status: z.literal('processed'),
  })
  .meta({ id: 'File' });
export type FileObject = z.infer<typeof FileObject>;

/** A page of a list, as OpenAI's clients read it. */
export const listOf = <Item extends z.ZodType>(item: Item) =>
  z.object({
    object: z.literal('list'),
    data: z.array(item),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  });

/** `GET /v1/files` */
export const FileList = listOf(FileObject).meta({ id: 'FileList' });
export type FileList = z.infer<typeof FileList>;

/** Largest page of a list, and the usual one of files. */
export const MAX_FILE_PAGE = 1_000;

/** A count in a query; a route checks that it is not above its largest. */
export const PageLimit = z.string().regex(/^[1-9]\d{0,4}$/, 'must be a number from 1 on');

/** Query of `GET /v1/files`. */
export const FileListQuery = z.strictObject({
  /** Id of the last one of the page before. */
  after: RowFileId.optional(),
  limit: PageLimit.optional(),
  /** By age; `desc`, newest first, unless given. */
  order: z.enum(['asc', 'desc']).optional(),
  purpose: z.string().max(64).optional(),
});

/** `DELETE /v1/files/<id>` */
export const FileDeleted = z
  .object({ id: RowFileId, object: z.literal('file'), deleted: z.boolean() })
  .meta({ id: 'FileDeleted' });
export type FileDeleted = z.infer<typeof FileDeleted>;

/** How long a file may be kept after it was sent, seconds: an hour to thirty days. */
export const FILE_LIFE_S = { least: 3_600, most: 30 * 86_400 } as const;
