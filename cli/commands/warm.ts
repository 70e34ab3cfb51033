import { defineCommand } from 'citty';
import type { WarmedOrigin } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, fileSize } from '../output.ts';
import { parseReference } from '../admin/change-name.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft warm alice/notes', does: 'loads the live version where it is served' },
    { line: 'graft warm alice/notes@4', does: 'the same for version 4, before it is promoted' },
  ],
};

export default defineCommand({
  meta: { name: 'warm' },
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes, or a version of it, such as alice/notes@4',
      required: true,
    },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const body = parseReference(args.name);
    const client = await adminClient();
    const answer = await callOperation(client, `warm ${args.name}`, 'POST /admin/warm', { body });
    const what = `${answer.name}@${answer.version}`;
    output.result(answer, () => answer.origins.map((origin) => originText(what, origin)).join('\n'));
    if (answer.origins.at(-1)?.ok !== true)
      throw new CliError({
        message: `No origin has ${what} in memory.`,
        exitCode: EXIT.unavailable,
        code: 'not_warm',
      });
  },
});

export function originText(what: string, { id, ok, reason, brought, ms }: WarmedOrigin): string {
  const files = brought.map(
    ({ digest, bytes, ms: took }) =>
      `  brought ${digest.slice(0, 12)}, ${fileSize(bytes)}, in ${seconds(took)}`,
  );
  const end = ok ? `${what} is in memory at ${id} after ${seconds(ms)}` : `${id}: ${reason}`;
  return [...files, end].join('\n');
}

const seconds = (ms: number): string => `${(ms / 1_000).toFixed(2)} s`;
