/** Versions of names, as the admin API answers. */
import { z } from 'zod';
import { AdapterProof, ProbeToken } from '../adapter-proof.ts';
import { StoredEvaluation } from '../evaluation.ts';
import { Digest } from '../identity.ts';

/** One of `GET /admin/versions?name=`. */
export const VersionView = z.object({
  name: z.string(),
  version: z.int().positive(),
  /** Of its own file. */
  digest: Digest,
  /** Root first, ending with the version itself. */
  chain: z.array(
    z.object({
      digest: Digest,
      scale: z.number(),
      name: z.string(),
      owner: z.string(),
      /** Largest rank of its modules; not in versions from before it was kept. */
      rank: z.int().positive().optional(),
    }),
  ),
  chain_id: Digest,
  /** `name@version`; null = made on top of the base. */
  parent: z.string().nullable(),
  /** Tenant. */
  owner: z.string(),
  base: z.object({ id: z.string(), digest: Digest }),
  /** Of its own file. */
  bytes: z.int().positive(),
  /** Largest rank of its own modules. */
  rank: z.int().positive(),
  /** Unix ms. */
  created_at: z.int(),
  /** Id of the key. */
  created_by: z.string(),
  /** What an origin said with it when it was published; null for versions from before there were proofs. */
  proof: AdapterProof.extend({ tokens: z.array(ProbeToken.strip()) })
    .strip()
    .nullable(),
  /** What its publisher says it scored. */
  evaluation: StoredEvaluation.strip().nullable(),
  /** Unix ms; null = in use. */
  retired_at: z.int().nullable(),
  /**
   * Unix ms: since when it is not served, because another owner's adapter that it stands on was retired. Edges from
   * before do not say.
   */
  withdrawn_at: z.int().nullable().default(null),
  live: z.boolean(),
});
export type VersionView = z.infer<typeof VersionView>;

/** `POST /admin/versions`. */
export const PublishedVersion = VersionView.extend({
  /** To the bootstrap key, of a new name among other tenants' names. */
  notice: z.string().optional(),
});
export type PublishedVersion = z.infer<typeof PublishedVersion>;

/** `GET /admin/versions?name=`. */
export const VersionList = z.object({
  name: z.string(),
  owner: z.string(),
  /** Live version; null = all are staged. */
  version: z.int().nullable(),
  /** Newest first. */
  versions: z.array(VersionView),
});
export type VersionList = z.infer<typeof VersionList>;

/** `GET /admin/versions?digest=`: names under which a file was published. */
export const FileVersions = z.object({
  versions: z.array(z.object({ name: z.string(), version: z.int().positive() })),
});
export type FileVersions = z.infer<typeof FileVersions>;
