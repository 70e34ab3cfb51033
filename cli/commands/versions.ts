/** Versions of a name, from staged to removed, and the history of their changes. */
import type { ChangeView, RetireAnswer, RemoveAnswer } from '../../protocol/admin-api/names.ts';
import type { VersionScore } from '../../protocol/admin-api/evaluations.ts';
import type { VersionList, VersionView } from '../../protocol/admin-api/versions.ts';
import { liveOnce, VERSION_STATE_WORDS, versionState } from '../../protocol/state-words.ts';
import { shareWords } from '../../protocol/evaluation-scores.ts';
import { adminClient, lookUpVersions, ownHistory, readHistory } from '../admin/admin-client.ts';
import { callOperation } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { lookUpEvaluations } from '../evaluations/score-evaluations.ts';
import { command } from '../command.ts';
import { usageError } from '../flags.ts';
import { fileSize, plainTable, when } from '../output.ts';
import { trainingText } from '../publish/training-card.ts';
import {
  parseName,
  changeFlags,
  flippedText,
  noteOf,
  operationCommand,
  parseExpect,
  parseReference,
  parseVersion,
  whyFlag,
  changedNameText,
} from '../admin/operation-command.ts';
import { askTyped } from '../ask-at-terminal.ts';

export const versionsCommand = command({
  verb: 'versions',
  examples: [{ line: 'graft versions alice/notes', does: 'every version: state, contents, author and date' }],
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
  },
  async run({ args, output }) {
    const name = parseName(args.name);
    const client = await adminClient();
    const found = await lookUpVersions(client, name);
    if (found === null)
      throw new CliError({
        message:
          `'${name}' does not exist or you do not have access to it. Removed names come back with ` +
          '`graft restore`.',
        exitCode: EXIT.notFound,
        code: 'model_not_found',
      });
    const wasLive = liveOnce(await ownHistory(client, name));
    const stateOf = (one: VersionView) => versionState(one, found.version, wasLive.has(one.version));
    // Only their owner sees them.
    const scores = (await lookUpEvaluations(client, name))?.scores ?? [];
    const versions = found.versions.map((one) => ({
      ...{ ...one, state: stateOf(one) },
      scores: scores.filter(({ version }) => version === one.version),
    }));
    output.result({ ...found, versions }, () => versionTable(found, wasLive, scores));
  },
});

/** Its rank, and what else it is. */
function kindOf({ rank, chain }: VersionView): string {
  const own = chain.at(-1);
  const classes = own?.classes;
  const kinds = [
    ...(own?.activated === true ? ['activated'] : []),
    ...(classes === undefined ? [] : [classes === 1 ? '1 class' : `${classes} classes`]),
  ];
  return [rank, ...kinds].join(' ');
}

/** @param wasLive versions that were live at some time. @param scores on kept evaluations. */
export function versionTable(
  { version: live, versions }: VersionList,
  wasLive: ReadonlySet<number> = new Set(),
  scores: readonly VersionScore[] = [],
): string {
  if (versions.length === 0) return 'no versions';
  const scored = versions.some(({ evaluation }) => evaluation !== null);
  const table = plainTable(
    [
      'VERSION',
      'STATE',
      'BASE',
      'ON TOP OF',
      'RANK',
      'SIZE',
      ...(scored ? ['SCORE'] : []),
      'WHEN',
      'BY',
      'DIGEST',
    ],
    versions.map((one) => [
      String(one.version),
      VERSION_STATE_WORDS[versionState(one, live, wasLive.has(one.version))],
      one.base.id,
      one.parent ?? 'the base',
      kindOf(one),
      fileSize(one.bytes),
      ...(scored ? [score(one)] : []),
      when(one.created_at),
      one.created_by,
      one.digest.slice(0, 12),
    ]),
  );
  const cards = versions.flatMap(({ version, training }) =>
    training === null ? [] : [`@${version} ${trainingText(training)}`],
  );
  const kept = versions.flatMap(({ version }) => {
    const own = scores.filter((one) => one.version === version);
    return own.length === 0
      ? []
      : [
          `@${version} ${own.map((one) => `${one.label}: ${shareWords(one)}${one.judge === null ? '' : ' accepted'}`).join(', ')}`,
        ];
  });
  return [
    table,
    ...(cards.length === 0 ? [] : ['', ...cards]),
    ...(kept.length === 0 ? [] : ['', ...kept]),
  ].join('\n');
}

