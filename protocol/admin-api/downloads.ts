/** Fetching adapters back: what the admin API takes and answers. */
import { z } from 'zod';
import { BlobRecord } from '../adapter-manifest.ts';
import { Digest } from '../identity.ts';
import { AdapterName } from '../names.ts';
import type { AdminOperationTable } from './operation.ts';

const version = z
  .string()
  .regex(/^[1-9]\d{0,8}$/, 'must be a version')
  .transform(Number);

/** `GET /admin/downloads?name=&version=`: what a version is made of, and where its bytes are. */
export const DownloadView = z.object({
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
      /** Its parts; null = it is another owner's, whose bytes the key may not fetch. */
      file: z
        .object({ bytes: z.int().positive(), parts: z.array(BlobRecord.shape.parts.element.strip()) })
        .nullable(),
    }),
  ),
});
export type DownloadView = z.infer<typeof DownloadView>;

export const DOWNLOAD_OPERATIONS = {
  'GET /admin/downloads': {
    id: 'readDownload',
    tag: 'adapters',
    rights: 'admin',
    summary: 'What a version is made of, and the parts of its files. Keys with the right to download only.',
    query: z.strictObject({ name: AdapterName, version: version.optional() }),
    request: null,
    answers: { 200: { description: 'The chain, with the parts of each file.', schema: DownloadView } },
  },
  'GET /admin/downloads/parts/:index': {
    id: 'readPart',
    tag: 'adapters',
    rights: 'admin',
    summary: 'One part of a file of a version’s chain. Keys with the right to download only.',
    patterns: { index: '[0-9]{1,4}' },
    query: z.strictObject({ name: AdapterName, version, digest: Digest }),
    request: null,
    answers: { 200: { description: 'Its bytes.', schema: 'bytes' } },
  },
} as const satisfies AdminOperationTable;
