/**
 * What a page publishes of its own: the application's server gets a short-lived token for one name; the page sends
 * the file in parts with it, then asks for a staged version.
 */
import { z } from 'zod';
import { BlobRecord } from './adapter-manifest.ts';
import { PageOrigin } from './browser-downloads.ts';
import { AdapterName, Digest } from './identity.ts';
import { SentTrainingCard } from './training.ts';

const MiB = 1024 * 1024;

/** Default lifetime of a publish token. */
export const DEFAULT_PUBLISH_TOKEN_MS = 10 * 60_000;
/** Longest lifetime of a publish token. */
export const MAX_PUBLISH_TOKEN_MS = 30 * 60_000;
const MIN_PUBLISH_TOKEN_MS = 10_000;
/** Versions that one publish token makes, at most; 1 unless asked for. Each is another file. */
export const MAX_PUBLISH_VERSIONS = 5;
/** Default largest file of a publish token: rank 50 on all linears of a base of 135 million parameters. */
export const DEFAULT_PUBLISH_BYTES = 64 * MiB;
/** Largest file that a page can publish. */
export const MAX_PUBLISH_BYTES = 128 * MiB;
/** Largest part that a page sends. A page on a slow line holds one in the edge's memory. */
export const PUBLISH_PART_BYTES = 4 * MiB;

/** `POST /v1/publish-tokens`. */
export const PublishTokenRequest = z
  .strictObject({
    /** One of the tenant's, or new below one. */
    name: AdapterName,
    /** Name of the adapter that it was trained on; null = on the base. */
    parent: AdapterName.nullable().default(null),
    /** Of the page that may use it. */
    origin: PageOrigin,
    /** Largest file. */
    max_bytes: z.int().min(1).max(MAX_PUBLISH_BYTES).default(DEFAULT_PUBLISH_BYTES),
    /** How many versions it makes, at most. */
    versions: z.int().min(1).max(MAX_PUBLISH_VERSIONS).default(1),
    /** Lifetime, ms. */
    expires_in: z.int().min(MIN_PUBLISH_TOKEN_MS).max(MAX_PUBLISH_TOKEN_MS).default(DEFAULT_PUBLISH_TOKEN_MS),
  })
  .meta({ id: 'PublishTokenRequest' });
export type PublishTokenRequest = z.infer<typeof PublishTokenRequest>;

export const PublishToken = z
  .object({
    object: z.literal('graft.publish_token'),
    token: z.string(),
    /** Unix ms. */
    expires_at: z.int(),
    name: AdapterName,
    parent: AdapterName.nullable(),
    origin: z.string(),
    max_bytes: z.int().positive(),
    versions: z.int().positive(),
  })
  .meta({ id: 'PublishToken' });
export type PublishToken = z.infer<typeof PublishToken>;

/** Query of `PUT /v1/publications/parts/<index>`. */
export const PublicationPartQuery = z.strictObject({
  /** Of the whole file. */
  digest: Digest,
  /** Of the part. */
  sha256: Digest,
});

/** `POST /v1/publications`, once all parts were sent. Name and parent are the token's; the version is staged. */
export const PublicationRequest = z
  .strictObject({
    /** Must be the token's. */
    name: AdapterName.optional(),
    digest: Digest,
    file: BlobRecord,
    /** How it was trained; stored with the version. */
    training: SentTrainingCard.nullish(),
  })
  .meta({ id: 'PublicationRequest' });
export type PublicationRequest = z.infer<typeof PublicationRequest>;

export const Publication = z
  .object({
    object: z.literal('graft.publication'),
    name: AdapterName,
    version: z.int().positive(),
    digest: Digest,
    /** False: it is staged, and users get it once it is promoted. True: the live version has this very file. */
    live: z.boolean(),
  })
  .meta({ id: 'Publication' });
export type Publication = z.infer<typeof Publication>;