const score = ({ evaluation }: VersionView): string =>
  evaluation === null ? '-' : `${Math.round(100 * evaluation.exact_match)} % of ${evaluation.rows}`;

/** Default number of changes. */
const DEFAULT_LIMIT = '50';
const MAX_LIMIT = 100_000;

export const historyCommand = command({
  verb: 'history',
  examples: [
    { line: 'graft history alice/notes', does: 'changes of the name, newest first' },
    { line: 'graft history', does: 'the latest changes of all names' },
  ],
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes; default: all names',
      required: false,
    },
    tenant: { type: 'string', description: 'Only names of this tenant', valueHint: 'tenant' },
    limit: {
      type: 'string',
      description: 'Maximum number of changes',
      valueHint: 'count',
      default: DEFAULT_LIMIT,
    },
  },
  async run({ args, output }) {
    const name = args.name === undefined ? null : parseName(args.name);
    const limit = parseLimit(args.limit);
    const { tenant = null } = args;
    const changes = await readHistory(await adminClient(), name, limit, tenant);
    output.result(
      { ...(name === null ? {} : { name }), ...(tenant === null ? {} : { tenant }), changes },
      () => historyTable(changes, name === null),
    );
  },
});

/** @throws CliError (usage) unless it is a valid number of changes. */
export function parseLimit(text: string): number {
  const limit = Number(text);
  if (!/^\d+$/.test(text) || limit < 1 || limit > MAX_LIMIT)
    throw usageError(`--limit ${text} is not a number from 1 to ${MAX_LIMIT}.`);
  return limit;
}

const version = (value: number | null): string => (value === null ? '-' : String(value));

/** @param names whether each line names the changed name. */
export function historyTable(changes: readonly ChangeView[], names: boolean): string {
  if (changes.length === 0) return 'no changes';
  return plainTable(
    ['WHEN', ...(names ? ['NAME'] : []), 'ACTION', 'LIVE BEFORE', 'VERSION', 'BY', 'WHY'],
    changes.map(({ at, name, action, from, to, target, actor, why }) => [
      when(at),
      ...(names ? [name] : []),
      target === null ? action : `${action} ${target}`,
      version(from),
      version(to),
      actor,
      why ?? '',
    ]),
  );
}

export const promoteCommand = operationCommand({
  verb: 'promote',
  examples: [
    {
      line: 'graft publish ./notes --name alice/notes --stage',
      does: 'first publishes a version that is not live',
    },
    { line: 'graft promote alice/notes', does: 'makes the newest staged version live' },
  ],
  args: {
    name: {
      type: 'positional',
      description: 'Name, such as alice/notes, or a version of it, such as alice/notes@4',
      required: true,
    },
    ...changeFlags,
  },
  route: 'POST /admin/promote',
  call(args) {
    const { name, version } = parseReference(args.name);
    const expect = parseExpect(args.expect);
    const body = { name, ...(version === null ? {} : { version }), expect, ...noteOf(args) };
    return { what: `promote ${args.name}`, body };
  },
  tell: flippedText,
});

export const rollbackCommand = operationCommand({
  verb: 'rollback',
  examples: [
    { line: 'graft rollback alice/notes', does: 'makes the previously live version live again' },
    { line: 'graft rollback alice/notes --to 2 --why "typos"', does: 'makes version 2 live' },
  ],
  args: {
    name: { type: 'positional', description: 'Name, such as alice/notes', required: true },
    to: {
      type: 'string',
      description: 'Version to return to; default: the previously live one',
      valueHint: 'version',
    },
    ...changeFlags,
  },
  route: 'POST /admin/rollback',
  call(args) {
    const name = parseName(args.name);
    const to = args.to === undefined ? {} : { to: parseVersion(args.to, '--to') };
    const body = { name, ...to, expect: parseExpect(args.expect), ...noteOf(args) };
    return { what: `roll back ${name}`, body };
  },
  tell: flippedText,
});

