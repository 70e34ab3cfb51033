import type { z } from 'zod';
import type { AnswerName } from './answers.ts';
import type { BodyName } from './bodies.ts';

/** What one answer is; without a schema it is an object that others describe: OpenAI, or OpenAPI. */
export interface OperationAnswer {
  description: string;
  schema?: AnswerName;
  /** `none`: no body; `text/event-stream`: that as well as JSON, as the request asks. */
  body?: 'none' | 'text/event-stream';
  /** Beside those that every answer has: name -> description. */
  headers?: Record<string, string>;
}

export interface Operation {
  /** `operationId`: what generated clients call it. */
  id: string;
  tag: string;
  summary: string;
  description?: string;
  /** Which kind of key it takes. */
  key: 'admin' | 'api' | 'none';
  /** Of parameters in the path, where more is known than that they are text. */
  path?: Record<string, z.ZodType>;
  query?: z.ZodObject;
  /** Name -> description. */
  headers?: Record<string, string>;
  body?: BodyName | 'bytes';
  answers: Record<number, OperationAnswer>;
}

/** By the route as the app has it, `POST /admin/experiments/:id/start`. */
export type Operations = Readonly<Record<string, Operation>>;

/** One that takes an admin key. */
export const adminOperation = (tag: string, operation: Omit<Operation, 'tag' | 'key'>): Operation => ({
  ...operation,
  tag,
  key: 'admin',
});
