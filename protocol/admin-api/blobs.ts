/** Uploading and downloading adapter files: requests and answers of the admin API. */
import { z } from 'zod';
import { BlobRecord } from '../adapter-manifest.ts';
import { Digest, AdapterName } from '../identity.ts';
import type { AdminOperationTable } from './operation.ts';

/** `PUT /admin/blobs/<digest>/parts/<index>`: an accepted part. */
export const BlobPart = z
  .object({ index: z.int().min(0), bytes: z.int().positive(), sha256: Digest })
  .meta({ id: 'BlobPart' });
export type BlobPart = z.infer<typeof BlobPart>;

/** Limits of one file, so that nobody sends in vain what would be refused in the end. */
export const BlobLimits = z.object({
  /** Largest publishable file, bytes. */
  file_bytes: z.int().positive(),
  part_bytes: z.int().positive(),
  parts: z.int().positive(),
  /** Largest header of a publishable file, bytes. */
  header_bytes: z.int().positive(),
});
export type BlobLimits = z.infer<typeof BlobLimits>;

/** `GET /admin/blobs/<digest>`: what the caller's tenant has sent of a file. */
export const BlobState = z
  .object({
    digest: Digest,
    /** The file is complete: nothing more needs to be sent. */
    complete: z.boolean(),
    /** By index. */
    parts: z.array(BlobPart),
    limits: BlobLimits,
  })
  .meta({ id: 'BlobState' });
export type BlobState = z.infer<typeof BlobState>;

/** `POST /admin/blobs/<digest>`: a completed file. */
export const FinishedBlob = z
  .object({
    digest: Digest,
    bytes: z.int().positive(),
    /** In order. */
    parts: z.array(z.object({ bytes: z.int().positive(), sha256: Digest })),
  })
  .meta({ id: 'FinishedBlob' });
export type FinishedBlob = z.infer<typeof FinishedBlob>;

const params = { digest: Digest };

export const BLOB_OPERATIONS = {
  'GET /admin/blobs/:digest': {
    id: 'readFile',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Shows how much of a file this tenant has sent.',
    params,
    query: null,
    request: null,
    answers: { 200: { description: 'The parts sent, none once the file is complete.', schema: BlobState } },
  },
  'PUT /admin/blobs/:digest/parts/:index': {
    id: 'sendPart',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Sends one part of a file.',
    params,
    patterns: { index: '[0-9]{1,4}' },
    query: z.strictObject({ sha256: Digest.optional() }),
    request: 'bytes',
    answers: { 200: { description: 'The part, as received.', schema: BlobPart } },
  },
  'POST /admin/blobs/:digest': {
    id: 'finishFile',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Completes a file after its parts were sent.',
    params,
    query: null,
    request: BlobRecord,
    answers: {
      200: { description: 'The file was complete already.', schema: FinishedBlob },
      201: { description: 'The file is now complete.', schema: FinishedBlob },
    },
  },
} as const satisfies AdminOperationTable;

const version = z
  .string()
  .regex(/^[1-9]\d{0,8}$/, 'must be a version')
  .transform(Number);

/** `GET /admin/downloads?name=&version=`: what a version consists of, and where its bytes are. */
export const DownloadView = z
  .object({
    name: z.string(),
    version: z.int().positive(),
    /** Of its own file. */
    digest: Digest,
    /** Id of the base. */
    base: z.string(),
    /** Root first, ending with the version itself. */
    chain: z.array(
      z.object({
        name: z.string(),
        digest: Digest,
        scale: z.number(),
        /** Its parts; null = it belongs to another owner, and the key may not download its bytes. */
        file: z
          .object({ bytes: z.int().positive(), parts: z.array(BlobRecord.shape.parts.element.strip()) })
          .nullable(),
      }),
    ),
  })
  .meta({ id: 'DownloadView' });
export type DownloadView = z.infer<typeof DownloadView>;

export const DOWNLOAD_OPERATIONS = {
  'GET /admin/downloads': {
    id: 'readDownload',
    tag: 'adapters',
    rights: 'admin',
    summary:
      'Describes what a version consists of, and the parts of its files. Keys with the right to download ' +
      'only.',
    query: z.strictObject({ name: AdapterName, version: version.optional() }),
    request: null,
    answers: { 200: { description: 'The chain, with the parts of each file.', schema: DownloadView } },
  },
  'GET /admin/downloads/parts/:index': {
    id: 'readPart',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Reads one part of a file of a version’s chain. Keys with the right to download only.',
    patterns: { index: '[0-9]{1,4}' },
    query: z.strictObject({ name: AdapterName, version, digest: Digest }),
    request: null,
    answers: { 200: { description: "The part's bytes.", schema: 'bytes' } },
  },
} as const satisfies AdminOperationTable;
