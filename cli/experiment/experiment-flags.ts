import type { ArgsDef } from 'citty';
import { DEFAULT_JUDGE_TOKENS, MAX_KEPT_PAIRS } from '../../protocol/limits.ts';
import { type Actions, pickAction, type CommandHelp } from '../command.ts';
import { whyFlag } from '../admin/operation-command.ts';
import { usageError } from '../flags.ts';
import { DEFAULT_HOLD, DEFAULT_MIN_UNITS } from './parse-design.ts';

/** Flags that define an experiment; each except `--file` is a part of the document. */
const designFlags = {
  variant: {
    type: 'string',
    description:
      'For create: variants, control first, instead of half live and half @2 (repeatable): ' +
      'key=name@version[:weight], such as control=support/intent@3 or treatment=@4:10%; default: equal ' +
      'weights',
    valueHint: 'variant',
  },
  metric: {
    type: 'string',
    description:
      'Metrics, the deciding one first (repeatable): key:proportion:up or key:mean:down, such as ' +
      'thumbs:proportion:up',
    valueHint: 'metric',
  },
  guardrail: {
    type: 'string',
    description:
      'Guardrails (repeatable): metric:limits[:rollback|hold]. Limits against control are +50% (of ' +
      'it), +0.02 (in its unit), or both: "error_rate:+50%|+0.02"; use -10% if higher is better, none ' +
      'for none. Default: error_rate, left_rate and ttft_ms',
    valueHint: 'guardrail',
  },
  ramp: { type: 'string', description: 'Coverage step by step: 1%,5%,25%,100%', valueHint: 'shares' },
  hold: {
    type: 'string',
    description: `Minimum time of a ramp step; default: ${DEFAULT_HOLD}`,
    valueHint: 'time',
  },
  'min-units': {
    type: 'string',
    description: `Units in a ramp step before the next, and in total before a winner; default: ${DEFAULT_MIN_UNITS}`,
    valueHint: 'count',
  },
  'min-days': {
    type: 'string',
    description: 'Minimum days before a winner is proposed, such as 7: weekends differ from weekdays',
    valueHint: 'days',
  },
  'at-least': {
    type: 'string',
    description:
      'Non-inferiority margin of the deciding metric: -2% proposes a version that is at most 2 % worse',
    valueHint: 'lift',
  },
  cap: {
    type: 'string',
    description:
      'For a deciding mean: p99 caps values at control’s 99th percentile, so that a few users cannot decide',
    valueHint: 'p99',
  },
  coverage: {
    type: 'string',
    description: 'Share of units in the experiment; for ramp: the step to go to',
    valueHint: 'share',
  },
  shadow: {
    type: 'string',
    description: 'Also run a version for a share of the requests: support/intent@5:5%',
    valueHint: 'shadow',
  },
  'shadow-compare': {
    type: 'boolean',
    description:
      "Count how often the shadow's answer differs from the user's, for requests with temperature 0 or " +
      'a seed',
  },
  judge: {
    type: 'string',
    description:
      'Judge pairs of answers to the same prompt, control’s and the shadow’s: base, a name, or the ' +
      "https URL of your application. Nobody gets the shadow's answer unless you give --coverage or " +
      '--ramp',
    valueHint: 'judge',
  },
  'judge-tokens': {
    type: 'string',
    description: `Daily token budget of judge and shadow; default: ${DEFAULT_JUDGE_TOKENS}`,
    valueHint: 'count',
  },
  'keep-pairs': {
    type: 'string',
    description: `Keep the last pairs with their texts, at most ${MAX_KEPT_PAIRS}, for 30 days; default: none`,
    valueHint: 'count',
  },
  tenant: { type: 'string', description: 'Only keys of this tenant (repeatable)', valueHint: 'tenant' },
  override: {
    type: 'string',
    description: 'A tester: unit=variant, such as acme/user/alice=treatment (repeatable)',
    valueHint: 'override',
  },
  'segment-by': {
    type: 'string',
    description:
      'Also show results by tenant, name (below the experiment’s), or a request header such as ' +
      'header:x-plan; they decide nothing',
    valueHint: 'dimension',
  },
  webhook: {
    type: 'string',
    description:
      'URL to notify of proposals, removed variants and alarms; the secret that verifies its messages ' +
      'is printed once',
    valueHint: 'url',
  },
  unit: {
    type: 'enum',
    options: ['user', 'key'],
    description: 'What stays in a variant: the user that a request names, or the API key',
  },
  seed: { type: 'string', description: 'Seed of the assignment; default: random', valueHint: 'text' },
} as const satisfies ArgsDef;

export const DESIGN_FLAGS = Object.keys(designFlags) as (keyof typeof designFlags)[];

const STEP_FLAGS = ['expect', 'why'];
const NAME = ['name'];

