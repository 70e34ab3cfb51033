/**
 * States and decisions of experiments and versions, in words that all clients share; each client formats
 * numbers itself.
 */
import type { VersionView } from './admin-api/versions.ts';
import type {
  ExperimentComparison,
  ExperimentDecision,
  ExperimentEvaluation,
  ExperimentFinding,
  ExperimentPlan,
  ExperimentProgress,
  ExperimentView,
  PairsPlan,
} from './admin-api/experiments.ts';

/** How a client formats numbers and times. */
export interface NumberWords {
  count: (value: number) => string;
  /** Of 0 to 1. */
  share: (share: number) => string;
  /** Of unix ms. */
  moment: (at: number) => string;
  /** With its sign: `= 0.2`, `< 0.001`. */
  pValue: (p: number) => string;
}

export interface DecisionWords {
  tone: 'calm' | 'good' | 'alarm';
  /** Without capital letter and full stop. */
  text: string;
}

/** The decision of the last look. */
export function decisionWords(decision: ExperimentDecision, write: NumberWords): DecisionWords {
  switch (decision.action) {
    case 'rollback':
      return { tone: 'alarm', text: `roll back: ${lossWords(decision)}` };
    case 'drop':
      return { tone: 'alarm', text: `drop ${decision.variant}: ${lossWords(decision)}` };
    case 'hold':
      return { tone: 'alarm', text: `hold: ${holdWords(decision, write)}` };
    case 'wait':
      return {
        tone: decision.reason === 'killed' ? 'alarm' : 'calm',
        text: `wait: ${waitWords(decision, write)}`,
      };
    case 'advance':
      return {
        tone: 'good',
        text: `advance to ${write.share(decision.coverage)}${decision.last ? ', the last step' : ''}`,
      };
    case 'propose_winner':
      return { tone: 'good', text: `${decision.variant} is the proposed winner` };
  }
}

/** Why a treatment is removed. */
const lossWords = (decision: ExperimentDecision & { action: 'rollback' | 'drop' }): string =>
  decision.reason === 'guardrail'
    ? lostGuardrail(decision)
    : `${decision.variant} is worse than control by ${decision.metric}`;

const lostGuardrail = ({
  variant,
  metric,
}: {
  variant?: string | undefined;
  metric?: string | undefined;
}): string =>
  `${variant ?? 'a variant'} failed ${metric === undefined ? 'a guardrail' : `the guardrail ${metric}`}`;

function holdWords(decision: ExperimentDecision & { action: 'hold' }, { pValue }: NumberWords): string {
  switch (decision.reason) {
    case 'guardrail':
      return lostGuardrail(decision);
    case 'sample_ratio':
      return (
        'the variants do not receive the units that their weights call for (p ' +
        `${pValue(decision.p_value ?? 0)})`
      );
    case 'no_traffic':
      return 'no unit for an hour; does anyone request this name?';
    case 'health':
      return 'a winner would be proposed, but the experiment has a health problem; see health';
  }
}

function waitWords(decision: ExperimentDecision & { action: 'wait' }, write: NumberWords): string {
  switch (decision.reason) {
    case 'not_running':
      return 'it is not running';
    case 'killed':
      return 'it is killed; everybody gets the live version';
    case 'not_significant':
      return 'no significant difference yet';
    case 'pairs':
      return 'too few judged pairs to tell which is better';
    case 'units':
      return `${write.count(decision.units ?? 0)} of ${decision.needed === undefined ? '?' : write.count(decision.needed)} units`;
    case 'units_in_step':
      return (
        `${write.count(decision.units ?? 0)} of ` +
        `${decision.needed === undefined ? '?' : write.count(decision.needed)} units in this step; not ` +
        'all guardrails have certainly passed yet'
      );
    case 'no_values':
      return `the guardrail ${decision.metric ?? ''} has too few values for the next step`;
    case 'days':
      return `too few days have passed${decision.until === undefined ? '' : `; until ${write.moment(decision.until)}`}`;
    case 'hold_time':
      return `this step is held${decision.until === undefined ? '' : ` until ${write.moment(decision.until)}`}`;
  }
}

export const VERDICT_WORDS: Readonly<Record<ExperimentComparison['verdict'], string>> = {
  better: 'better',
  not_worse: 'not worse',
  worse: 'worse',
  open: 'open',
};

/** Why a comparison has no verdict yet. */
export const OPEN_REASONS: Readonly<Record<NonNullable<ExperimentComparison['reason']>, string>> = {
  too_few_values: 'too few values',
  no_variance: 'values do not vary',
};

type Effect = NonNullable<ExperimentComparison['difference']>;

/**
 * A difference, clamped to what is possible: that of two proportions lies between -1 and 1, whatever few values
 * suggest.
 */
