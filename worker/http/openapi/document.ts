/** The API as an OpenAPI 3.1 document, generated from the operations and schemas that the routes use. */
import { z } from 'zod';
import { BlobPart } from '../../../protocol/admin-api/blobs.ts';
import type { AdminAnswer } from '../../../protocol/admin-api/operation.ts';
import { ADMIN_ROUTES, adminOperation, type AdminRoute } from '../../../protocol/admin-api/operations.ts';
import { PreferenceAnswer, PreferenceRequest } from '../../../protocol/admin-api/improvements.ts';
import { FeedbackAnswer, FeedbackRequest } from '../../../protocol/admin-api/experiments.ts';
import { API_ERROR_CODES } from '../../../protocol/api-error.ts';
import { DownloadChain, DownloadToken, DownloadTokenRequest } from '../../../protocol/browser-downloads.ts';
import {
  Publication,
  PublicationPartQuery,
  PublicationRequest,
  PublishToken,
  PublishTokenRequest,
} from '../../../protocol/browser-publications.ts';
import {
  ClassifyAnswer,
  ClassifyRequest,
  RerankAnswer,
  RerankRequest,
  ScoreAnswer,
  ScoreRequest,
} from '../../../protocol/classify.ts';
import { Model, ModelList } from '../../../protocol/completion-answers.ts';
import { ChatCompletionRequest, EdgeFields, TextCompletionRequest } from '../../../protocol/completion.ts';
import {
  DetokenizeAnswer,
  DetokenizeRequest,
  EmbeddingList,
  EmbeddingRequest,
  TokenizeAnswer,
  TokenizeRequest,
} from '../../../protocol/embed-tokenize.ts';
import {
  JobCheckpointPage,
  JobCheckpointQuery,
  JobEventPage,
  JobEventQuery,
  JobListQuery,
  JobPage,
  JobRequest,
  JobView,
} from '../../../protocol/fine-tuning.ts';
import {
  FILE_LIFE_S,
  FILE_PURPOSE,
  FileDeleted,
  FileList,
  FileListQuery,
  FileObject,
} from '../../../protocol/files.ts';
import { AdapterName, Digest } from '../../../protocol/identity.ts';
import { CountTokensAnswer, CountTokensRequest, MessagesRequest } from '../../../protocol/messages.ts';
import { InputTokensAnswer, ResponseRequest } from '../../../protocol/responses.ts';
import { routePath, adminRoute } from '../admin-route.ts';
import { Hono } from 'hono';
import type { AppEnv } from '../request.ts';
import { USER_HEADER } from '../../experiments/assign.ts';

type JsonSchema = Record<string, unknown>;

/** Error of every route; `ErrorBody` of protocol/api-error.ts. */
const ErrorAnswer = z
  .strictObject({
    error: z.strictObject({
      message: z.string(),
      type: z.string(),
      /** The place in the request. */
      param: z.string().nullable(),
      code: z.enum(API_ERROR_CODES),
      missing: z.array(z.string()).optional(),
      reason: z.string().optional(),
    }),
  })
  .meta({ id: 'Error' });

const HealthAnswer = z.object({ status: z.literal('ok') }).meta({ id: 'Health' });

const how = {
  unrepresentable: 'any',
  /** zod emits a date's format twice, the second time as half a kilobyte of pattern. */
  override({ jsonSchema }) {
    if (jsonSchema.format !== undefined) delete jsonSchema.pattern;
  },
} satisfies z.core.ToJSONSchemaParams;

const REFERENCES = '#/components/schemas/';

/**
 * Checks that JSON Schema cannot express (a name's syntax, weights that sum to 1) are left out: the route
 * refuses everything that the schema refuses, and more.
 */
function namedIn(schemas: readonly z.ZodType[], io: 'input' | 'output'): Record<string, JsonSchema> {
  const all = z.toJSONSchema(z.tuple([...new Set(schemas)] as [z.ZodType]), { io, ...how });
  const named = JSON.stringify(all.$defs).replaceAll('"#/$defs/', `"${REFERENCES}`);
  const sorted = Object.entries(JSON.parse(named) as Record<string, JsonSchema>).sort(([a], [b]) =>
    a < b ? -1 : 1,
  );
  return Object.fromEntries(sorted);
}

