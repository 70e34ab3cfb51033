/**
 * Versions of names: publishing, plans, and what origins report about a version or a file on trial; requests
 * and answers of the admin API.
 */
import { z } from 'zod';
import {
  AdapterProof,
  ProbeToken,
  Evaluation,
  StoredEvaluation,
  EvaluateAnswer,
  ScoredRows,
} from '../origin-wire.ts';
import { Digest, AdapterName, Tenant } from '../identity.ts';
import { MAX_CLASSES } from '../limits.ts';
import { SentTrainingCard, TrainingCardView } from '../training.ts';
import { Why } from './names.ts';
import { type AdminOperationTable, MAX_PLAN_BODY_BYTES, MAX_EVALUATION_BODY_BYTES } from './operation.ts';
import { BlobRecord, InvocationTokens } from '../adapter-manifest.ts';

/** `POST /admin/versions`. */
export const PublishRequest = z
  .strictObject({
    name: AdapterName,
    digest: Digest,
    /** Name of the adapter that this one was trained on. */
    parent: AdapterName.nullish(),
    /** Keep the live version as it is. */
    stage: z.boolean().nullish(),
    /** Live version that the publisher knows; 0 = none yet. Any other is a conflict. */
    expect: z.int().min(0).nullish(),
    /** Owner of the name; only the bootstrap key may name another tenant. */
    owner: Tenant.nullish(),
    /** Stored with the version as the publisher sends it. */
    evaluation: Evaluation.nullish(),
    /** How it was trained; stored likewise. */
    training: SentTrainingCard.nullish(),
    /** Confirms that those to whom the name is granted may use what was made from prompts. */
    made_from_prompts: z.boolean().nullish(),
    /** For the history. */
    why: Why.nullish(),
  })
  .meta({ id: 'PublishRequest' });
export type PublishRequest = z.infer<typeof PublishRequest>;

const ProofView = AdapterProof.extend({ tokens: z.array(ProbeToken.strip()) }).strip();

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
        /** It acts from its invocation tokens on only; absent = on every token. */
        activated: z.literal(true).optional(),
        /** Classes of its classification head; absent = it generates text. */
        classes: z.int().positive().optional(),
      }),
    ),
    chain_id: Digest,
    /** `name@version`; null = built on the base. */
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
    /** Score reported by its publisher. */
    evaluation: StoredEvaluation.strip().nullable(),
    /** How it was trained, as its publisher reports it. */
    training: TrainingCardView.nullable(),
    /** Unix ms; null = in use. */
    retired_at: z.int().nullable(),
    /**
     * Unix ms: when it stopped being served because another owner's adapter that it depends on was retired. Older
     * edges omit it.
     */
    withdrawn_at: z.int().nullable().default(null),
    live: z.boolean(),
  })
  .meta({ id: 'VersionView' });
export type VersionView = z.infer<typeof VersionView>;

/** `POST /admin/versions`. */
export const PublishedVersion = VersionView.extend({
  /** What an origin reported; null if no origin was asked. */
  proof: ProofView.nullable(),
  /**
   * For a name that was removed before; for the bootstrap key, if a new name lies between names of other
   * tenants.
   */
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

/** `GET /admin/versions?digest=`: names that use a file. */
export const FileVersions = z
  .object({
    versions: z.array(z.object({ name: z.string(), version: z.int().positive() })),
  })
  .meta({ id: 'FileVersions' });
export type FileVersions = z.infer<typeof FileVersions>;

/** Query of `GET /admin/versions`: a name or a file's digest. */
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
      200: { description: 'The version, which existed already.', schema: PublishedVersion },
      201: { description: 'The new version.', schema: PublishedVersion },
    },
  },
  'GET /admin/versions': {
    id: 'listVersions',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Lists the versions of a name, newest first, or the names that use a file.',
    query: z.strictObject({ name: AdapterName.optional(), digest: Digest.optional() }),
    request: null,
    answers: {
      200: { description: 'The versions of the name, or those that use the file.', schema: VersionsAnswer },
    },
  },
} as const satisfies AdminOperationTable;

/** Modules of one adapter: as many as a file's header can have. */
const MAX_PLANNED_MODULES = 8_192;

