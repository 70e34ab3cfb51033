import { defineCommand } from 'citty';
import { changeFlags, changeLive, parseName, parseVersion } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft rollback alice/notes', does: 'makes the version live that was live before' },
    { line: 'graft rollback alice/notes --to 2 --why "typos"', does: 'makes version 2 live' },
  ],
};

export default defineCommand({
  meta: { name: 'rollback' },
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
    to: {
      type: 'string',
      description: 'Version to go to; the one that was live before unless given',
      valueHint: 'version',
    },
    ...changeFlags,
  },
  async run({ args }) {
    const name = parseName(args.name);
    const body = { name, ...(args.to === undefined ? {} : { to: parseVersion(args.to, '--to') }) };
    await changeLive({ what: `roll back ${name}`, route: 'POST /admin/rollback', body }, args);
  },
});