export const possibleDifference = (
  difference: Effect | null,
  kind: ExperimentComparison['kind'],
): Effect | null =>
  difference === null || kind === 'mean'
    ? difference
    : { ...difference, low: Math.max(-1, difference.low), high: Math.min(1, difference.high) };

/** Shown instead of an interval that excludes nothing. */
export const TOO_EARLY = 'too early';

/** How far apart two variants are. @returns `interval`: null while it includes everything possible. */
export function effectOf({
  lift,
  difference,
  kind,
}: Pick<ExperimentComparison, 'lift' | 'difference' | 'kind'>): {
  scale: 'lift' | 'difference';
  estimate: number;
  interval: Effect | null;
} | null {
  // Without a lift (control may be 0), use the difference.
  if (lift !== null) return { scale: 'lift', estimate: lift.estimate, interval: lift };
  const possible = possibleDifference(difference, kind);
  if (possible === null) return null;
  const isOpen = kind === 'proportion' && possible.low === -1 && possible.high === 1;
  return { scale: 'difference', estimate: possible.estimate, interval: isOpen ? null : possible };
}

/**
 * What the proposed winner gains over control by the deciding metric, and by how many units that is known.
 * @returns such as `+41 points of thumbs, 200 users`; null = nothing is proposed.
 */
export function proposalGain(
  view: Pick<ExperimentView, 'document' | 'evaluation' | 'proposal'>,
  write: Pick<NumberWords, 'count' | 'share'>,
): string | null {
  const { document, evaluation, proposal } = view;
  if (proposal === null) return null;
  const pairs = evaluation?.pairs;
  if (document.judge !== undefined && document.coverage === 0)
    return pairs === undefined || pairs.win_rate === null
      ? 'the judge prefers it'
      : `it wins ${write.share(pairs.win_rate.estimate)} of ${write.count(pairs.wins + pairs.ties + pairs.losses)} judged pairs`;
  const units = counted(proposal.units, document.unit, write);
  const metric = document.metrics[0]?.key;
  // An alarm hides the results.
  const shown = evaluation?.comparisons.find(
    (one) => one.metric === metric && one.variant === proposal.variant,
  );
  const gain = shown === undefined ? null : gainOf(shown, write);
  return gain === null || metric === undefined ? units : `${gain} of ${metric}, ${units}`;
}

/** With its sign; in percentage points for proportions, otherwise relative if possible. */
function gainOf(
  { kind, difference, lift }: ExperimentComparison,
  write: Pick<NumberWords, 'count' | 'share'>,
): string | null {
  const shown = kind === 'proportion' ? difference : (lift ?? difference);
  if (shown === null) return null;
  const sign = shown.estimate < 0 ? '−' : '+';
  const size = Math.abs(shown.estimate);
  if (kind === 'mean')
    return sign + (lift === null ? write.count(size) : write.share(Number(size.toPrecision(2))));
  const points = 100 * size >= 1 ? Math.round(100 * size) : Number((100 * size).toPrecision(1));
  return `${sign}${write.count(points)} point${points === 1 ? '' : 's'}`;
}

export const GUARDRAIL_STATES: Readonly<Record<ExperimentEvaluation['guardrails'][number]['state'], string>> =
  {
    kept: 'kept',
    lost: 'failed',
    too_few_units: 'too few units',
    unknown: 'values do not vary',
  };

export type VersionState = 'live' | 'staged' | 'rolled_back' | 'earlier' | 'retired' | 'withdrawn';

/**
 * `staged`: newer than the live version; `rolled_back`: newer, and was live; `earlier`: older; `withdrawn`:
 * another owner's adapter below it was retired.
 * @param live the name's live version; null = none.
 * @param wasLive according to the name's history, if it was read.
 */
export function versionState(
  version: Pick<VersionView, 'version' | 'live' | 'retired_at' | 'withdrawn_at'>,
  live: number | null,
  wasLive = false,
): VersionState {
  if (version.withdrawn_at !== null) return 'withdrawn';
  if (version.live) return 'live';
  if (version.retired_at !== null) return 'retired';
  if (live !== null && version.version < live) return 'earlier';
  return wasLive ? 'rolled_back' : 'staged';
}

export const VERSION_STATE_WORDS: Readonly<Record<VersionState, string>> = {
  live: 'live',
  staged: 'staged',
  rolled_back: 'rolled back',
  earlier: 'earlier',
  retired: 'retired',
  withdrawn: 'withdrawn',
};

/** @returns versions that were live at some time, according to the name's changes. */
export const liveOnce = (changes: readonly { from: number | null }[]): ReadonlySet<number> =>
  new Set(changes.flatMap(({ from }) => from ?? []));

type Write = Pick<NumberWords, 'count' | 'share'>;

