/**
 * What a browser downloads. A chain by name: first a short-lived token, then the chain, then its parts. And the
 * base, which `graft base export --web` writes and `graft-lora/browser` reads.
 */
import { z } from 'zod';
import { BlobRecord } from './adapter-manifest.ts';
import { Digest, AdapterName } from './identity.ts';
import { BaseInfo } from './origin-wire.ts';

/** Names that one download token opens. */
export const MAX_DOWNLOAD_NAMES = 16;
/** Default lifetime of a download token. */
export const DEFAULT_DOWNLOAD_TOKEN_MS = 5 * 60_000;
/** Longest lifetime of a download token. */
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
export const DownloadTokenRequest = z
  .strictObject({
    names: z.array(AdapterName).min(1).max(MAX_DOWNLOAD_NAMES),
    /** Of the page that may use it. */
    origin: PageOrigin,
    /** Lifetime, ms. */
    expires_in: z
      .int()
      .min(MIN_DOWNLOAD_TOKEN_MS)
      .max(MAX_DOWNLOAD_TOKEN_MS)
      .default(DEFAULT_DOWNLOAD_TOKEN_MS),
  })
  .meta({ id: 'DownloadTokenRequest' });
export type DownloadTokenRequest = z.infer<typeof DownloadTokenRequest>;

export const DownloadToken = z
  .object({
    object: z.literal('graft.download_token'),
    token: z.string(),
    /** Unix ms. */
    expires_at: z.int(),
    names: z.array(AdapterName),
    origin: z.string(),
  })
  .meta({ id: 'DownloadToken' });
export type DownloadToken = z.infer<typeof DownloadToken>;

/** `GET /v1/downloads?name=`: the live version of a name. */
export const DownloadChain = z
  .object({
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
  })
  .meta({ id: 'DownloadChain' });
export type DownloadChain = z.infer<typeof DownloadChain>;

/** Name of the manifest beside the parts. */
export const WEB_BASE_MANIFEST = 'base.json';

/** Bytes of a part, except the last: below 25 MiB, the limit of a file on Cloudflare's static assets and KV. */
export const WEB_BASE_PART_BYTES = 24 * 1024 ** 2;

/** Raise it when older readers could not use what is written. */
const FORMAT = 'graft-web-base/1';

/** One file within the concatenated bytes of all parts. */
const Place = z.strictObject({ offset: z.int().min(0), bytes: z.int().min(0) });

/** Its content: graph weights and their list, graphs, or what prompts are encoded with. */
export const WEB_BASE_FILES = [
  'weights.bin',
  'weights.json',
  'none.onnx',
  'qv.onnx',
  'all.onnx',
  'config.json',
  'gains.safetensors',
  'tokenizer.json',
] as const;
export type WebBaseFile = (typeof WEB_BASE_FILES)[number];

export const WebBaseManifest = z.strictObject({
  format: z.literal(FORMAT),
  base: BaseInfo,
  files: z.record(z.enum(WEB_BASE_FILES), Place),
  /** In order; each is stored beside the manifest as `<sha256>.bin`. */
  parts: z.array(z.strictObject({ sha256: Digest, bytes: z.int().min(1).max(WEB_BASE_PART_BYTES) })).min(1),
});
export type WebBaseManifest = z.infer<typeof WebBaseManifest>;

export const webBaseManifest = (content: Omit<WebBaseManifest, 'format'>): WebBaseManifest => ({
  format: FORMAT,
  ...content,
});

/** Path of a part, relative to the manifest. */
export const webBasePartName = (sha256: string): string => `${sha256}.bin`;
