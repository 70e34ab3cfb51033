/** Versions of names: what the admin API takes and answers. */
import { z } from 'zod';
import { AdapterProof, ProbeToken } from '../adapter-proof.ts';
import { Evaluation, StoredEvaluation } from '../evaluation.ts';
import { Digest } from '../identity.ts';
import { AdapterName, Tenant } from '../names.ts';
import { Why } from '../why.ts';
import type { AdminOperationTable } from './operation.ts';

/** `POST /admin/versions`. */
export const PublishRequest = z.strictObject({
  name: AdapterName,
  digest: Digest,
  /** Name of the adapter that this one was trained on top of. */
  parent: AdapterName.nullish(),
  /** Keep the live version as it is. */
  stage: z.boolean().nullish(),
  /** Live version that the publisher knows of; 0 = none yet. Another one is a conflict. */
  expect: z.int().min(0).nullish(),
  /** Tenant that will own the name; only the bootstrap key may name another than its own. */
  owner: Tenant.nullish(),
  /** Kept with the version as the publisher says it. */
  evaluation: Evaluation.nullish(),
  /** For the history. */
  why: Why.nullish(),
});
export type PublishRequest = z.infer<typeof PublishRequest>;

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
  /** Of a name that was removed before; to the bootstrap key, of a new name among other tenants' names. */
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

/** `GET /admin/versions`, as it is asked: with a name or with a file's digest. */
export const VersionsAnswer = z.union([VersionList, FileVersions]);

export const VERSION_OPERATIONS = {
  'POST /admin/versions': {
    id: 'publishVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Publishes a file as the next version of a name.',
    query: null,
    request: PublishRequest,
    answers: {
      200: { description: 'The version, which was there already.', schema: PublishedVersion },
      201: { description: 'The new version.', schema: PublishedVersion },
    },
  },
  'GET /admin/versions': {
    id: 'listVersions',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Versions of a name, the newest first, or the names of a file.',
    query: z.strictObject({ name: AdapterName.optional(), digest: Digest.optional() }),
    request: null,
    answers: {
      200: { description: 'The versions of the name, or of the file.', schema: VersionsAnswer },
    },
  },
} as const satisfies AdminOperationTable;
