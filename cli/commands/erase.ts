import {
  ERASE_STEPS,
  EraseRequest,
  type EraseAnswer,
  type EraseCounts,
} from '../../protocol/admin-api/erasures.ts';
import { adminClient } from '../admin/admin-client.ts';
import { whyFlag } from '../admin/operation-command.ts';
import { type ApiClient, callOperation } from '../api-client.ts';
import { askTyped } from '../ask-at-terminal.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';
import { fileSize, type Output, when } from '../output.ts';

export const eraseCommand = command({
  verb: 'erase',
  examples: [
    { line: 'graft erase alice/notes --dry-run', does: 'shows what would be erased, and what stays' },
    { line: 'graft erase "alice/**"', does: 'erases alice and all names below it' },
  ],
  args: {
    name: {
      type: 'positional',
      description: 'Name, or NAME/** for everything below it too',
      required: false,
    },
    tenant: { type: 'string', description: 'Everything of this tenant instead', valueHint: 'tenant' },
    cascade: { type: 'boolean', description: 'Also what the same owner built on it' },
    usage: { type: 'boolean', description: 'Also its usage records, which bills are based on' },
    yes: { type: 'boolean', description: 'Do not ask for confirmation' },
    ...whyFlag,
  },
  async run({ args, output }) {
    const what = args.tenant ?? args.name;
    if (what === undefined || (args.tenant !== undefined && args.name !== undefined))
      throw usageError('Give either a name or --tenant.');
    const meant = { name: args.name, tenant: args.tenant };
    const body = {
      ...{ ...meant, cascade: args.cascade === true, usage: args.usage === true, why: args.why },
    };
    const parsed = EraseRequest.safeParse(body);
    if (!parsed.success)
      throw usageError(`'${what}': ${parsed.error.issues[0]?.message ?? 'is not a name'}.`);
    const client = await adminClient();
    const planned = await callOperation(client, `erase ${what}`, 'POST /admin/erase', {
      body: { ...body, dry_run: true },
    });
    const { plan } = planned;
    if (args['dry-run'] === true) {
      output.result({ ...planned, dry_run: true }, () =>
        planText(planned, 'dry run: would be erased', args.usage === true),
      );
      return;
    }
    // An earlier erasure may be incomplete: continuing it needs no confirmation.
    if (plan !== null && !isNothing(plan))
      await askTyped({
        said: planText(planned, 'to be erased permanently', args.usage === true),
        word: what,
        yes: args.yes === true,
      });
    const erased = await eraseAll(client, { what, body, meant, output });
    output.result(erased, () => erasedText(erased));
    const { unreached } = erased;
    if (unreached.length > 0)
      throw new CliError({
        message:
          `${what} is erased, but not yet from ${unreached.map(({ origin }) => origin).join(', ')}, ` +
          'whose disks may still have its files. The edge asks them again each minute, and so does ' +
          'this command when repeated.',
        exitCode: EXIT.unavailable,
        code: 'not_erased_everywhere',
      });
  },
});

export type Erased = Pick<EraseAnswer, 'owner' | 'erased' | 'kept' | 'stops' | 'unreached' | 'settles_at'>;

/** Asks page by page until only the schedule's part is left. */
async function eraseAll(
  client: ApiClient,
  params: { what: string; body: EraseRequest; meant: Pick<EraseRequest, 'name' | 'tenant'>; output: Output },
): Promise<Erased> {
  const { what, body, meant, output } = params;
  const bar = output.progress(`erase ${what}`, 'percent');
  const ask = (sent: EraseRequest) =>
    callOperation(client, `erase ${what}`, 'POST /admin/erase', {
      body: sent,
      retrying: {},
    });
  try {
    let page = await ask(body);
    const sum: Erased = { ...page, erased: { ...page.erased }, unreached: [...page.unreached] };
    while (page.cursor !== null) {
      bar.update((ERASE_STEPS as readonly string[]).indexOf(page.step ?? '') + 1, ERASE_STEPS.length);
      page = await ask({ ...meant, cursor: page.cursor });
      for (const [of, count] of Object.entries(page.erased)) sum.erased[of as keyof EraseCounts] += count;
      sum.unreached.push(...page.unreached);
      sum.settles_at = page.settles_at;
    }
    const { owner, erased, kept, stops, unreached, settles_at } = sum;
    return { owner, erased, kept, stops, unreached: byOrigin(unreached), settles_at };
  } finally {
    bar.end();
  }
}

