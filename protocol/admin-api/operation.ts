/**
 * Type of an admin operation, and the API's limits. The operations are in {@link
 * import('./operations.ts').ADMIN_OPERATIONS}.
 */
import type { z } from 'zod';

export interface AdminAnswer {
  description: string;
  /** null: no body; `object`: described elsewhere, as OpenAPI is; `bytes`: not JSON. */
  schema: z.ZodType | 'object' | 'bytes' | null;
}

export interface AdminOperation {
  /** Name in generated clients. */
  id: string;
  tag: 'adapters' | 'experiments' | 'grants' | 'keys' | 'operation' | 'rooms';
  /** `operator`: the bootstrap key only. */
  rights: 'admin' | 'operator';
  summary: string;
  description?: string;
  /** Path parameters whose invalid values get a 400 … */
  params?: Readonly<Record<string, z.ZodType>>;
  /** … and those whose invalid values get a 404. */
  ids?: Readonly<Record<string, z.ZodType>>;
  /** Pattern of a parameter (a regular expression); a path that does not match is another operation's. */
  patterns?: Readonly<Record<string, string>>;
  query: z.ZodObject | null;
  /** Body; null: none is needed, and a changing operation accepts only `{}`. */
  request: z.ZodType | 'bytes' | null;
  /** Whether the whole body may be omitted. */
  mayBeEmpty?: true;
  /** Of the body, bytes; default: `MAX_ADMIN_BODY_BYTES`. */
  maxBytes?: number;
  /** By status. Errors are always `ErrorBody`. */
  answers: Readonly<Partial<Record<200 | 201 | 204, AdminAnswer>>>;
}

/** By method and path, such as `POST /admin/experiments/:id/start`. */
export type AdminOperationTable = Readonly<Record<string, AdminOperation>>;

const DAY_MS = 86_400_000;

/** Body of an admin request. */
export const MAX_ADMIN_BODY_BYTES = 64 * 1024;
/** Body of an experiment’s document: has room for 200 testers and 200 header values. */
export const MAX_EXPERIMENT_BODY_BYTES = 256 * 1024;
/** Body of `POST /admin/versions/plan`: some 8,000 modules of 120 bytes. */
export const MAX_PLAN_BODY_BYTES = 1024 * 1024;
/** Body of `POST /admin/evaluate`: 64 rows of 8 kB. */
export const MAX_EVALUATION_BODY_BYTES = 512 * 1024;

/** Scopes of one key. Every request goes through them. */
export const MAX_SCOPES = 24;
/** Longest lifetime of a key: ten years. For longer ones, set no end. */
export const MAX_KEY_LIFE_MS = 3_653 * DAY_MS;
/** Longest time that a replaced key stays valid. */
export const MAX_KEY_GRACE_MS = 90 * DAY_MS;
/** Default of that time. */
export const DEFAULT_KEY_GRACE_MS = DAY_MS;

/** Changes in one answer of `GET /admin/history`. */
export const MAX_HISTORY_PAGE = 1_000;
/** Keys in one answer of `GET /admin/keys`; a key takes 340 bytes. */
export const MAX_KEYS_SHOWN = 1_000;
/** Experiments in one answer of `GET /admin/experiments`, by default. */
export const EXPERIMENTS_SHOWN = 50;
/** Experiments in one such answer, at most. */
export const MAX_EXPERIMENTS_SHOWN = 200;
