/** Versions of names: publishing them, what publishing a file that has not been sent would do, and what origins say of a version or a file on trial; what the admin API takes and answers. */
import { z } from 'zod';
import {
  AdapterProof,
  ProbeToken,
  Evaluation,
  StoredEvaluation,
  EvaluateAnswer,
  EvaluationRows,
} from '../origin-wire.ts';
import { Digest, AdapterName, Tenant } from '../identity.ts';
import { Why } from './names.ts';
import { type AdminOperationTable, MAX_PLAN_BODY_BYTES, MAX_EVALUATION_BODY_BYTES } from './operation.ts';
import { BlobRecord } from '../adapter-manifest.ts';

/** `POST /admin/versions`. */
export const PublishRequest = z
  .strictObject({
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
  })
  .meta({ id: 'PublishRequest' });
export type PublishRequest = z.infer<typeof PublishRequest>;

/** One of `GET /admin/versions?name=`. */
export const VersionView = z
  .object({
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
        /** Largest rank of its modules. */
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
    /** What an origin said with it when it was published; null where no origin was asked. */
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
  })
  .meta({ id: 'VersionView' });
export type VersionView = z.infer<typeof VersionView>;

/** `POST /admin/versions`. */
export const PublishedVersion = VersionView.extend({
  /** Of a name that was removed before; to the bootstrap key, of a new name among other tenants' names. */
  notice: z.string().optional(),
}).meta({ id: 'PublishedVersion' });
export type PublishedVersion = z.infer<typeof PublishedVersion>;

/** `GET /admin/versions?name=`. */
export const VersionList = z
  .object({
    name: z.string(),
    owner: z.string(),
    /** Live version; null = all are staged. */
    version: z.int().nullable(),
    /** Newest first. */
    versions: z.array(VersionView),
  })
  .meta({ id: 'VersionList' });
export type VersionList = z.infer<typeof VersionList>;

/** `GET /admin/versions?digest=`: names under which a file was published. */
export const FileVersions = z
  .object({
    versions: z.array(z.object({ name: z.string(), version: z.int().positive() })),
  })
  .meta({ id: 'FileVersions' });
export type FileVersions = z.infer<typeof FileVersions>;

/** `GET /admin/versions`, as it is asked: with a name or with a file's digest. */
export const VersionsAnswer = z.union([VersionList, FileVersions]).meta({ id: 'Versions' });

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

/** Modules of one adapter; as many as its file's header can have. */
const MAX_PLANNED_MODULES = 8_192;

/** What a file's header says, and how it would be sent. */
export const FileFacts = z.strictObject({
  record: BlobRecord,
  header_bytes: z.int().positive(),
  /** Base id. */
  base: z.string().min(1).max(256),
  /** Chain id that it was trained on; null = the base. */
  parent: Digest.nullable(),
  modules: z
    .array(
      z.strictObject({
        name: z.string().min(1).max(256),
        rank: z.int().positive(),
        in: z.int().positive(),
        out: z.int().positive(),
      }),
    )
    .min(1)
    .max(MAX_PLANNED_MODULES),
});
export type FileFacts = z.infer<typeof FileFacts>;

/** `POST /admin/versions/plan`. */
export const PlanRequest = z
  .strictObject({
    ...PublishRequest.omit({ evaluation: true, why: true }).shape,
    file: FileFacts,
  })
  .meta({ id: 'PlanRequest' });
export type PlanRequest = z.infer<typeof PlanRequest>;

/** `POST /admin/versions/plan`. Nothing of it is done, or kept for who publishes next. */
export const PublishPlan = z
  .object({
    name: z.string(),
    /** Number that the version would get, or has. */
    version: z.int().positive(),
    /** This very version is there: nothing would change. */
    exists: z.boolean(),
    stage: z.boolean(),
    /** What is live under the name now; null = nothing. */
    from: z.int().nullable(),
    /** Tenant that owns the name, or would. */
    owner: z.string(),
    /** `name@version`; null = made on top of the base. */
    parent: z.string().nullable(),
    chain: VersionView.shape.chain,
    chain_id: Digest,
    /** Largest rank of its modules. */
    rank: z.int().positive(),
    /**
     * Of a new name: the nearest name above it that is live, which answers requests by this name and those below it until
     * then; null = none does, or the name is there.
     */
    instead_of: AdapterName.nullable(),
    /** Of the file, what this tenant has not sent. */
    bytes_to_send: z.int().min(0),
    /** An origin would try it first. */
    trial: z.boolean(),
    /** Of a name that was removed before; to the bootstrap key, of a new name among other tenants' names. */
    notice: z.string().optional(),
  })
  .meta({ id: 'PublishPlan' });
export type PublishPlan = z.infer<typeof PublishPlan>;

export const PLAN_OPERATIONS = {
  'POST /admin/versions/plan': {
    id: 'planVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Says what publishing a file would do, before any of it is sent.',
    maxBytes: MAX_PLAN_BODY_BYTES,
    query: null,
    request: PlanRequest,
    answers: { 200: { description: 'What would happen; nothing has.', schema: PublishPlan } },
  },
} as const satisfies AdminOperationTable;

/** `POST /admin/verify`. */
export const VerifyVersionRequest = z
  .strictObject({
    name: AdapterName,
    /** The live one unless given. */
    version: z.int().positive().nullish(),
  })
  .meta({ id: 'VerifyVersionRequest' });
export type VerifyVersionRequest = z.infer<typeof VerifyVersionRequest>;

/** `POST /admin/evaluate`. */
export const EvaluateFileRequest = z
  .strictObject({
    digest: Digest,
    /** As when it is published. */
    parent: AdapterName.nullish(),
    rows: EvaluationRows,
  })
  .meta({ id: 'EvaluateFileRequest' });
export type EvaluateFileRequest = z.infer<typeof EvaluateFileRequest>;

export const OriginVerdict = z
  .object({
    /** Of the origin. */
    id: z.string(),
    ok: z.boolean(),
    /** As in the origin's answer, or why there is none to compare. */
    reason: z.string().nullable(),
    /** KL(stored proof || now), nats a token; null when they cannot be compared. */
    kl: z.number().nullable(),
    /** Largest change that the adapter makes there, nats; null when the origin did not try it. */
    max_difference: z.number().nullable(),
  })
  .meta({ id: 'OriginVerdict' });
export type OriginVerdict = z.infer<typeof OriginVerdict>;

/** `POST /admin/verify`. */
export const VerifyVersionAnswer = z
  .object({
    name: z.string(),
    version: z.int().positive(),
    digest: Digest,
    origins: z.array(OriginVerdict),
  })
  .meta({ id: 'VerifyVersionAnswer' });
export type VerifyVersionAnswer = z.infer<typeof VerifyVersionAnswer>;

export const TRIAL_OPERATIONS = {
  'POST /admin/verify': {
    id: 'verifyVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Has every origin compute a version’s proof again.',
    query: null,
    request: VerifyVersionRequest,
    answers: {
      200: { description: 'The version, and what every origin says of it.', schema: VerifyVersionAnswer },
    },
  },
  'POST /admin/evaluate': {
    id: 'evaluateFile',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Scores a file that was sent on prompts with known answers.',
    maxBytes: MAX_EVALUATION_BODY_BYTES,
    query: null,
    request: EvaluateFileRequest,
    answers: { 200: { description: 'A score for each row, in order.', schema: EvaluateAnswer } },
  },
} as const satisfies AdminOperationTable;
