import { defineCommand } from 'citty';
import { Description, Tag, type EditAnswer } from '../../protocol/index.ts';
import { sendChange, whyFlag, parseName } from '../admin/change-name.ts';
import type { CommandHelp } from '../command-types.ts';
import { commonFlags, usageError } from '../flags.ts';

export const help: CommandHelp = {
  examples: [
    {
      line: 'graft edit alice/notes --description "Notes in Alice’s words" --tag team:support',
      does: 'says what it is for, and adds a tag',
    },
    { line: 'graft edit alice/notes --untag draft', does: 'takes a tag away' },
  ],
};

export default defineCommand({
  meta: { name: 'edit' },
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
    description: { type: 'string', description: 'What it is for; "" takes it away', valueHint: 'text' },
    tag: { type: 'string', description: 'Tags to add, with commas', valueHint: 'tag,…' },
    untag: { type: 'string', description: 'Tags to take away, with commas', valueHint: 'tag,…' },
    ...whyFlag,
    ...commonFlags,
  },
  async run({ args }) {
    const name = parseName(args.name);
    const added = tagsOf(args.tag);
    const taken = tagsOf(args.untag);
    if (args.description === undefined && added.length + taken.length === 0)
      throw usageError('What is to change? Give --description, --tag or --untag.');
    const tags = {
      ...(added.length === 0 ? {} : { add_tags: added }),
      ...(taken.length === 0 ? {} : { remove_tags: taken }),
    };
    const description =
      args.description === undefined ? {} : { description: descriptionOf(args.description) };
    await sendChange(
      {
        what: `edit ${name}`,
        route: 'POST /admin/edit',
        body: { name, ...description, ...tags },
        tell: (answer: EditAnswer, dryRun: boolean) => editedText(answer, dryRun),
      },
      args,
    );
  },
});

/** @throws CliError (usage) */
function tagsOf(given: string | undefined): string[] {
  const tags = (given ?? '').split(',').flatMap((tag) => (tag.trim() === '' ? [] : [tag.trim()]));
  for (const tag of tags) {
    const parsed = Tag.safeParse(tag);
    if (!parsed.success) throw usageError(`The tag '${tag}' ${parsed.error.issues[0]!.message}.`);
  }
  return tags;
}

/** @throws CliError (usage) */
function descriptionOf(given: string): string | null {
  if (given.trim() === '') return null;
  const parsed = Description.safeParse(given);
  if (parsed.success) return parsed.data;
  throw usageError(`The description ${parsed.error.issues[0]!.message}.`);
}

export function editedText({ name, description, tags, from }: EditAnswer, dryRun: boolean): string {
  const same = description === from.description && tags.join() === from.tags.join();
  if (same) return `${name} is so already; nothing ${dryRun ? 'would change' : 'changed'}`;
  return [
    dryRun ? `dry run: ${name} would be` : name,
    `  description  ${description ?? '-'}`,
    `  tags         ${tags.length === 0 ? '-' : tags.join(', ')}`,
  ].join('\n');
}
