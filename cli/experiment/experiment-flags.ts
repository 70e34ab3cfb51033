import type { ArgsDef } from 'citty';
import { DEFAULT_JUDGE_TOKENS, MAX_KEPT_PAIRS } from '../../protocol/limits.ts';
import { type Actions, pickAction, type CommandHelp } from '../command.ts';
import { whyFlag } from '../admin/operation-command.ts';
import { usageError } from '../flags.ts';
import { DEFAULT_HOLD, DEFAULT_MIN_UNITS } from './parse-design.ts';

/** What an experiment is made of; each but `--file` is a part of the document. */
const designFlags = {
  variant: {
    type: 'string',
    description:
      'Of create, once for each, control first, where two halves of live and @2 are not what is wanted: key=name@version[:weight], such as control=support/intent@3 or treatment=@4:10%; equal weights unless given',
    valueHint: 'variant',
  },
  metric: {
    type: 'string',
    description:
      'Once for each, the one that decides first: key:proportion:up or key:mean:down, such as thumbs:proportion:up',
    valueHint: 'metric',
  },
  guardrail: {
    type: 'string',
    description:
      'Once for each: metric:limits[:rollback|hold]; limits against control are +50% (of it), +0.02 (in its unit), or both: "error_rate:+50%|+0.02"; -10% where less is worse; none for none. error_rate, left_rate and ttft_ms are guarded unless given',
    valueHint: 'guardrail',
  },
  ramp: { type: 'string', description: 'Coverage step by step: 1%,5%,25%,100%', valueHint: 'shares' },
  hold: {
    type: 'string',
    description: `How long a step of the ramp is held at least; ${DEFAULT_HOLD} unless given`,
    valueHint: 'time',
  },
  'min-units': {
    type: 'string',
    description: `Units in a step of the ramp before the next, and of all before a winner; ${DEFAULT_MIN_UNITS} unless given`,
    valueHint: 'count',
  },
  'min-days': {
    type: 'string',
    description: 'Days before which no winner is proposed, such as 7: a weekend is not like a week',
    valueHint: 'days',
  },
  'at-least': {
    type: 'string',
    description:
      'What is good enough by the metric that decides: -2% proposes a version that is at most 2 % worse',
    valueHint: 'lift',
  },
  cap: {
    type: 'string',
    description:
      'Of the metric that decides, a mean: p99 counts what lies above control’s 99th percentile as that, so that a few users cannot decide',
    valueHint: 'p99',
  },
  coverage: {
    type: 'string',
    description: 'Share of the units that is in the experiment; of ramp: the step to go to',
    valueHint: 'share',
  },
  shadow: {
    type: 'string',
    description: 'Run a version beside, for a share of the requests: support/intent@5:5%',
    valueHint: 'shadow',
  },
  'shadow-compare': {
    type: 'boolean',
    description:
      'Count how often the shadow says something else than the user was told: of requests with temperature 0 or a seed',
  },
  judge: {
    type: 'string',
    description:
      'Have pairs of answers judged, control’s and the shadow’s to the same prompt: base, a name, or the https URL of your application; nobody gets the other answer unless there is a --coverage or --ramp',
    valueHint: 'judge',
  },
  'judge-tokens': {
    type: 'string',
    description: `What judge and shadow may use on one day, tokens; ${DEFAULT_JUDGE_TOKENS} unless given`,
    valueHint: 'count',
  },
  'keep-pairs': {
    type: 'string',
    description: `Keep the last pairs with their texts, ${MAX_KEPT_PAIRS} at most, for 30 days; none unless given`,
    valueHint: 'count',
  },
  tenant: { type: 'string', description: 'Only keys of this tenant; once for each', valueHint: 'tenant' },
  override: {
    type: 'string',
    description: 'A tester: unit=variant, such as acme/user/alice=treatment; once for each',
    valueHint: 'override',
  },
  'segment-by': {
    type: 'string',
    description:
      'Show results by this as well, which decides nothing: tenant, name (what is below the experiment’s), or a request header, header:x-plan',
    valueHint: 'dimension',
  },
  webhook: {
    type: 'string',
    description:
      'URL that is told of proposals, of variants that are taken out, and of alarms; what to check its messages by is printed once',
    valueHint: 'url',
  },
  unit: {
    type: 'enum',
    options: ['user', 'key'],
    description: 'Who stays with a variant: the user that a request names, or the API key',
  },
  seed: { type: 'string', description: 'Deals the units; made up unless given', valueHint: 'text' },
} as const satisfies ArgsDef;

