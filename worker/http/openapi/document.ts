/** The API as an OpenAPI 3.1 document, made from the operations and schemas that the routes are made from. */
import { z } from 'zod';
import type { AdminAnswer, AdminOperation } from '../../../protocol/admin-api/operation.ts';
import { ADMIN_ROUTES, adminOperation, type AdminRoute } from '../../../protocol/admin-api/operations.ts';
import { AdapterName, Digest } from '../../../protocol/identity.ts';
import { routePath, adminRoute } from '../admin-route.ts';
import { ANSWERS, BODIES, type AnswerName, type BodyName } from './schemas.ts';
import { Hono } from 'hono';
import type { AppEnv } from '../request.ts';
import { USER_HEADER } from '../../experiments/assign.ts';

type JsonSchema = Record<string, unknown>;

const how = {
  unrepresentable: 'any',
  /** zod says a date's format twice, the second time in half a kilobyte of pattern. */
  override({ jsonSchema }) {
    if (jsonSchema.format !== undefined) delete jsonSchema.pattern;
  },
} satisfies z.core.ToJSONSchemaParams;

const uri = (id: string): string => `#/components/schemas/${id}`;

/**
 * Checks that JSON Schema has no words for (a name's syntax, weights that sum to 1) are left out: what the schema refuses
 * the route refuses, and the route refuses more.
 */
function schemasOf(named: Record<string, z.ZodType>, io: 'input' | 'output'): Record<string, JsonSchema> {
  const registry = z.registry<{ id: string }>();
  for (const [id, schema] of Object.entries(named)) registry.add(schema, { id });
  const { schemas } = z.toJSONSchema(registry, { uri, io, ...how });
  return Object.fromEntries(
    Object.entries(schemas).map(([id, { $schema: _, $id: __, ...schema }]) => [id, schema]),
  );
}

/** `components.schemas` of the document. */
const componentSchemas = (): Record<string, JsonSchema> => ({
  ...schemasOf(BODIES, 'input'),
  ...schemasOf(ANSWERS, 'output'),
});

/** One schema as it is sent, in place. */
function inlineSchema(schema: z.ZodType): JsonSchema {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { io: 'input', ...how });
  return json;
}

/** Of the package. */
export const API_VERSION = '0.1.0';

type Json = Record<string, unknown>;

const named = (name: string): JsonSchema => ({ $ref: `#/components/schemas/${name}` });

/** For whoever has an admin key; it tells nothing of what is stored. */
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
      description: 'What the edge takes and answers.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    servers: [{ url: '/' }],
    paths,
    components: {
      schemas: componentSchemas(),
      responses: {
        Error: {
          description: 'What went wrong.',
          content: { 'application/json': { schema: named('Error') } },
        },
      },
      securitySchemes: {
        adminKey: bearer("An admin key, `ga_…`, or the operator's bootstrap key."),
        apiKey: bearer('An API key, `gk_…`.'),
        downloadKey: bearer('A download token, `gd_v1.…`.'),
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
    body: body === undefined ? null : jsonContent(named(body)),
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
    security: key === 'none' ? [] : [{ [`${key}Key`]: [] }],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === null ? {} : { requestBody: { required: true, content: body } }),
    responses: { ...answers, default: { $ref: '#/components/responses/Error' } },
  };
}

const mapValues = <T>(values: Readonly<Record<string, T>>, map: (value: T) => Json): Json =>
  Object.fromEntries(Object.entries(values).map(([name, value]) => [name, map(value)]));

const jsonContent = (schema: JsonSchema): Json => ({ 'application/json': { schema } });

const bodyContent = (request: NonNullable<AdminOperation['request']>): Json =>
  request === 'bytes' ? { 'application/octet-stream': {} } : jsonContent(schemaObject(request, BODIES));

/** By its name, where it has one. */
function schemaObject(schema: z.ZodType, names: Readonly<Record<string, z.ZodType>>): JsonSchema {
  const name = Object.keys(names).find((one) => names[one] === schema);
  return name === undefined ? inlineSchema(schema) : named(name);
}

function answerContent(schema: NonNullable<AdminAnswer['schema']>): Json {
  if (schema === 'bytes') return { 'application/octet-stream': {} };
  return jsonContent(schema === 'object' ? { type: 'object' } : schemaObject(schema, ANSWERS));
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
    ...(bytes === true ? {} : jsonContent(schema === undefined ? { type: 'object' } : named(schema))),
    ...(body === undefined ? {} : { [body]: { schema: { type: 'string' } } }),
  },
});

interface PathParameter {
  name: string;
  /** What the route takes, where it says so. */
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

/** A query has no null: it is how the route says that the parameter was not there. */
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
  // Made once, when somebody asks: it takes tens of milliseconds.
  let document: object | undefined;
  adminRoute(routes, 'GET /admin/openapi.json', ({ context }) =>
    context.json((document ??= openApiDocument())),
  );
  return routes;
}

