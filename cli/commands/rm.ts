import { defineCommand } from 'citty';
import type { RemoveAnswer } from '../../protocol/index.ts';
import { adminClient } from '../admin/admin-client.ts';
import { changedNameText, whyFlag, parseReference } from '../admin/change-name.ts';
import { askTyped } from '../ask-at-terminal.ts';
import { callOperation } from '../api-client.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags } from '../flags.ts';
import { createOutput, when } from '../output.ts';

export const help: CommandHelp = {
  examples: [
    { line: 'graft rm alice/notes', does: 'removes the name with all its versions' },
    { line: 'graft rm alice/notes@2 --yes', does: 'removes one version, and asks nothing' },
  ],
};

export default defineCommand({
  meta: { name: 'rm' },
  args: {
    name: { type: 'positional', description: 'Name or version, such as alice/notes@2', required: true },
    cascade: { type: 'boolean', description: 'Also what of yours stands on it, its aliases and its pins' },
    yes: { type: 'boolean', description: 'Do not ask' },
    ...whyFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const { name, version } = parseReference(args.name);
    const output = createOutput({ json: args.json === true });
    const client = await adminClient();
    const send = (dryRun: boolean): Promise<RemoveAnswer> => {
      const body = { name, version, cascade: args.cascade === true, why: args.why, dry_run: dryRun };
      return callOperation(client, `rm ${args.name}`, 'POST /admin/remove', { body });
    };
    const planned = await send(true);
    if (args['dry-run'] === true) {
      output.result({ ...planned, dry_run: true }, () => removedText(planned, 'would be'));
      return;
    }
    await askTyped({ said: removedText(planned, 'will be'), word: args.name, yes: args.yes === true });
    const removed = await send(false);
    output.result(removed, () => removedText(removed, 'is'));
  },
});

export function removedText(answer: RemoveAnswer, tense: 'would be' | 'will be' | 'is'): string {
  const { removed, unpinned, stops, restorable_until: until } = answer;
  const first = removed[0];
  const counted = (count: number, what: string): string[] =>
    count === 0 ? [] : [`${count} ${what}${count === 1 ? '' : 's'}`];
  const others = [...counted(stops.versions, 'version'), ...counted(stops.experiments, 'experiment')];
  const named = first?.whole === false ? `${first.name}@${first.versions[0]}` : (first?.name ?? '');
  const headline = { 'would be': 'dry run: would be removed', 'will be': 'to be removed', is: 'removed' }[
    tense
  ];
  return [
    headline,
    ...removed.map((one) => `  ${changedNameText(one)}`),
    ...(unpinned.length === 0 ? [] : [`unpinned: ${unpinned.join(', ')}`]),
    ...(others.length === 0 ? [] : [`not served any more: ${others.join(' and ')} of other tenants`]),
    `until ${when(until)} it comes back with: graft restore ${named}${removed.length > 1 ? ' --cascade' : ''}`,
  ].join('\n');
}