const isSchema = (value: unknown): value is z.ZodType => value instanceof z.ZodType;

/** Bodies of all operations. */
const sent = (): z.ZodType[] =>
  [
    ...ADMIN_ROUTES.map((route) => adminOperation(route).request),
    ...Object.values(CLIENT_OPERATIONS).map(({ body }) => body),
  ].filter(isSchema);

/** Answers of all operations. */
export const answered = (): z.ZodType[] =>
  [
    { 400: { schema: ErrorAnswer } },
    ...ADMIN_ROUTES.map((route) => adminOperation(route).answers),
    ...Object.values(CLIENT_OPERATIONS).map(({ answers }) => answers),
  ]
    .flatMap((answers) => Object.values(answers).map(({ schema }) => schema))
    .filter(isSchema);

/** As they are sent: what has a default may be left out. */
export const bodySchemas = () => namedIn(sent(), 'input');
/**
 * As they are answered: every field is there that has a default, and no other. Clients that parse with these schemas
 * leave out what they do not know.
 */
export const answerSchemas = () => namedIn(answered(), 'output');

/** One schema, inlined. */
function inlineSchema(schema: z.ZodType): JsonSchema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'input', metadata: z.registry(), ...how });
  return json;
}

/** Of the package. */
export const API_VERSION = '0.1.0';

type Json = Record<string, unknown>;

const named = (id: string): JsonSchema => ({ $ref: `${REFERENCES}${id}` });

/** For any admin key; it reveals nothing of what is stored. */
export function openApiDocument(): Json {
  const paths: Record<string, Json> = {};
  const add = (route: string, describe: (path: ParsedPath) => Json): void => {
    const [method = '', raw = ''] = route.split(' ');
    const path = parsePath(raw);
    (paths[path.template] ??= {})[method.toLowerCase()] = describe(path);
  };
  for (const [route, operation] of Object.entries(CLIENT_OPERATIONS))
    add(route, (path) => clientOperation(operation, path));
  for (const route of ADMIN_ROUTES)
    add(`${route.split(' ')[0]} ${routePath(route)}`, (path) => adminOperationObject(route, path));
  const bearer = (description: string) => ({ type: 'http', scheme: 'bearer', description });
  return {
    openapi: '3.1.1',
    info: {
      title: 'graft',
      version: API_VERSION,
      description: 'The API of the edge.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: { ...bodySchemas(), ...answerSchemas() },
      responses: {
        Error: {
          description: 'The error.',
          content: { 'application/json': { schema: schemaObject(ErrorAnswer) } },
        },
      },
      securitySchemes: {
        adminKey: bearer("An admin key, `ga_…`, or the operator's bootstrap key."),
        apiKey: bearer('An API key, `gk_…`.'),
        downloadKey: bearer('A download token, `gd_v1.…`.'),
        publishKey: bearer('A publish token, `gp_v1.…`.'),
      },
    },
  };
}

function clientOperation(operation: Operation, path: ParsedPath): Json {
  const { key, body, query, headers = {}, answers } = operation;
  return operationObject(operation, {
    key,
    parameters: [
      ...pathParameters(path, {}),
      ...(query === undefined ? [] : queryParameters(query)),
      ...headerParameters(headers),
    ],
    body: body === undefined ? null : bodyContent(body),
    answers: mapValues(answers, clientAnswer),
  });
}

function adminOperationObject(route: AdminRoute, path: ParsedPath): Json {
  const operation = adminOperation(route);
  const { request, query, answers } = operation;
  return operationObject(operation, {
    key: 'admin',
    parameters: [
      ...pathParameters(path, { ...operation.params, ...operation.ids }),
      ...(query === null ? [] : queryParameters(query)),
    ],
    body: request === null ? null : bodyContent(request),
    answers: mapValues(answers, adminAnswer),
  });
}

/** Where it is not one kind of key, by its own name. */
const KEYS: Readonly<Partial<Record<'admin' | Operation['key'], readonly string[]>>> = {
  none: [],
  train: ['api', 'admin'],
};