export const DESIGN_FLAGS = Object.keys(designFlags) as (keyof typeof designFlags)[];

const STEP_FLAGS = ['expect', 'why'];
const NAME = ['name'];

export const actions = {
  create: {
    summary: 'Make a draft, and a plan of what it will find and when; --start starts it at once',
    arguments: ['name', 'which?'],
    flags: [...DESIGN_FLAGS, 'file', 'why', 'dry-run', 'start', 'expect-units'],
  },
  list: { summary: 'List all that are not archived', arguments: [], flags: ['all'] },
  show: { summary: 'Print the document, to be edited', arguments: NAME, flags: [] },
  status: { summary: 'Show how it goes', arguments: ['name?'], flags: ['all', 'watch'] },
  start: { summary: 'Put a draft live', arguments: NAME, flags: STEP_FLAGS },
  ramp: {
    summary: 'Go to the next step of the ramp now, or to a coverage',
    arguments: NAME,
    flags: [...STEP_FLAGS, 'coverage'],
  },
  evaluate: { summary: 'Have the server look at it now, and do what follows', arguments: NAME, flags: [] },
  change: {
    summary: 'Put an edited document in its place',
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
  archive: { summary: 'Free its name for another one', arguments: NAME, flags: STEP_FLAGS },
  pairs: { summary: 'Print the judged pairs that were kept', arguments: NAME, flags: [] },
  secret: { summary: 'Print what a judge checks signatures with', arguments: NAME, flags: [] },
} as const satisfies Actions;
export type ExperimentAction = keyof typeof actions;
const ACTION_NAMES = Object.keys(actions);

export const experimentArgs = {
  action: {
    type: 'positional',
    description: `${ACTION_NAMES.slice(0, -1).join(', ')} or ${ACTION_NAMES.at(-1)}; list unless given`,
    valueHint: ACTION_NAMES.join('|'),
    required: false,
  },
  name: {
    type: 'positional',
    description: 'Name that the experiment is on, or its id',
    required: false,
  },
  which: {
    type: 'positional',
    description:
      'Of create: the version to compare with the live one, such as @2; of promote: the variant whose version goes live, the proposed one unless given',
    required: false,
  },
  ...designFlags,
  file: {
    type: 'string',
    description: 'Of create and change: the document as JSON, in the place of flags',
    valueHint: 'file',
  },
  start: { type: 'boolean', description: 'Of create: start it at once' },
  'expect-units': {
    type: 'string',
    description: 'Of create, for its plan: how many users (or keys) a day ask for the name',
    valueHint: 'count',
  },
  yes: {
    type: 'boolean',
    description:
      'Of promote: also a variant that was not proposed, and over a version that nobody has compared',
  },
  undo: { type: 'boolean', description: 'Of kill: take it back' },
  watch: { type: 'boolean', description: 'Of status: again every 5 seconds, until Ctrl-C' },
  all: { type: 'boolean', description: 'Of list and status: archived ones as well' },
  expect: {
    type: 'string',
    description: 'Only if this is the version of the document now, as status shows it',
    valueHint: 'version',
  },
  ...whyFlag,
} as const satisfies ArgsDef;

/** @throws CliError (usage) for an action that is none, a flag that it has no use for, or a name too few or too many. */
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
    does: 'half of the users get the live version, half version 2, from now on; says what will be found, and when',
  },
  {
    line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --metric thumbs:proportion:up --ramp 1%,5%,25%,100%',
    does: 'a draft with all of it said; `graft experiment start` begins with the first step of its ramp',
  },
  { line: 'graft experiment status support/intent --watch', does: 'how it goes, again every 5 seconds' },
  { line: 'graft experiment', does: 'all that are not archived' },
  {
    line: 'graft experiment kill support/intent',
    does: 'everybody gets the live version; --undo takes it back',
  },
  { line: 'graft experiment promote support/intent', does: 'the proposed winner becomes the live version' },
  {
    line: 'graft experiment create support/intent --variant control=@3 --variant treatment=@4 --judge medicine',
    does: 'version 4 answers beside, nobody gets its answers, and medicine says which are better',
  },
  {
    line: 'graft experiment show support/intent > experiment.json',
    does: 'the document, to be edited',
  },
  {
    line: 'graft experiment change support/intent --file experiment.json --dry-run',
    does: 'whether the edited document would be accepted',
  },
];
