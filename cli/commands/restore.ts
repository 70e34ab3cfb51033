import { defineCommand } from 'citty';
import type { RestoreAnswer } from '../../protocol/index.ts';
import { changedNameText, sendChange, whyFlag, parseReference } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft restore alice/notes', does: 'brings the name back as it was' },
    { line: 'graft restore alice/notes@2', does: 'brings one version back' },
  ],
};

export default defineCommand({
  meta: { name: 'restore' },
  args: {
    name: { type: 'positional', description: 'Name or version, such as alice/notes@2', required: true },
    cascade: { type: 'boolean', description: 'Also all that was removed with it' },
    ...whyFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const { name, version } = parseReference(args.name);
    await sendChange(
      {
        what: `restore ${args.name}`,
        route: 'POST /admin/restore',
        body: { name, version, cascade: args.cascade === true },
        tell: ({ restored }: RestoreAnswer, dryRun: boolean) =>
          [
            dryRun ? 'dry run: would be restored' : 'restored',
            ...restored.map((one) => `  ${changedNameText(one)}`),
          ].join('\n'),
      },
      args,
    );
  },
});