/** What one answer is; without a schema it is an object that others describe: OpenAI. */
interface OperationAnswer {
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
interface Operation {
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
type Operations = Readonly<Record<string, Operation>>;

const COMPLETION_HEADERS = {
  'x-graft-adapter': 'What served: `name@version`, or `base`.',
  'x-graft-experiment': 'Id of the experiment that the request was in.',
  'x-graft-variant': 'Key of the variant that served.',
};

const completion = (id: string, summary: string, body: BodyName, answer: string): Operation => ({
  id,
  tag: 'completions',
  key: 'api',
  summary,
  headers: { [USER_HEADER]: 'The end user, for experiments, where the body names none.' },
  body,
  answers: {
    200: {
      description: `${answer} of OpenAI's API; events of it with \`stream\`.`,
      body: 'text/event-stream',
      headers: COMPLETION_HEADERS,
    },
  },
});

/** What applications call. */
const CLIENT_OPERATIONS: Operations = {
  'POST /v1/chat/completions': completion(
    'createChatCompletion',
    'A chat completion by the adapter that `model` names.',
    'ChatCompletionRequest',
    'The chat completion',
  ),
  'POST /v1/completions': completion(
    'createCompletion',
    'A text completion by the adapter that `model` names.',
    'TextCompletionRequest',
    'The completion',
  ),
  'POST /v1/responses': completion(
    'createResponse',
    'A response by the adapter that `model` names.',
    'ResponseRequest',
    'The response',
  ),
  'POST /v1/messages': {
    ...completion(
      'createMessage',
      'A message of Anthropic’s API by the adapter that `model` names.',
      'MessagesRequest',
      'The message',
    ),
    answers: {
      200: {
        description: 'The message of Anthropic’s API; events of it with `stream`.',
        body: 'text/event-stream',
        headers: COMPLETION_HEADERS,
      },
    },
  },
  'POST /v1/messages/count_tokens': {
    id: 'countMessageTokens',
    tag: 'models',
    key: 'api',
    summary: 'How many tokens a message’s prompt has.',
    body: 'CountTokensRequest',
    answers: { 200: { description: 'Their number.', schema: 'CountTokensAnswer' } },
  },
  'POST /v1/responses/input_tokens': {
    id: 'countResponseTokens',
    tag: 'models',
    key: 'api',
    summary: 'How many tokens a response’s prompt has.',
    body: 'ResponseRequest',
    answers: { 200: { description: 'Their number.', schema: 'InputTokensAnswer' } },
  },
  'POST /v1/embeddings': {
    id: 'createEmbedding',
    tag: 'completions',
    key: 'api',
    summary: 'A vector for each text, by the adapter that `model` names.',
    description:
      'The hidden states of the tokens, pooled and brought to length 1. No experiment is joined: vectors of two versions cannot be compared.',
    body: 'EmbeddingRequest',
    answers: { 200: { description: 'The vectors, in the order of the texts.', schema: 'EmbeddingList' } },
  },
  'POST /tokenize': {
    id: 'tokenize',
    tag: 'models',
    key: 'api',
    summary: 'A text, or a conversation in the chat template, as token ids.',
    body: 'TokenizeRequest',
    answers: { 200: { description: 'Their ids and number.', schema: 'TokenizeAnswer' } },
  },
  'POST /detokenize': {
    id: 'detokenize',
    tag: 'models',
    key: 'api',
    summary: 'The text of token ids.',
    body: 'DetokenizeRequest',
    answers: { 200: { description: 'The text.', schema: 'DetokenizeAnswer' } },
  },
  'POST /v1/feedback': {
    id: 'giveFeedback',
    tag: 'experiments',
    key: 'api',
    summary: 'What an application, or its user, thinks of an answer that belongs to an experiment.',
    body: 'FeedbackRequest',
    answers: { 200: { description: 'It is counted, or was before.', schema: 'FeedbackAnswer' } },
  },
  'POST /v1/download-tokens': {
    id: 'makeDownloadToken',
    tag: 'adapters',
    key: 'api',
    summary: 'A short-lived token with which a page fetches adapters. Keys with the right to download only.',
    body: 'DownloadTokenRequest',
    answers: { 200: { description: 'The token, and what it opens.', schema: 'DownloadToken' } },
  },
  'GET /v1/downloads': {
    id: 'readDownloadChain',
    tag: 'adapters',
    key: 'download',
    summary: 'The live version of a name, and the parts of its chain’s files. Takes a download token.',
    query: z.strictObject({ name: AdapterName }),
    answers: { 200: { description: 'The chain, root first.', schema: 'DownloadChain' } },
  },
  'GET /v1/downloads/parts/:index{[0-9]{1,4}}': {
    id: 'readDownloadPart',
    tag: 'adapters',
    key: 'download',
    summary: 'One part of a file of a version’s chain. Takes a download token.',
    query: z.strictObject({ name: AdapterName, version: z.string(), digest: Digest }),
    answers: { 200: { description: 'Its bytes.', bytes: true } },
  },
  'GET /v1/models': {
    id: 'listModels',
    tag: 'models',
    key: 'api',
    summary: 'What the key may use.',
    query: z.strictObject({ prefix: z.string().optional(), after: z.string().optional() }),
    answers: { 200: { description: 'Models of OpenAI’s API, at most 1,000.', schema: 'ModelList' } },
  },
  'GET /v1/models/*': {
    id: 'readModel',
    tag: 'models',
    key: 'api',
    summary: 'One name; its slashes raw or encoded.',
    answers: { 200: { description: 'A model of OpenAI’s API.', schema: 'Model' } },
  },
  'GET /health': {
    id: 'readHealthAsVllm',
    tag: 'models',
    key: 'none',
    summary: 'The same as `/healthz`, where clients of vLLM look.',
    answers: { 200: { description: 'It lives.', schema: 'Health' } },
  },
  'GET /healthz': {
    id: 'readHealth',
    tag: 'models',
    key: 'none',
    summary: 'Whether the edge lives.',
    answers: { 200: { description: 'It does.', schema: 'Health' } },
  },
  'GET /readyz': {
    id: 'readReadiness',
    tag: 'models',
    key: 'none',
    summary: 'Whether the edge can serve: its registry and an origin answer. 503 when not.',
    answers: { 200: { description: 'It can.', schema: 'Health' } },
  },
};
