import { defineCommand } from 'citty';
import { adminClient } from '../admin/admin-client.ts';
import { DEFAULT_LIMIT, historyTable, parseLimit, readHistory } from '../admin/read-history.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';
import { parseName } from '../admin/change-name.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft history alice/notes', does: 'what happened to the name, newest first' },
    { line: 'graft history', does: 'the last changes of all names' },
  ],
};

export default defineCommand({
  meta: { name: 'history' },
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes; all unless given', required: false },
    tenant: { type: 'string', description: 'Only of what this tenant owns', valueHint: 'tenant' },
    limit: {
      type: 'string',
      description: 'At most so many changes',
      valueHint: 'count',
      default: DEFAULT_LIMIT,
    },
    ...commonFlags,
  },
  async run({ args }) {
    const output = createOutput({ json: args.json === true });
    const name = args.name === undefined ? null : parseName(args.name);
    const limit = parseLimit(args.limit);
    const { tenant = null } = args;
    const changes = await readHistory(await adminClient(), name, limit, tenant);
    output.result(
      { ...(name === null ? {} : { name }), ...(tenant === null ? {} : { tenant }), changes },
      () => historyTable(changes, name === null),
    );
  },
});
