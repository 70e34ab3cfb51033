import { defineCommand } from 'citty';
import { changeFlags, changeLive, parseReference } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft publish ./notes --name alice/notes --stage', does: 'first a version that is not live' },
    { line: 'graft promote alice/notes', does: 'makes the newest staged version live' },
    { line: 'graft promote alice/notes@4 --why "passed review"', does: 'makes version 4 live' },
  ],
  notes: [
    'A staged version can be tried by its number, as `alice/notes@4`, before it is promoted. Without a number the newest version is taken that is above the live one and has never been live. Requests that run end on the version that they began with; the next ones take the new one, at once where it was promoted and within about a minute elsewhere. When nothing is staged, or somebody else changed the name at the same time, the exit code is 5.',
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