export const retireCommand = operationCommand({
  verb: 'retire',
  examples: [
    {
      line: 'graft retire alice/notes@2 --why "trained on the wrong data"',
      does: 'retires version 2',
    },
  ],
  args: {
    version: { type: 'positional', description: 'Version, such as alice/notes@2', required: true },
    ...whyFlag,
  },
  route: 'POST /admin/retire',
  call(args) {
    const { name, version } = parseReference(args.version);
    if (version === null) throw usageError(`Which version of '${name}'? Give ${name}@<number>.`);
    return { what: `retire ${args.version}`, body: { name, version, ...noteOf(args) } };
  },
  tell: retiredText,
});

export function retiredText({ name, version, stops }: RetireAnswer, dryRun: boolean): string {
  const others = stopped(stops);
  const first = dryRun ? `dry run: ${name}@${version} would be retired` : `${name}@${version} is retired`;
  if (others.length === 0) return first;
  const one = stops.versions + stops.experiments === 1;
  const then = dryRun ? 'would no longer be served' : `${one ? 'is' : 'are'} no longer served`;
  return `${first}\n${others.join(' and ')} of other tenants ${then}`;
}

export const rmCommand = command({
  verb: 'rm',
  examples: [
    { line: 'graft rm alice/notes', does: 'removes the name with all its versions' },
    { line: 'graft rm alice/notes@2 --yes', does: 'removes one version, without asking' },
  ],
  args: {
    name: { type: 'positional', description: 'Name or version, such as alice/notes@2', required: true },
    cascade: { type: 'boolean', description: 'Also what you built on it, its aliases and its pins' },
    yes: { type: 'boolean', description: 'Do not ask for confirmation' },
    ...whyFlag,
  },
  async run({ args, output }) {
    const { name, version } = parseReference(args.name);
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

/** Other tenants' versions that are no longer served. */
function stopped({ versions, experiments }: RemoveAnswer['stops']): string[] {
  const counted = (count: number, what: string): string[] =>
    count === 0 ? [] : [`${count} ${what}${count === 1 ? '' : 's'}`];
  return [...counted(versions, 'version'), ...counted(experiments, 'experiment')];
}

export function removedText(answer: RemoveAnswer, tense: 'would be' | 'will be' | 'is'): string {
  const { removed, unpinned, stops, restorable_until: until } = answer;
  const first = removed[0];
  const others = stopped(stops);
  const named = first?.whole === false ? `${first.name}@${first.versions[0]}` : (first?.name ?? '');
  const headline = { 'would be': 'dry run: would be removed', 'will be': 'to be removed', is: 'removed' }[
    tense
  ];
  return [
    headline,
    ...removed.map((one) => `  ${changedNameText(one)}`),
    ...(unpinned.length === 0 ? [] : [`unpinned: ${unpinned.join(', ')}`]),
    ...(others.length === 0 ? [] : [`no longer served: ${others.join(' and ')} of other tenants`]),
    `restore it until ${when(until)} with: graft restore ${named}${removed.length > 1 ? ' --cascade' : ''}`,
  ].join('\n');
}

export const restoreCommand = operationCommand({
  verb: 'restore',
  examples: [
    { line: 'graft restore alice/notes', does: 'restores the name as it was' },
    { line: 'graft restore alice/notes@2', does: 'restores one version' },
  ],
  args: {
    name: { type: 'positional', description: 'Name or version, such as alice/notes@2', required: true },
    cascade: { type: 'boolean', description: 'Also everything that was removed with it' },
    ...whyFlag,
  },
  route: 'POST /admin/restore',
  call(args) {
    const { name, version } = parseReference(args.name);
    const body = { name, version, cascade: args.cascade === true, ...noteOf(args) };
    return { what: `restore ${args.name}`, body };
  },
  tell: ({ restored }, dryRun) =>
    [
      dryRun ? 'dry run: would be restored' : 'restored',
      ...restored.map((one) => `  ${changedNameText(one)}`),
    ].join('\n'),
});
