/** The admin API's own description. */
import type { AdminOperationTable } from './operation.ts';

export const OPENAPI_OPERATIONS = {
  'GET /admin/openapi.json': {
    id: 'readOpenApi',
    tag: 'operation',
    rights: 'admin',
    summary: 'This document.',
    query: null,
    request: null,
    answers: { 200: { description: 'An OpenAPI 3.1 document.', schema: 'object' } },
  },
} as const satisfies AdminOperationTable;