function operationObject(
  { id, tag, summary, description }: Pick<Operation, 'id' | 'tag' | 'summary' | 'description'>,
  parts: { key: 'admin' | Operation['key']; parameters: Json[]; body: Json | null; answers: Json },
): Json {
  const { key, parameters, body, answers } = parts;
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    security: (KEYS[key] ?? [key]).map((kind) => ({ [`${kind}Key`]: [] })),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === null ? {} : { requestBody: { required: true, content: body } }),
    responses: { ...answers, default: { $ref: '#/components/responses/Error' } },
  };
}

const mapValues = <T>(values: Readonly<Record<string, T>>, map: (value: T) => Json): Json =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, map(value)]));

const jsonContent = (schema: JsonSchema): Json => ({ 'application/json': { schema } });

const bodyContent = (request: NonNullable<Operation['body']>): Json => {
  if (request === 'form') return { 'multipart/form-data': { schema: FILE_FORM } };
  return request === 'bytes' ? { 'application/octet-stream': {} } : jsonContent(schemaObject(request));
};

/** Body of `POST /v1/files`; the route reads it as it arrives. */
const FILE_FORM: JsonSchema = {
  type: 'object',
  properties: {
    file: { type: 'string', format: 'binary', description: 'JSON Lines.' },
    purpose: { type: 'string', const: FILE_PURPOSE },
    'expires_after[anchor]': { type: 'string', const: 'created_at' },
    'expires_after[seconds]': { type: 'integer', minimum: FILE_LIFE_S.least, maximum: FILE_LIFE_S.most },
  },
  required: ['file', 'purpose'],
  additionalProperties: false,
};

/** By its name, if it has one. */
function schemaObject(schema: z.ZodType): JsonSchema {
  const id = schema.meta()?.id;
  return id === undefined ? inlineSchema(schema) : named(id);
}

function answerContent(schema: NonNullable<AdminAnswer['schema']>): Json {
  if (schema === 'bytes') return { 'application/octet-stream': {} };
  return jsonContent(schema === 'object' ? { type: 'object' } : schemaObject(schema));
}

const adminAnswer = ({ description, schema }: AdminAnswer): Json => ({
  description,
  ...(schema === null ? {} : { content: answerContent(schema) }),
});

const clientAnswer = ({ description, schema, body, bytes, headers }: OperationAnswer): Json => ({
  description,
  ...(headers === undefined
    ? {}
    : { headers: mapValues(headers, (text) => ({ description: text, schema: { type: 'string' } })) }),
  content: {
    ...(bytes === true ? { 'application/octet-stream': {} } : {}),
    ...(bytes === true ? {} : jsonContent(schema === undefined ? { type: 'object' } : schemaObject(schema))),
    ...(body === undefined ? {} : { [body]: { schema: { type: 'string' } } }),
  },
});

interface PathParameter {
  name: string;
  /** The route's input, if it declares one. */
  pattern: string | null;
}

interface ParsedPath {
  /** As OpenAPI writes it, `/admin/keys/{id}`. */
  template: string;
  parameters: PathParameter[];
}

/** @param path as the app has it: `:id`, `:index{[0-9]{1,4}}`, and a `*` at the end for a name. */
export function parsePath(path: string): ParsedPath {
  const parameters: PathParameter[] = [];
  const segments = path.split('/').map((segment) => {
    const match = segment === '*' ? ['', 'name'] : /^:(\w+)(?:\{(.+)\})?$/.exec(segment);
    if (match === null) return segment;
    const [, name = '', pattern] = match;
    parameters.push({ name, pattern: pattern === undefined ? null : `^${pattern}$` });
    return `{${name}}`;
  });
  return { template: segments.join('/'), parameters };
}

export const pathParameters = (
  { parameters }: ParsedPath,
  schemas: Record<string, z.ZodType>,
): Record<string, unknown>[] =>
  parameters.map(({ name, pattern }) => {
    const schema = schemas[name];
    const text = { type: 'string', ...(pattern === null ? {} : { pattern }) };
    return { name, in: 'path', required: true, schema: schema === undefined ? text : inlineSchema(schema) };
  });

