import { defineCommand } from 'citty';
import { z } from 'zod';
import { adminClient } from '../admin/admin-client.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { harmlessJson } from '../harmless-text.ts';
import { createOutput } from '../output.ts';

/** As much as tells it from another answer. */
const OpenApiDocument = z.looseObject({ openapi: z.string(), paths: z.record(z.string(), z.unknown()) });

export const help: CommandHelp = {
  examples: [{ line: 'graft openapi > graft.json', does: 'for whatever generates clients' }],
};

export default defineCommand({
  meta: { name: 'openapi' },
  args: commonFlags,
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const document = await readOpenApi(await adminClient());
    output.result(document, () => harmlessJson(document, 2));
  },
});

/** @returns it as it came, its parts in their order. @throws CliError; ZodError when it is something else. */
export async function readOpenApi(client: ApiClient): Promise<unknown> {
  const document = await callOperation(client, 'read the OpenAPI document', 'GET /admin/openapi.json', {});
  OpenApiDocument.parse(document);
  return document;
}
