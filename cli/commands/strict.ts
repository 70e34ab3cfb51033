import { defineCommand } from 'citty';
import type { StrictAnswer } from '../../protocol/index.ts';
import { sendChange, whyFlag, parseName } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft strict medicine/trials --why "no other adapter may answer for a trial"',
      does: 'a name below medicine/trials that does not exist is a 404',
    },
    { line: 'graft strict medicine/trials --off', does: 'it is answered by its nearest ancestor again' },
  ],
};

export default defineCommand({
  meta: { name: 'strict' },
  args: {
    name: { type: 'positional', description: 'Name, such as medicine/trials', required: true },
    off: { type: 'boolean', description: 'Take the mark away' },
    ...whyFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const name = parseName(args.name);
    await sendChange(
      {
        what: `strict ${name}`,
        route: 'POST /admin/strict',
        body: { name, strict: args.off !== true },
        tell: ({ strict, from }: StrictAnswer, dryRun: boolean) => {
          const what = strict ? 'strict' : 'not strict';
          if (strict === from)
            return `${name} is ${what} already; nothing ${dryRun ? 'would change' : 'changed'}`;
          return dryRun ? `dry run: ${name} would be ${what}` : `${name} is ${what}`;
        },
      },
      args,
    );
  },
});
