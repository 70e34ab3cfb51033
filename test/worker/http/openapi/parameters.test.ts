import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { parsePath, pathParameters, queryParameters } from '../../../../worker/http/openapi/document.ts';

describe('parsePath', () => {
  it.each([
    ['/admin/keys', '/admin/keys', []],
    ['/admin/keys/:id', '/admin/keys/{id}', [{ name: 'id', pattern: null }]],
    [
      '/admin/blobs/:digest/parts/:index{[0-9]{1,4}}',
      '/admin/blobs/{digest}/parts/{index}',
      [
        { name: 'digest', pattern: null },
        { name: 'index', pattern: '^[0-9]{1,4}$' },
      ],
    ],
    ['/v1/models/*', '/v1/models/{name}', [{ name: 'name', pattern: null }]],
  ])('%s', (path, template, parameters) => {
    expect(parsePath(path)).toEqual({ template, parameters });
  });
});

describe('pathParameters', () => {
  it('has the schema that is known, else the pattern of the path, else text', () => {
    const path = parsePath('/:id/:index{[0-9]}/:word');
    const known = { id: z.string().regex(/^a/) };
    expect(pathParameters(path, known).map(({ name, schema }) => [name, schema])).toEqual([
      ['id', { type: 'string', pattern: '^a' }],
      ['index', { type: 'string', pattern: '^[0-9]$' }],
      ['word', { type: 'string' }],
    ]);
  });
});

describe('queryParameters', () => {
  it.each([
    ['one that is needed', z.string().max(3), true, { type: 'string', maxLength: 3 }],
    [
      'one with a default',
      z.enum(['a', 'b']).default('a'),
      false,
      { type: 'string', enum: ['a', 'b'], default: 'a' },
    ],
    ['null for none', z.string().max(3).nullable().default(null), false, { type: 'string', maxLength: 3 }],
    [
      'text that becomes a number',
      z.string().regex(/^\d$/).transform(Number),
      true,
      { type: 'string', pattern: '^\\d$' },
    ],
    ['a date', z.iso.date().optional(), false, { type: 'string', format: 'date' }],
    [
      'one of two kinds',
      z.union([z.iso.date(), z.literal('now'), z.null()]).optional(),
      false,
      {
        anyOf: [
          { type: 'string', format: 'date' },
          { type: 'string', const: 'now' },
        ],
      },
    ],
  ])('%s', (_, schema, required, json) => {
    expect(queryParameters(z.strictObject({ at: schema }))).toEqual([
      { name: 'at', in: 'query', required, schema: json },
    ]);
  });
});
