/** Answers of the admin API, as far as commands read them. */
import { z } from 'zod';
import { AdapterProof, BaseInfo, ResidentList, StoredEvaluation } from '../../protocol/index.ts';

export const Version = z.object({
  name: z.string(),
  version: z.int(),
  digest: z.string(),
  chain: z.array(z.object({ digest: z.string(), scale: z.number(), name: z.string(), owner: z.string() })),
  chain_id: z.string(),
  parent: z.string().nullable(),
  owner: z.string(),
  bytes: z.int(),
  rank: z.int(),
  live: z.boolean(),
  /** Unix ms; null = in use. */
  retired_at: z.number().nullish(),
  /** What an origin said with it when it was published; null = nothing yet. */
  proof: AdapterProof.nullish(),
  evaluation: StoredEvaluation.nullish(),
});
export type Version = z.infer<typeof Version>;

export const Versions = z.object({
  name: z.string(),
  owner: z.string(),
  /** Live version; null when all are staged. */
  version: z.int().nullable(),
  /** Newest first. */
  versions: z.array(Version),
});
export type Versions = z.infer<typeof Versions>;

export const Names = z.object({
  names: z.array(
    z.object({
      name: z.string(),
      owner: z.string(),
      version: z.int().nullable(),
      latest: z.int(),
      /** The name that it stands for. */
      alias: z.string().nullish(),
    }),
  ),
  cursor: z.string().nullable(),
});

/** Names under which a file was published. */
export const FileVersions = z.object({ versions: z.array(z.object({ name: z.string(), version: z.int() })) });

/** What this tenant has sent of a blob. */
export const BlobState = z.object({
  complete: z.boolean(),
  parts: z.array(z.object({ index: z.int(), bytes: z.int(), sha256: z.string() })),
});
export type BlobState = z.infer<typeof BlobState>;

/** `base` and `residents` are null when the origin does not answer; `residents` also without the bootstrap key. */
export const Origins = z.object({
  origins: z.array(
    z.object({ id: z.string(), base: BaseInfo.nullable(), residents: ResidentList.nullable() }),
  ),
});

/** Every origin's word on a version: does it still say with the adapter what it said when it was published? */
export const VerifiedVersion = z.object({
  name: z.string(),
  version: z.int(),
  digest: z.string(),
  origins: z.array(
    z.object({
      id: z.string(),
      ok: z.boolean(),
      reason: z.string().nullable(),
      /** Nats. */
      kl: z.number().nullable(),
      max_difference: z.number().nullable(),
    }),
  ),
});
export type VerifiedVersion = z.infer<typeof VerifiedVersion>;