export const actions = {
  create: {
    summary: 'Create a draft, and a plan of what it will find and when; --start starts it at once',
    arguments: ['name', 'which?'],
    flags: [...DESIGN_FLAGS, 'file', 'why', 'dry-run', 'start', 'require-scores', 'expect-units'],
  },
  list: { summary: 'List all experiments that are not archived', arguments: [], flags: ['all'] },
  show: { summary: 'Print the document, to edit it', arguments: NAME, flags: [] },
  status: { summary: 'Show results', arguments: ['name?'], flags: ['all', 'watch'] },
  start: {
    summary: "Score the variants on the name's evaluations, if it has some, and start a draft",
    arguments: NAME,
    flags: [...STEP_FLAGS, 'require-scores'],
  },
  ramp: {
    summary: 'Go to the next ramp step now, or to a given coverage',
    arguments: NAME,
    flags: [...STEP_FLAGS, 'coverage'],
  },
  evaluate: { summary: 'Evaluate it now, and act on the decision', arguments: NAME, flags: [] },
  change: {
    summary: 'Replace the document with an edited one',
    arguments: NAME,
    flags: ['file', 'why', 'dry-run'],
  },
  kill: {
    summary: 'Give everybody the live version at once',
    arguments: NAME,
    flags: [...STEP_FLAGS, 'undo'],
  },
  stop: { summary: 'End it without a winner', arguments: NAME, flags: STEP_FLAGS },
  promote: {
    summary: 'End it, and make a variant’s version live',
    arguments: ['name', 'which?'],
    flags: [...STEP_FLAGS, 'yes'],
  },
  archive: {
    summary: 'Archive it, so that its name is free for another',
    arguments: NAME,
    flags: STEP_FLAGS,
  },
  pairs: { summary: 'Print the kept judged pairs', arguments: NAME, flags: [] },
  secret: { summary: 'Print the secret that verifies calls to the judge', arguments: NAME, flags: [] },
} as const satisfies Actions;
export type ExperimentAction = keyof typeof actions;
const ACTION_NAMES = Object.keys(actions);

export const experimentArgs = {
  action: {
    type: 'positional',
    description: `${ACTION_NAMES.slice(0, -1).join(', ')} or ${ACTION_NAMES.at(-1)}; default: list`,
    valueHint: ACTION_NAMES.join('|'),
    required: false,
  },
  name: {
    type: 'positional',
    description: "The experiment's name or id",
    required: false,
  },
  which: {
    type: 'positional',
    description:
      'For create: the version to compare with the live one, such as @2; for promote: the variant to ' +
      'make live, by default the proposed one',
    required: false,
  },
  ...designFlags,
  file: {
    type: 'string',
    description: 'For create and change: the document as JSON, instead of flags',
    valueHint: 'file',
  },
  start: { type: 'boolean', description: 'For create: start it at once' },
  'require-scores': {
    type: 'boolean',
    description:
      'For start, and create with --start: only if each variant is scored on every evaluation, and none ' +
      'has fewer rows right than control',
  },
  'expect-units': {
    type: 'string',
    description: "For create's plan: how many users (or keys) a day use the name",
    valueHint: 'count',
  },
  yes: {
    type: 'boolean',
    description:
      'For promote: also a variant that was not proposed, and over a version that was never compared',
  },
  undo: { type: 'boolean', description: 'For kill: undo it' },
  watch: { type: 'boolean', description: 'For status: repeat every 5 seconds, until Ctrl-C' },
  all: { type: 'boolean', description: 'For list and status: include archived ones' },
  expect: {
    type: 'string',
    description: "Only if this is the document's current version, as shown by status",
    valueHint: 'version',
  },
  ...whyFlag,
} as const satisfies ArgsDef;

/** @throws CliError (usage) for an unknown action, an unused flag, or a missing or extra name. */
export function actionOf(args: Readonly<Record<string, unknown>>): ExperimentAction {
  const word = String(args['action'] ?? 'list');
  const action = pickAction({ verb: 'experiment', actions, word, args });
  const { name, which } = args;
  if (action === 'list' && name !== undefined)
    throw usageError(
      `\`graft experiment list\` takes no '${String(name)}'; see \`graft experiment status\`.`,
    );
  const needsName = action !== 'list' && action !== 'status';
  if (needsName && name === undefined && args['file'] === undefined)
    throw usageError(`Which one? Give its name or id: graft experiment ${action} support/intent.`);
  if (which !== undefined && action !== 'promote' && action !== 'create')
    throw usageError(`\`graft experiment ${action}\` takes no '${String(which)}'.`);
  return action;
}

export const examples: CommandHelp['examples'] = [
  {
    line: 'graft experiment create support/intent @2 --start',
    does:
      'half of the users get the live version, half version 2, from now on; shows what will be found, ' +
      'and when',
  },
  {
    line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --metric thumbs:proportion:up --ramp 1%,5%,25%,100%',
    does: 'a draft with everything set; `graft experiment start` begins the first step of its ramp',
  },
  { line: 'graft experiment status support/intent --watch', does: 'shows results, every 5 seconds' },
  { line: 'graft experiment', does: 'all that are not archived' },
  {
    line: 'graft experiment kill support/intent',
    does: 'everybody gets the live version; --undo reverts it',
  },
  { line: 'graft experiment promote support/intent', does: 'the proposed winner becomes the live version' },
  {
    line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --judge medicine',
    does: 'version 4 answers too, but nobody gets its answers; medicine says which are better',
  },
  {
    line: 'graft experiment show support/intent > experiment.json',
    does: 'the document, to edit it',
  },
  {
    line: 'graft experiment change support/intent --file experiment.json --dry-run',
    does: 'whether the edited document would be accepted',
  },
];