export function queryParameters(query: z.ZodObject): Record<string, unknown>[] {
  const { properties = {}, required = [] } = inlineSchema(query) as {
    properties?: Record<string, JsonSchema>;
    required?: string[];
  };
  return Object.entries(properties).map(([name, schema]) => ({
    name,
    in: 'query',
    required: required.includes(name),
    schema: asSent(schema),
  }));
}

const headerParameters = (headers: Record<string, string>): Record<string, unknown>[] =>
  Object.entries(headers).map(([name, description]) => ({
    name,
    in: 'header',
    required: false,
    description,
    schema: { type: 'string' },
  }));

/** A query has no null: in routes it means that the parameter is absent. */
function asSent({ default: preset, anyOf, ...schema }: JsonSchema): JsonSchema {
  const choices = (anyOf as JsonSchema[] | undefined)?.filter(({ type }) => type !== 'null');
  return {
    ...schema,
    ...(choices === undefined ? {} : choices.length === 1 ? choices[0] : { anyOf: choices }),
    ...(preset === undefined || preset === null ? {} : { default: preset }),
  };
}

/** `GET /admin/openapi.json` -> the API as an OpenAPI 3.1 document. */
export function adminOpenApiRoutes(): Hono<AppEnv> {
  const routes = new Hono<AppEnv>();
  // Built once, on demand: it takes tens of milliseconds.
  let document: object | undefined;
  adminRoute(routes, 'GET /admin/openapi.json', ({ context }) =>
    context.json((document ??= openApiDocument())),
  );
  return routes;
}

/** Content of one answer; without a schema it is an object described elsewhere: OpenAI's. */
interface OperationAnswer {
  description: string;
  schema?: z.ZodType;
  /** As well as JSON, depending on the request. */
  body?: 'text/event-stream';
  /** It is not JSON. */
  bytes?: true;
  /** In addition to those of every answer: name -> description. */
  headers?: Record<string, string>;
}

/** One of the client API. */
interface Operation {
  /** `operationId`: the name in generated clients. */
  id: string;
  tag: string;
  summary: string;
  description?: string;
  /** The kind of key that it needs. */
  key: 'api' | 'train' | 'download' | 'publish' | 'none';
  query?: z.ZodObject;
  /** Name -> description. */
  headers?: Record<string, string>;
  body?: z.ZodType | 'bytes' | 'form';
  answers: Record<number, OperationAnswer>;
}

/** By the route as the app has it, `GET /v1/models/*`. */
type Operations = Readonly<Record<string, Operation>>;

const COMPLETION_HEADERS = {
  'x-graft-adapter': 'What answered: `name@version`, or `base`.',
  'x-graft-experiment': 'The experiment that the request was part of.',
  'x-graft-variant': 'The variant that answered.',
};

const completion = (id: string, summary: string, body: z.ZodType, answer: string): Operation => ({
  id,
  tag: 'completions',
  key: 'api',
  summary,
  headers: { [USER_HEADER]: 'The end user, for experiments, if the body names none.' },
  body,
  answers: {
    200: {
      description: `${answer} of OpenAI's API; with \`stream\`, its events.`,
      body: 'text/event-stream',
      headers: COMPLETION_HEADERS,
    },
  },
});

/** The edge takes its own fields out before the rest is parsed. */
const edge = EdgeFields.shape;
const BODIES = {
  ChatCompletionRequest: ChatCompletionRequest.extend(edge).meta({ id: 'ChatCompletionRequest' }),
  ClassifyRequest: ClassifyRequest.extend(edge).meta({ id: 'ClassifyRequest' }),
  EmbeddingRequest: EmbeddingRequest.extend(edge).meta({ id: 'EmbeddingRequest' }),
  MessagesRequest: MessagesRequest.extend(edge).meta({ id: 'MessagesRequest' }),
  RerankRequest: RerankRequest.extend(edge).meta({ id: 'RerankRequest' }),
  ResponseRequest: ResponseRequest.extend(edge).meta({ id: 'ResponseRequest' }),
  ScoreRequest: ScoreRequest.extend(edge).meta({ id: 'ScoreRequest' }),
  TextCompletionRequest: TextCompletionRequest.extend(edge).meta({ id: 'TextCompletionRequest' }),
};

