/** The API as an OpenAPI 3.1 document, made from the schemas that the routes parse with. */
import { ADMIN_OPERATIONS } from './admin-operations.ts';
import { CLIENT_OPERATIONS } from './client-operations.ts';
import { componentSchemas, type JsonSchema } from './component-schemas.ts';
import { EXPERIMENT_OPERATIONS } from './experiment-operations.ts';
import { RIGHTS_OPERATIONS } from './rights-operations.ts';
import type { Operation, OperationAnswer, Operations } from './operation.ts';
import { headerParameters, parsePath, pathParameters, queryParameters } from './parameters.ts';

/** Of the package. */
export const API_VERSION = '0.1.0';

export const OPERATIONS: Operations = {
  ...CLIENT_OPERATIONS,
  ...ADMIN_OPERATIONS,
  ...RIGHTS_OPERATIONS,
  ...EXPERIMENT_OPERATIONS,
};

type Json = Record<string, unknown>;

const named = (name: string): JsonSchema => ({ $ref: `#/components/schemas/${name}` });

/** For whoever has an admin key; it tells nothing of what is stored. */
export function openApiDocument(): Json {
  const paths: Record<string, Json> = {};
  for (const [route, operation] of Object.entries(OPERATIONS)) {
    const [method = '', raw = ''] = route.split(' ');
    const path = parsePath(raw);
    const item = (paths[path.template] ??= {});
    item[method.toLowerCase()] = operationObject(operation, pathParameters(path, operation.path ?? {}));
  }
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
      },
    },
  };
}

function operationObject(operation: Operation, inPath: Json[]): Json {
  const { id, tag, summary, description, key, body, query, headers = {}, answers } = operation;
  const parameters = [
    ...inPath,
    ...(query === undefined ? [] : queryParameters(query)),
    ...headerParameters(headers),
  ];
  return {
    operationId: id,
    tags: [tag],
    summary,
    ...(description === undefined ? {} : { description }),
    security: key === 'none' ? [] : [{ [`${key}Key`]: [] }],
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: { required: true, content: bodyContent(body) } }),
    responses: {
      ...Object.fromEntries(
        Object.entries(answers).map(([status, answer]) => [status, responseObject(answer)]),
      ),
      default: { $ref: '#/components/responses/Error' },
    },
  };
}

const bodyContent = (body: NonNullable<Operation['body']>): Json =>
  body === 'bytes' ? { 'application/octet-stream': {} } : { 'application/json': { schema: named(body) } };

function responseObject({ description, schema, body, headers }: OperationAnswer): Json {
  const json = { schema: schema === undefined ? { type: 'object' } : named(schema) };
  return {
    description,
    ...(headers === undefined
      ? {}
      : {
          headers: Object.fromEntries(
            Object.entries(headers).map(([name, text]) => [
              name,
              { description: text, schema: { type: 'string' } },
            ]),
          ),
        }),
    ...(body === 'none'
      ? {}
      : {
          content: {
            'application/json': json,
            ...(body === 'text/event-stream' ? { [body]: { schema: { type: 'string' } } } : {}),
          },
        }),
  };
}
