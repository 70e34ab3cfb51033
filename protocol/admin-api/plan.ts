/** What publishing a file that has not been sent would do: what the admin API takes and answers. */
import { z } from 'zod';
import { BlobRecord } from '../adapter-manifest.ts';
import { Digest } from '../identity.ts';
import { AdapterName } from '../names.ts';
import { MAX_PLAN_BODY_BYTES } from './limits.ts';
import type { AdminOperationTable } from './operation.ts';
import { PublishRequest, VersionView } from './versions.ts';

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
export const PlanRequest = z.strictObject({
  ...PublishRequest.omit({ evaluation: true, why: true }).shape,
  file: FileFacts,
});
export type PlanRequest = z.infer<typeof PlanRequest>;

/** `POST /admin/versions/plan`. Nothing of it is done, or kept for who publishes next. */
export const PublishPlan = z.object({
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
});
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
