/** How a browser gets a chain by name: a short-lived token first, then the chain, then its parts. */
import { z } from 'zod';
import { BlobRecord } from './adapter-manifest.ts';
import { Digest } from './identity.ts';
import { AdapterName } from './names.ts';

/** Names that one token opens, at most. */
export const MAX_DOWNLOAD_NAMES = 16;
export const DEFAULT_DOWNLOAD_TOKEN_MS = 5 * 60_000;
export const MAX_DOWNLOAD_TOKEN_MS = 15 * 60_000;
const MIN_DOWNLOAD_TOKEN_MS = 10_000;

function isPageOrigin(text: string): boolean {
  try {
    return new URL(text).origin === text;
  } catch {
    return false;
  }
}

/** An origin in the browser's sense, such as `https://app.example.com`. */
export const PageOrigin = z
  .string()
  .max(256)
  .refine((text) => isPageOrigin(text), 'must be an origin such as https://app.example.com');

/** `POST /v1/download-tokens`. */
export const DownloadTokenRequest = z.strictObject({
  names: z.array(AdapterName).min(1).max(MAX_DOWNLOAD_NAMES),
  /** Of the page that may use it. */
  origin: PageOrigin,
  /** Lifetime, ms. */
  expires_in: z
    .int()
    .min(MIN_DOWNLOAD_TOKEN_MS)
    .max(MAX_DOWNLOAD_TOKEN_MS)
    .default(DEFAULT_DOWNLOAD_TOKEN_MS),
});
export type DownloadTokenRequest = z.infer<typeof DownloadTokenRequest>;

export const DownloadToken = z.object({
  object: z.literal('graft.download_token'),
  token: z.string(),
  /** Unix ms. */
  expires_at: z.int(),
  names: z.array(AdapterName),
  origin: z.string(),
});
export type DownloadToken = z.infer<typeof DownloadToken>;

/** `GET /v1/downloads?name=`: the live version of a name. */
export const DownloadChain = z.object({
  name: AdapterName,
  version: z.int().positive(),
  chain_id: Digest,
  base: z.object({ id: z.string(), digest: Digest }),
  /** Root first. */
  chain: z
    .array(
      z.object({
        digest: Digest,
        scale: z.number(),
        bytes: z.int().positive(),
        parts: z.array(BlobRecord.shape.parts.element.strip()).min(1),
      }),
    )
    .min(1),
});
export type DownloadChain = z.infer<typeof DownloadChain>;
