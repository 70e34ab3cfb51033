import { defineCommand } from 'citty';
import { adminClient } from '../admin/admin-client.ts';
import { DEFAULT_LIMIT, historyTable, parseLimit, readHistory } from '../admin/read-history.ts';
import { parseName } from '../admin/version-argument.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput } from '../output.ts';

export const help: CommandHelp = {
  examples: [{ line: 'graft history alice/notes', does: 'what happened to the name, newest first' }],
  notes: [
    'Each line is one change: when (UTC), what was done, the version that was live before, the version that the change is about, the id of the key that did it, and why, if that was said. Only the owner of a name sees its history.',
  ],
};

export default defineCommand({
  meta: { name: 'history', description: 'Show the changes of a name: who, when, from, to, why' },
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
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
    const name = parseName(args.name);
    const limit = parseLimit(args.limit);
    const changes = await readHistory(await adminClient(), name, limit);
    output.result({ name, changes }, () => historyTable(changes, false));
  },
});
