import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';
import { openApiDocument } from '../../../../worker/http/openapi/document.ts';

interface Content {
  'application/json'?: { schema: { $ref?: string } };
  'application/octet-stream'?: object;
}
export interface DocumentedAnswer {
  description: string;
  content?: Content;
}
export interface DocumentedOperation {
  operationId: string;
  parameters?: { name: string; in: string; required: boolean; schema: object }[];
  requestBody?: { content: Content };
  responses: Record<string, DocumentedAnswer>;
}

/** As a client reads it. */
export const apiDocument = JSON.parse(JSON.stringify(openApiDocument())) as {
  openapi: string;
  info: { version: string };
  paths: Record<string, Record<string, DocumentedOperation>>;
  components: { schemas: Record<string, object> };
};

export const documentedOperations: DocumentedOperation[] = Object.values(apiDocument.paths).flatMap((item) =>
  Object.values(item),
);

const ajv = new Ajv2020({ strict: false, validateFormats: false, allErrors: true });
ajv.addSchema(apiDocument, 'api');

/** Compiling one takes a hundred times as long as a check by it. */
const validators = new WeakMap<object, ValidateFunction>();

function validatorOf(schema: { $ref?: string }): ValidateFunction {
  const compiled =
    schema.$ref === undefined
      ? (validators.get(schema) ?? ajv.compile(schema))
      : // Kept by its name.
        ajv.getSchema(`api${schema.$ref}`);
  if (compiled === undefined) throw new Error(`the document has no ${schema.$ref}`);
  validators.set(schema, compiled);
  return compiled;
}

/** @param schema of the document, its references as they stand there. @returns what is wrong with `value`, or null. */
export function problemOf(schema: object, value: unknown): string | null {
  const validate = validatorOf(schema);
  return validate(value) ? null : ajv.errorsText(validate.errors);
}
