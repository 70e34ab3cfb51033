import { readFileSync } from 'node:fs';
import { Validator } from '@seriousme/openapi-schema-validator';
import { describe, expect, it } from 'vitest';
import { createApp } from '../../../../worker/app.ts';
import { answerSchemas, bodySchemas } from '../../../../worker/http/openapi/document.ts';
import { createAppHarness } from '../../app-harness.ts';
import { apiDocument, documentedOperations } from './api-document.ts';

/** The page is not part of the API. */
const isApi = (path: string) => path !== '/' && !/^\/(dashboard|base)(\/|$)/.test(path);

/** `/admin/keys/:id`, `:index{[0-9]{1,4}}` and `*` as OpenAPI writes them. */
const template = (path: string) => path.replaceAll(/:(\w+)(\{[^/]*\})?/g, '{$1}').replace(/\*$/, '{name}');

/** Objects with named fields that may have others, too. */
function openObjects(schema: unknown): object[] {
  if (typeof schema !== 'object' || schema === null) return [];
  const open = 'properties' in schema && !('additionalProperties' in schema && !schema.additionalProperties);
  return [...(open ? [schema] : []), ...Object.values(schema).flatMap(openObjects)];
}

describe('the OpenAPI document', () => {
  it('is one of version 3.1', async () => {
    const validator = new Validator();
    const { valid, errors } = await validator.validate(apiDocument);
    expect(errors ?? []).toEqual([]);
    expect(valid).toBe(true);
    expect(validator.version).toBe('3.1');
  });

  it('has every route of the app, and no other', async () => {
    const { services } = await createAppHarness();
    const routes = createApp(services)
      .routes.filter(({ method, path }) => method !== 'ALL' && isApi(path))
      .map(({ method, path }) => `${method} ${template(path)}`);
    const documented = Object.entries(apiDocument.paths).flatMap(([path, item]) =>
      Object.keys(item).map((method) => `${method.toUpperCase()} ${path}`),
    );
    expect(documented.sort(), 'add the route to worker/http/openapi/document.ts').toEqual(
      [...new Set(routes)].sort(),
    );
  });

  it('refers to nothing that it has not, and has no schema that nothing refers to', () => {
    const refs = new Set(
      [...JSON.stringify(apiDocument).matchAll(/"\$ref":"#\/components\/(\w+\/\w+)"/g)].map(([, ref]) => ref),
    );
    const has = Object.entries(apiDocument.components).flatMap(([kind, named]) =>
      kind === 'securitySchemes' ? [] : Object.keys(named).map((name) => `${kind}/${name}`),
    );
    expect([...refs].sort()).toEqual(has.sort());
    expect(JSON.stringify(apiDocument)).not.toMatch(/"\$ref":"(?!#\/components\/)/);
  });

  it('gives no two schemas or operations one name', () => {
    expect(Object.keys(apiDocument.components.schemas)).toHaveLength(
      Object.keys(bodySchemas()).length + Object.keys(answerSchemas()).length,
    );
    const ids = documentedOperations.map(({ operationId }) => operationId);
    expect(new Set(ids).size).toBe(ids.length);
  });

  it('has a schema for every answer, but for those that others describe', () => {
    const bare = Object.entries(apiDocument.paths).flatMap(([path, item]) =>
      Object.entries(item).flatMap(([method, { responses }]) =>
        Object.entries(responses)
          .filter(([, { content }]) => content?.['application/json']?.schema.$ref === undefined)
          .map(([status, { content }]) => [method, path, status, content === undefined ? 'no body' : 'bare'])
          .filter(([, , status]) => status !== 'default')
          .map((words) => words.join(' ')),
      ),
    );
    expect(bare.sort()).toEqual([
      'delete /admin/evaluations 204 no body',
      'delete /admin/grants 204 no body',
      'delete /admin/grants/refuse 204 no body',
      'delete /admin/keys/{id} 204 no body',
      'delete /admin/rooms 204 no body',
      'delete /admin/webhooks/{id} 204 no body',
      'get /admin/backup/parts/{digest} 200 bare',
      'get /admin/downloads/parts/{index} 200 bare',
      'get /admin/openapi.json 200 bare',
      'get /v1/downloads/parts/{index} 200 bare',
      'get /v1/files/{id}/content 200 bare',
      'post /v1/chat/completions 200 bare',
      'post /v1/completions 200 bare',
      'post /v1/messages 200 bare',
      'post /v1/responses 200 bare',
      'put /admin/backup/parts/{digest} 204 no body',
    ]);
  });

  it.each(Object.keys(answerSchemas()))('says all that %s can have', (name) => {
    expect(openObjects(apiDocument.components.schemas[name])).toEqual([]);
  });

  it('declares every parameter of a path, and nothing twice', () => {
    for (const [path, item] of Object.entries(apiDocument.paths))
      for (const { parameters = [] } of Object.values(item)) {
        const inPath = parameters.filter((one) => one.in === 'path').map(({ name }) => `{${name}}`);
        expect(inPath).toEqual(path.match(/\{\w+\}/g) ?? []);
        const all = parameters.map((one) => `${one.in} ${one.name}`);
        expect(new Set(all).size).toBe(all.length);
      }
  });

  it('is of the version of the package', () => {
    const { version } = JSON.parse(readFileSync('package.json', 'utf8')) as { version: string };
    expect(apiDocument.info.version).toBe(version);
  });

  it('lets out what has a default in a request, and has it in an answer', () => {
    const required = (name: string) =>
      (apiDocument.components.schemas[name] as { required: string[] }).required;
    expect(required('ExperimentDocument')).not.toContain('killed');
    expect(required('Experiment')).toContain('killed');
  });
});
