import { defineCommand } from 'citty';
import { adminClient } from '../admin/admin-client.ts';
import { DEFAULT_LIMIT, historyTable, parseLimit, readHistory } from '../admin/read-history.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft log', does: 'the last changes of all names' },
    { line: 'graft log --limit 1000 --json', does: 'for an archive' },
  ],
  notes: [
    'The audit log: every change of every name that the key owns, or of everybody’s with the bootstrap key, newest first. Rows are never changed or deleted.',
  ],
};

export default defineCommand({
  meta: { name: 'log', description: 'Show the last changes of all names' },
  args: {
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
    const changes = await readHistory(await adminClient(), null, parseLimit(args.limit));
    output.result({ changes }, () => historyTable(changes, true));
  },
});
