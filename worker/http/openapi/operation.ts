import type { z } from 'zod';
import type { AnswerName } from './answers.ts';
import type { BodyName } from './bodies.ts';

/** What one answer is; without a schema it is an object that others describe: OpenAI. */
export interface OperationAnswer {
  description: string;
  schema?: AnswerName;
  /** That as well as JSON, as the request asks. */
  body?: 'text/event-stream';
  /** It is no JSON at all. */
  bytes?: true;
  /** Beside those that every answer has: name -> description. */
  headers?: Record<string, string>;
}

/** One of the client API. */
export interface Operation {
  /** `operationId`: what generated clients call it. */
  id: string;
  tag: string;
  summary: string;
  description?: string;
  /** Which kind of key it takes. */
  key: 'api' | 'download' | 'none';
  query?: z.ZodObject;
  /** Name -> description. */
  headers?: Record<string, string>;
  body?: BodyName;
  answers: Record<number, OperationAnswer>;
}

/** By the route as the app has it, `GET /v1/models/*`. */
export type Operations = Readonly<Record<string, Operation>>;