function byOrigin(unreached: EraseAnswer['unreached']): EraseAnswer['unreached'] {
  const found = new Map<string, EraseAnswer['unreached'][number]>();
  for (const one of unreached) {
    const known = found.get(one.origin);
    found.set(one.origin, known === undefined ? one : { ...known, files: known.files + one.files });
  }
  return [...found.values()];
}

const isNothing = (counts: EraseCounts): boolean => Object.values(counts).every((count) => count === 0);

/** Singular and plural, in the order of the report. */
const WORDS: readonly [keyof EraseCounts, string, string][] = [
  ['names', 'name', 'names'],
  ['versions', 'version', 'versions'],
  ['aliases', 'alias', 'aliases'],
  ['pins', 'pin', 'pins'],
  ['experiments', 'experiment', 'experiments'],
  ['keys', 'key', 'keys'],
  ['grants', 'grant', 'grants'],
  ['rooms', 'room', 'rooms'],
  ['row_files', 'file of rows', 'files of rows'],
  ['jobs', 'fine-tuning job', 'fine-tuning jobs'],
  ['evaluations', 'evaluation', 'evaluations'],
  ['traffic', 'sum of traffic', 'sums of traffic'],
  ['requests', 'request in lists', 'requests in lists'],
  ['usage', 'hour of usage', 'hours of usage'],
];

function countsText(counts: EraseCounts): string[] {
  const told = WORDS.flatMap(([what, one, several]) =>
    counts[what] === 0 ? [] : [`${counts[what]} ${counts[what] === 1 ? one : several}`],
  );
  return [
    ...(told.length === 0 ? [] : [`  ${told.join(', ')}`]),
    ...(counts.files === 0 ? [] : [`  ${filesText(counts)}`]),
  ];
}

const filesText = ({ files, bytes }: { files: number; bytes: number }): string =>
  `${files} file${files === 1 ? '' : 's'}, ${fileSize(bytes)}`;

function keptText({ kept, stops }: Pick<EraseAnswer, 'kept' | 'stops'>): string[] {
  const others = [
    ...(stops.versions === 0 ? [] : [`${stops.versions} version${stops.versions === 1 ? '' : 's'}`]),
    ...(stops.experiments === 0
      ? []
      : [`${stops.experiments} experiment${stops.experiments === 1 ? '' : 's'}`]),
  ];
  return [
    ...(kept.files === 0 ? [] : [`kept, because others have the same bytes: ${filesText(kept)}`]),
    ...(others.length === 0 ? [] : [`no longer served: ${others.join(' and ')} of other tenants`]),
  ];
}

/** @param usage whether usage records are erased too. */
export function planText(planned: EraseAnswer, headline: string, usage: boolean): string {
  const { plan, owner } = planned;
  if (plan === null || isNothing(plan)) return 'there is nothing to erase';
  return [
    `${headline}, of ${owner}`,
    ...countsText(plan),
    ...keptText(planned),
    ...(usage ? [] : ['kept: usage records, for bills']),
    'This cannot be undone.',
  ].join('\n');
}

export function erasedText(erased: Erased): string {
  const { owner, unreached, settles_at: settles } = erased;
  if (isNothing(erased.erased) && settles === null) return 'there is nothing to erase';
  return [
    owner === null ? 'erased' : `erased, of ${owner}`,
    ...countsText(erased.erased),
    ...keptText(erased),
    ...unreached.map(
      ({ origin, files, reason }) =>
        `not reached: ${origin}, which may still have ${files} file${files === 1 ? '' : 's'}: ${reason}`,
    ),
    ...(settles === null
      ? []
      : [`records of requests still in progress are erased automatically after ${when(settles)}`]),
  ].join('\n');
}
