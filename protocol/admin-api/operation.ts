/** What an operation of the admin API is. The table of them is {@link import('./operations.ts').ADMIN_OPERATIONS}. */
import type { z } from 'zod';

export interface AdminAnswer {
  description: string;
  /** null: no body; `object`: one that others describe, OpenAPI; `bytes`: no JSON. */
  schema: z.ZodType | 'object' | 'bytes' | null;
}

export interface AdminOperation {
  /** What generated clients call it. */
  id: string;
  tag: 'adapters' | 'experiments' | 'grants' | 'keys' | 'operation' | 'rooms';
  /** `operator`: the bootstrap key only. */
  rights: 'admin' | 'operator';
  summary: string;
  description?: string;
  /** Parameters in the path that are refused (400) when they are not so. */
  params?: Readonly<Record<string, z.ZodType>>;
  /** … and those that are looked for: what is not so is not there (404). */
  ids?: Readonly<Record<string, z.ZodType>>;
  /** What parameters look like (a regular expression); another path is no path of this operation. */
  patterns?: Readonly<Record<string, string>>;
  query: z.ZodObject | null;
  /** Body; null: none is needed, and an operation that changes something takes no other than `{}`. */
  request: z.ZodType | 'bytes' | null;
  /** All of the body may be left out, and so may the body itself. */
  mayBeEmpty?: true;
  /** Of the body; `MAX_ADMIN_BODY_BYTES` unless given. */
  maxBytes?: number;
  /** By status. Refusals are `ErrorBody`, whatever the operation. */
  answers: Readonly<Partial<Record<200 | 201 | 204, AdminAnswer>>>;
}

/** By method and path, `POST /admin/experiments/:id/start`. */
export type AdminOperationTable = Readonly<Record<string, AdminOperation>>;