/** @returns such as `3 days`, `5 h`, `an hour`; rounded up. */
function daysWords(days: number, { count }: Write): string {
  if (days >= 1) return days < 1.05 ? '1 day' : `${count(Math.ceil(days))} days`;
  const hours = Math.ceil(days * 24);
  return hours <= 1 ? 'an hour' : `${hours} h`;
}

/** Rounds to the digits that are certain. */
const roughly = (count: number): number => Number(count.toPrecision(count < 100 ? 2 : 3));

/** @returns such as `1 request`, `5,200 requests`, `fewer than 1 request`. */
function counted(count: number, what: string, write: Write): string {
  const near = roughly(count);
  if (near > 0 && near < 1) return `fewer than 1 ${what}`;
  return `${write.count(near)} ${what}${near === 1 ? '' : 's'}`;
}

/** @returns such as `a 20 % lift: 3 days; 10 %: 11 days; 5 %: 41 days`. */
export function findsWords(finds: readonly ExperimentFinding[], write: Write): string {
  const known = finds.filter(({ units }) => units !== null);
  if (known.length === 0) return 'no lift, however long it runs';
  const texts = known.map(({ lift, units, days }, i) => {
    const when = days === null ? `${write.count(roughly(units ?? 0))} units` : daysWords(days, write);
    return `${i === 0 ? `a ${write.share(lift)} lift` : write.share(lift)}: ${when}`;
  });
  return texts.join('; ');
}

/** What could be found so far, and how long the rest takes. */
export function progressWords({ lift_now: now, finds }: ExperimentProgress, write: Write): string {
  const found =
    now === null
      ? 'no lift could be found so far'
      : `lifts of ${write.share(Number(now.toPrecision(2)))} or more could be found so far`;
  const ahead = finds.filter(({ units }) => units !== 0);
  return ahead.length === 0 ? found : `${found}; still needed for ${findsWords(ahead, write)}`;
}

export interface PlanWords {
  traffic: string;
  /** Of users who rate; null if nobody rates. */
  values: string | null;
  mean: string | null;
  /** Of judged pairs; null if there are none. */
  pairs: string | null;
  tokens: string | null;
  /** null: unknown. */
  finds: string | null;
}

/** @param ask how the client asks for the number of units, if it is unknown. */
export function planWords(plan: ExperimentPlan, write: Write, ask: string): PlanWords {
  const { requests, units, values, baseline, finds, pairs } = plan;
  const traffic =
    requests.days === 0
      ? 'no requests in the last week'
      : `${counted(requests.per_day, 'request', write)} a day in the last ${requests.days === 1 ? 'day' : `${requests.days} days`}`;
  const judged = pairs === undefined ? null : pairsWords(pairs, write);
  if (judged !== null && plan.coverage === 0) return { traffic, values: null, mean: null, ...judged };
  const perDay = counted(units.per_day ?? 0, 'unit', write);
  const who = {
    expected: `${perDay} a day, as you expect`,
    experiment: `${perDay} a day, as in the name's last experiment`,
    unknown: `the number of users is unknown: ${ask}`,
  }[units.from];
  const share = write.share(Number(values.share.toPrecision(2)));
  const rated = {
    experiment: `${share} of them rate, as in the name's last experiment`,
    edge: 'every user has a value: the edge records it',
    assumed: `${share} of them rate (assumed)`,
  }[values.from];
  const mean =
    baseline === null
      ? 'unknown: after the first look, the status shows what can be found'
      : `${Number(baseline.mean.toPrecision(3))}${baseline.from === 'assumed' ? ' (assumed)' : ''}`;
  const found = [...(baseline === null ? [] : [findsWords(finds, write)]), ...(judged ? [judged.finds] : [])];
  return {
    traffic: `${traffic}; ${who}`,
    values: rated,
    mean,
    pairs: judged?.pairs ?? null,
    tokens: judged?.tokens ?? null,
    finds: found.length === 0 ? null : found.join('; '),
  };
}

function pairsWords(plan: PairsPlan, write: Write): { pairs: string; tokens: string; finds: string } {
  const { per_day: perDay, sample, tokens_per_pair: each, tokens_per_day: most } = plan;
  const share = `${write.share(sample)} of the requests`;
  const limit = `at most ${write.count(most)} a day for challenger and judge`;
  const finds = plan.finds.map(({ win_rate: rate, pairs, days }, i) => {
    const when = days === null ? '' : `, ${daysWords(days, write)}`;
    return `${i === 0 ? `a win rate of ${write.share(rate)}` : write.share(rate)}: ${counted(pairs, 'pair', write)}${when}`;
  });
  return {
    pairs:
      perDay === null
        ? `${share}; the number is not known yet`
        : `${counted(perDay, 'pair', write)} a day, from ${share}, plus ties`,
    tokens: each === null ? limit : `about ${write.count(roughly(each))} a pair; ${limit}`,
    finds: finds.join('; '),
  };
}