/** The client API's operations. */
const CLIENT_OPERATIONS: Operations = {
  'POST /v1/chat/completions': completion(
    'createChatCompletion',
    'A chat completion by the adapter that `model` names.',
    BODIES.ChatCompletionRequest,
    'The chat completion',
  ),
  'POST /v1/completions': completion(
    'createCompletion',
    'A text completion by the adapter that `model` names.',
    BODIES.TextCompletionRequest,
    'The completion',
  ),
  'POST /v1/responses': completion(
    'createResponse',
    'A response by the adapter that `model` names.',
    BODIES.ResponseRequest,
    'The response',
  ),
  'POST /v1/messages': {
    ...completion(
      'createMessage',
      'A message of Anthropic’s API by the adapter that `model` names.',
      BODIES.MessagesRequest,
      'The message',
    ),
    answers: {
      200: {
        description: 'The message of Anthropic’s API; with `stream`, its events.',
        body: 'text/event-stream',
        headers: COMPLETION_HEADERS,
      },
    },
  },
  'POST /v1/messages/count_tokens': {
    id: 'countMessageTokens',
    tag: 'models',
    key: 'api',
    summary: 'Counts the tokens of a message’s prompt.',
    body: CountTokensRequest,
    answers: { 200: { description: 'Their number.', schema: CountTokensAnswer } },
  },
  'POST /v1/responses/input_tokens': {
    id: 'countResponseTokens',
    tag: 'models',
    key: 'api',
    summary: 'Counts the tokens of a response’s prompt.',
    body: BODIES.ResponseRequest,
    answers: { 200: { description: 'Their number.', schema: InputTokensAnswer } },
  },
  'POST /v1/embeddings': {
    id: 'createEmbedding',
    tag: 'completions',
    key: 'api',
    summary: 'A vector for each text, by the adapter that `model` names.',
    description:
      'The hidden states of the tokens, pooled and normalized to length 1. Never part of an ' +
      'experiment, because vectors of two versions cannot be compared.',
    body: BODIES.EmbeddingRequest,
    answers: { 200: { description: 'The vectors, in the order of the texts.', schema: EmbeddingList } },
  },
  'POST /v1/classify': {
    id: 'classify',
    tag: 'completions',
    key: 'api',
    summary: 'Classifies each text by the classification head of the adapter that `model` names.',
    description:
      'As in vLLM. The head reads the last token of a text, a list of token ids, or a conversation.',
    headers: { [USER_HEADER]: 'The end user, for experiments, if the body names none.' },
    body: BODIES.ClassifyRequest,
    answers: {
      200: {
        description: 'The classes, in the order of the texts.',
        schema: ClassifyAnswer,
        headers: COMPLETION_HEADERS,
      },
    },
  },
  'POST /v1/score': {
    id: 'score',
    tag: 'completions',
    key: 'api',
    summary: 'Scores pairs of texts by an adapter whose classification head has one class.',
    description: 'As in vLLM: the second text stands behind the first, with nothing between.',
    headers: { [USER_HEADER]: 'The end user, for experiments, if the body names none.' },
    body: BODIES.ScoreRequest,
    answers: {
      200: {
        description: 'The scores, in the order of the pairs.',
        schema: ScoreAnswer,
        headers: COMPLETION_HEADERS,
      },
    },
  },
  'POST /v1/rerank': {
    id: 'rerank',
    tag: 'completions',
    key: 'api',
    summary: 'Sorts documents by how relevant an adapter whose classification head has one class finds them.',
    description: 'As in vLLM, and for Jina’s and Cohere’s clients: each document stands behind the query.',
    headers: { [USER_HEADER]: 'The end user, for experiments, if the body names none.' },
    body: BODIES.RerankRequest,
    answers: {
      200: {
        description: 'The most relevant documents first.',
        schema: RerankAnswer,
        headers: COMPLETION_HEADERS,
      },
    },
  },
  'POST /tokenize': {
    id: 'tokenize',
    tag: 'models',
    key: 'api',
    summary: 'Converts a text, or a conversation in the chat template, to token ids.',
    body: TokenizeRequest,
    answers: { 200: { description: 'Their ids and number.', schema: TokenizeAnswer } },
  },
  'POST /detokenize': {
    id: 'detokenize',
    tag: 'models',
    key: 'api',
    summary: 'Converts token ids to text.',
    body: DetokenizeRequest,
    answers: { 200: { description: 'The text.', schema: DetokenizeAnswer } },
  },
  'POST /v1/feedback': {
    id: 'giveFeedback',
    tag: 'experiments',
    key: 'api',
    summary: 'Records what a user or application thinks of an answer that belongs to an experiment.',
    body: FeedbackRequest,
    answers: { 200: { description: 'It is counted, or was before.', schema: FeedbackAnswer } },
  },
  'POST /v1/preferences': {
    id: 'reportPreference',
    tag: 'adapters',
    key: 'api',
    summary:
      'Records which of two answers a user preferred, by their requests. Keys with `keep_prompts` and `improve` only.',
    body: PreferenceRequest,
    answers: { 200: { description: 'It is recorded, or was before.', schema: PreferenceAnswer } },
  },
  'POST /v1/download-tokens': {
    id: 'makeDownloadToken',
    tag: 'adapters',
    key: 'api',
    summary:
      'Creates a short-lived token that lets a page download adapters. Keys with the right to download only.',
    body: DownloadTokenRequest,
    answers: { 200: { description: 'The token, and what it opens.', schema: DownloadToken } },
  },
  'GET /v1/downloads': {
    id: 'readDownloadChain',
    tag: 'adapters',
    key: 'download',
    summary:
      'Describes the live version of a name, and the parts of its chain’s files. Needs a download token.',
    query: z.strictObject({ name: AdapterName }),
    answers: { 200: { description: 'The chain, root first.', schema: DownloadChain } },
  },
  'GET /v1/downloads/parts/:index{[0-9]{1,4}}': {
    id: 'readDownloadPart',
    tag: 'adapters',
    key: 'download',
    summary: 'Reads one part of a file of a version’s chain. Needs a download token.',
    query: z.strictObject({ name: AdapterName, version: z.string(), digest: Digest }),
    answers: { 200: { description: "The part's bytes.", bytes: true } },
  },
  'POST /v1/publish-tokens': {
    id: 'makePublishToken',
    tag: 'adapters',
    key: 'api',
    summary:
      'Creates a short-lived token that lets a page publish a staged version of one name. Keys with the right ' +
      'to publish only.',
    body: PublishTokenRequest,
    answers: { 200: { description: 'The token, and what it allows.', schema: PublishToken } },
  },
  'PUT /v1/publications/parts/:index{[0-9]{1,4}}': {
    id: 'sendPublicationPart',
    tag: 'adapters',
    key: 'publish',
    summary: 'Sends one part of a file to publish. Needs a publish token.',
    query: PublicationPartQuery,
    body: 'bytes',
    answers: { 200: { description: 'The part, as received.', schema: BlobPart } },
  },
  'POST /v1/publications': {
    id: 'publishFromPage',
    tag: 'adapters',
    key: 'publish',
    summary: 'Publishes a file, whose parts were sent, as a staged version. Needs a publish token.',
    body: PublicationRequest,
    answers: {
      200: { description: 'The version, which existed already.', schema: Publication },
      201: { description: 'The new version.', schema: Publication },
    },
  },
  'POST /v1/files': {
    id: 'sendRows',
    tag: 'training',
    key: 'train',
    summary: 'Sends a file of rows for fine-tuning jobs. Keys with the right to train only, here and below.',
    body: 'form',
    answers: { 200: { description: 'The file.', schema: FileObject } },
  },
  'GET /v1/files': {
    id: 'listRows',
    tag: 'training',
    key: 'train',
    summary: "Lists the tenant's files of rows.",
    query: FileListQuery,
    answers: { 200: { description: 'A page of them.', schema: FileList } },
  },
  'GET /v1/files/:id': {
    id: 'describeRows',
    tag: 'training',
    key: 'train',
    summary: 'Shows one file of rows.',
    answers: { 200: { description: 'The file.', schema: FileObject } },
  },
  'GET /v1/files/:id/content': {
    id: 'readRows',
    tag: 'training',
    key: 'train',
    summary: 'Reads the bytes of a file of rows.',
    answers: { 200: { description: 'Its bytes, as they were sent.', bytes: true } },
  },
  'DELETE /v1/files/:id': {
    id: 'deleteRows',
    tag: 'training',
    key: 'train',
    summary: 'Deletes a file of rows.',
    answers: { 200: { description: 'It is deleted.', schema: FileDeleted } },
  },
  'POST /v1/fine_tuning/jobs': {
    id: 'createFineTuningJob',
    tag: 'training',
    key: 'train',
    summary: 'Creates a fine-tuning job, whose result becomes a staged version of a name of the tenant.',
    body: JobRequest,
    answers: { 200: { description: 'The job.', schema: JobView } },
  },
  'GET /v1/fine_tuning/jobs': {
    id: 'listFineTuningJobs',
    tag: 'training',
    key: 'train',
    summary: "Lists the tenant's jobs.",
    query: JobListQuery,
    answers: { 200: { description: 'A page of them, newest first.', schema: JobPage } },
  },
  'GET /v1/fine_tuning/jobs/:id': {
    id: 'readFineTuningJob',
    tag: 'training',
    key: 'train',
    summary: 'Shows one job.',
    answers: { 200: { description: 'The job.', schema: JobView } },
  },
  'GET /v1/fine_tuning/jobs/:id/events': {
    id: 'listFineTuningEvents',
    tag: 'training',
    key: 'train',
    summary: "Lists a job's events: messages, and losses of its steps.",
    query: JobEventQuery,
    answers: { 200: { description: 'A page of them, newest first.', schema: JobEventPage } },
  },
  'GET /v1/fine_tuning/jobs/:id/checkpoints': {
    id: 'listFineTuningCheckpoints',
    tag: 'training',
    key: 'train',
    summary:
      'Lists what of a job can be asked: its result and, where they were asked for, adapters of earlier steps.',
    query: JobCheckpointQuery,
    answers: { 200: { description: 'Three at most, newest first.', schema: JobCheckpointPage } },
  },
  'POST /v1/fine_tuning/jobs/:id/cancel': {
    id: 'cancelFineTuningJob',
    tag: 'training',
    key: 'train',
    summary: 'Ends a job without a result.',
    answers: { 200: { description: 'The job.', schema: JobView } },
  },
  'POST /v1/fine_tuning/jobs/:id/pause': {
    id: 'pauseFineTuningJob',
    tag: 'training',
    key: 'train',
    summary: 'Stops a job; what is trained is kept.',
    answers: { 200: { description: 'The job.', schema: JobView } },
  },
  'POST /v1/fine_tuning/jobs/:id/resume': {
    id: 'resumeFineTuningJob',
    tag: 'training',
    key: 'train',
    summary: 'Lets a paused job go on.',
    answers: { 200: { description: 'The job.', schema: JobView } },
  },
  'GET /v1/models': {
    id: 'listModels',
    tag: 'models',
    key: 'api',
    summary: 'Lists the models that the key may use.',
    query: z.strictObject({ prefix: z.string().optional(), after: z.string().optional() }),
    answers: { 200: { description: 'Models of OpenAI’s API, at most 1,000.', schema: ModelList } },
  },
  'GET /v1/models/*': {
    id: 'readModel',
    tag: 'models',
    key: 'api',
    summary: 'Shows one name; its slashes may be raw or encoded.',
    answers: { 200: { description: 'A model of OpenAI’s API.', schema: Model } },
  },
  'GET /health': {
    id: 'readHealthAsVllm',
    tag: 'models',
    key: 'none',
    summary: 'The same as `/healthz`, at the path that clients of vLLM use.',
    answers: { 200: { description: 'It lives.', schema: HealthAnswer } },
  },
  'GET /healthz': {
    id: 'readHealth',
    tag: 'models',
    key: 'none',
    summary: 'Shows whether the edge runs.',
    answers: { 200: { description: 'It does.', schema: HealthAnswer } },
  },
  'GET /readyz': {
    id: 'readReadiness',
    tag: 'models',
    key: 'none',
    summary: 'Shows whether the edge can serve: its registry and at least one origin answer. 503 otherwise.',
    answers: { 200: { description: 'It can.', schema: HealthAnswer } },
  },
};
