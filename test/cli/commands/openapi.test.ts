import { ZodError } from 'zod';
import { expect, it } from 'vitest';
import { createApiClient } from '../../../cli/api-client.ts';
import { CliError } from '../../../cli/cli-error.ts';
import { readOpenApi } from '../../../cli/commands/account.ts';
import { openApiDocument } from '../../../worker/http/openapi/document.ts';

const serverOf = (answer: (path: string) => Response) =>
  createApiClient({
    url: 'http://edge.test',
    key: 'ga_',
    fetchFn: async (input) => answer(new URL(String(input)).pathname),
  });

it('prints the document as the server sends it, in its order, with unknown fields', async () => {
  const document: unknown = JSON.parse(JSON.stringify({ ...openApiDocument(), 'x-later': { a: [1] } }));
  const client = serverOf((path) =>
    path === '/admin/openapi.json' ? Response.json(document) : new Response(null, { status: 404 }),
  );
  expect(JSON.stringify(await readOpenApi(client))).toBe(JSON.stringify(document));
});

it('refuses any other answer', async () => {
  await expect(readOpenApi(serverOf(() => Response.json({ names: [] })))).rejects.toThrow(ZodError);
  await expect(readOpenApi(serverOf(() => new Response('', { status: 401 })))).rejects.toThrow(CliError);
});
