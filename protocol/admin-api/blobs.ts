/** Uploaded files, as the admin API answers. */
import { z } from 'zod';
import { Digest } from '../identity.ts';

/** `PUT /admin/blobs/<digest>/parts/<index>`: a part that was taken. */
export const BlobPart = z.object({ index: z.int().min(0), bytes: z.int().positive(), sha256: Digest });
export type BlobPart = z.infer<typeof BlobPart>;

/** What the edge takes of one file, so that nobody sends in vain what it would refuse in the end. */
export const BlobLimits = z.object({
  /** Of a file that can be published. */
  file_bytes: z.int().positive(),
  part_bytes: z.int().positive(),
  parts: z.int().positive(),
});
export type BlobLimits = z.infer<typeof BlobLimits>;

/** `GET /admin/blobs/<digest>`: what the caller's tenant has sent of a file. */
export const BlobState = z.object({
  digest: Digest,
  /** It was closed: nothing is to be sent any more. */
  complete: z.boolean(),
  /** By index. */
  parts: z.array(BlobPart),
  /** Not in answers of edges from before. */
  limits: BlobLimits.optional(),
});
export type BlobState = z.infer<typeof BlobState>;

/** `POST /admin/blobs/<digest>`: a file that is closed. */
export const FinishedBlob = z.object({
  digest: Digest,
  bytes: z.int().positive(),
  /** In order. */
  parts: z.array(z.object({ bytes: z.int().positive(), sha256: Digest })),
});
export type FinishedBlob = z.infer<typeof FinishedBlob>;
