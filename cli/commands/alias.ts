import { defineCommand } from 'citty';
import type { AliasAnswer } from '../../protocol/index.ts';
import { sendChange, whyFlag, parseName } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft alias alice/best alice/notes', does: 'alice/best means the live version of alice/notes' },
    { line: 'graft alias alice/best --remove', does: 'takes the alias away' },
  ],
};

export default defineCommand({
  meta: { name: 'alias' },
  args: {
    name: { type: 'positional', description: 'Name that has no versions of its own', required: true },
    target: { type: 'positional', description: 'Name that it is to stand for', required: false },
    remove: { type: 'boolean', description: 'Take the alias away' },
    ...whyFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const name = parseName(args.name);
    if ((args.target === undefined) !== (args.remove === true))
      throw usageError('Say what the alias is to stand for, or --remove.');
    const target = args.target === undefined ? null : parseName(args.target);
    const what = target === null ? 'no alias any more' : `an alias of ${target}`;
    await sendChange(
      {
        what: `alias ${name}`,
        route: 'POST /admin/alias',
        body: { name, target },
        tell: ({ notice }: AliasAnswer, dryRun: boolean) =>
          [
            dryRun ? `dry run: ${name} would be ${what}` : `${name} is ${what}`,
            ...(notice === undefined ? [] : [notice]),
          ].join('\n'),
      },
      args,
    );
  },
});
