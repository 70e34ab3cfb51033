import { defineCommand } from 'citty';
import { changeFlags, changeLive, parseReference } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft publish ./notes --name alice/notes --stage', does: 'first a version that is not live' },
    { line: 'graft promote alice/notes', does: 'makes the newest staged version live' },
  ],
};

export default defineCommand({
  meta: { name: 'promote' },
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes, or a version of it, such as alice/notes@4',
      required: true,
    },
    ...changeFlags,
  },
  async run({ args }) {
    const { name, version } = parseReference(args.name);
    const body = { name, ...(version === null ? {} : { version }) };
    await changeLive({ what: `promote ${args.name}`, route: 'POST /admin/promote', body }, args);
  },
});
