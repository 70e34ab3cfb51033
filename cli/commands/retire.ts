import { defineCommand } from 'citty';
import type { RetireAnswer } from '../../protocol/index.ts';
import { sendChange, whyFlag, parseReference } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft retire alice/notes@2 --why "trained on the wrong data"',
      does: 'takes version 2 out of use',
    },
  ],
};

export default defineCommand({
  meta: { name: 'retire' },
  args: {
    version: { type: 'positional', description: 'Version, such as alice/notes@2', required: true },
    ...whyFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const { name, version } = parseReference(args.version);
    if (version === null) throw usageError(`Which version of '${name}'? Say ${name}@<number>.`);
    await sendChange(
      {
        what: `retire ${args.version}`,
        route: 'POST /admin/retire',
        body: { name, version },
        tell: retiredText,
      },
      args,
    );
  },
});

export function retiredText({ name, version, stops }: RetireAnswer, dryRun: boolean): string {
  const counted = (count: number, what: string): string[] =>
    count === 0 ? [] : [`${count} ${what}${count === 1 ? '' : 's'}`];
  const others = [...counted(stops.versions, 'version'), ...counted(stops.experiments, 'experiment')];
  const first = dryRun ? `dry run: ${name}@${version} would be retired` : `${name}@${version} is retired`;
  if (others.length === 0) return first;
  const one = stops.versions + stops.experiments === 1;
  const then = dryRun ? `would stop being served` : `${one ? 'is' : 'are'} not served any more`;
  return `${first}\n${others.join(' and ')} of other tenants ${then}`;
}