/** A file's header, and how the file would be sent. */
export const FileFacts = z.strictObject({
  record: BlobRecord,
  header_bytes: z.int().positive(),
  /** Base id. */
  base: z.string().min(1).max(256),
  /** Chain id that it was trained on; null = the base. */
  parent: Digest.nullable(),
  /** Tokens from which on it acts; absent = on every token. */
  invocation: InvocationTokens.optional(),
  /** Its classification head; absent = it generates text. */
  classifier: z
    .strictObject({ classes: z.int().positive().max(MAX_CLASSES), in: z.int().positive() })
    .optional(),
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
    ...PublishRequest.omit({ evaluation: true, training: true, why: true }).shape,
    file: FileFacts,
  })
  .meta({ id: 'PlanRequest' });
export type PlanRequest = z.infer<typeof PlanRequest>;

/** `POST /admin/versions/plan`. Nothing is done or reserved. */
export const PublishPlan = z
  .object({
    name: z.string(),
    /** Number that the version would get, or has. */
    version: z.int().positive(),
    /** This version exists already: nothing would change. */
    exists: z.boolean(),
    stage: z.boolean(),
    /** Live version of the name now; null = none. */
    from: z.int().nullable(),
    /** Tenant that owns the name, or would. */
    owner: z.string(),
    /** `name@version`; null = built on the base. */
    parent: z.string().nullable(),
    chain: VersionView.shape.chain,
    chain_id: Digest,
    /** Largest rank of its modules. */
    rank: z.int().positive(),
    /**
     * For a new name: the nearest live ancestor, which answers requests for this name and names below it until
     * then; null = none, or the name exists.
     */
    instead_of: AdapterName.nullable(),
    /** Bytes of the file that this tenant has not sent. */
    bytes_to_send: z.int().min(0),
    /** An origin would test it first. */
    trial: z.boolean(),
    /**
     * For a name that was removed before; for the bootstrap key, if a new name lies between names of other
     * tenants.
     */
    notice: z.string().optional(),
  })
  .meta({ id: 'PublishPlan' });
export type PublishPlan = z.infer<typeof PublishPlan>;

export const PLAN_OPERATIONS = {
  'POST /admin/versions/plan': {
    id: 'planVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Shows what publishing a file would do, before any of it is sent.',
    maxBytes: MAX_PLAN_BODY_BYTES,
    query: null,
    request: PlanRequest,
    answers: { 200: { description: 'What would happen; nothing has changed.', schema: PublishPlan } },
  },
} as const satisfies AdminOperationTable;

/** `POST /admin/verify`. */
export const VerifyVersionRequest = z
  .strictObject({
    name: AdapterName,
    /** Default: the live version. */
    version: z.int().positive().nullish(),
  })
  .meta({ id: 'VerifyVersionRequest' });
export type VerifyVersionRequest = z.infer<typeof VerifyVersionRequest>;

/** `POST /admin/evaluate`. */
export const EvaluateFileRequest = z
  .strictObject({
    digest: Digest,
    /** As when publishing. */
    parent: AdapterName.nullish(),
    rows: ScoredRows,
  })
  .meta({ id: 'EvaluateFileRequest' });
export type EvaluateFileRequest = z.infer<typeof EvaluateFileRequest>;

export const OriginVerdict = z
  .object({
    /** Of the origin. */
    id: z.string(),
    ok: z.boolean(),
    /** The origin's answer, or why there is nothing to compare. */
    reason: z.string().nullable(),
    /** KL(stored proof || now), nats a token; null when they cannot be compared. */
    kl: z.number().nullable(),
    /** Largest effect of the adapter, nats; null when the origin did not test it. */
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
    /** That the origins were compared with; null if no origin was asked when it was published. */
    proof: ProofView.nullable(),
    origins: z.array(OriginVerdict),
  })
  .meta({ id: 'VerifyVersionAnswer' });
export type VerifyVersionAnswer = z.infer<typeof VerifyVersionAnswer>;

export const TRIAL_OPERATIONS = {
  'POST /admin/verify': {
    id: 'verifyVersion',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Makes every origin check a version’s proof again.',
    query: null,
    request: VerifyVersionRequest,
    answers: {
      200: { description: 'The version, and what each origin found.', schema: VerifyVersionAnswer },
    },
  },
  'POST /admin/evaluate': {
    id: 'evaluateFile',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Scores an uploaded file on prompts with known answers.',
    maxBytes: MAX_EVALUATION_BODY_BYTES,
    query: null,
    request: EvaluateFileRequest,
    answers: { 200: { description: 'A score for each row, in order.', schema: EvaluateAnswer } },
  },
} as const satisfies AdminOperationTable;
