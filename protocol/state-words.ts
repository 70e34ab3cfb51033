/** What experiments and versions are and what follows, in the words of every client; numbers are written by who says them. */
import type { VersionView } from './admin-api/versions.ts';
import type { ExperimentComparison, ExperimentDecision, ExperimentEvaluation } from './experiment-answers.ts';

/** How a client writes numbers and times. */
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
  /** Without a capital letter and a full stop. */
  text: string;
}

/** What the last look came to. */
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
      return { tone: 'good', text: `${decision.variant} wins, if you say so` };
  }
}

/** Why a treatment is taken out. */
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
  `${variant ?? 'a variant'} lost ${metric === undefined ? 'a guardrail' : `the guardrail ${metric}`}`;

function holdWords(decision: ExperimentDecision & { action: 'hold' }, { pValue }: NumberWords): string {
  switch (decision.reason) {
    case 'guardrail':
      return lostGuardrail(decision);
    case 'sample_ratio':
      return `the variants do not have the units that they should (p ${pValue(decision.p_value ?? 0)})`;
    case 'no_traffic':
      return 'an hour has passed without a unit; is the name asked for?';
    case 'health':
      return 'a winner would be proposed, but something is lacking; see health';
  }
}

function waitWords(decision: ExperimentDecision & { action: 'wait' }, write: NumberWords): string {
  switch (decision.reason) {
    case 'not_running':
      return 'it is not running';
    case 'killed':
      return 'it is killed, and everybody gets the live version';
    case 'not_significant':
      return 'no difference is certain';
    case 'pairs':
      return 'too few judged pairs to tell which is better';
    case 'units':
      return `${write.count(decision.units ?? 0)} of ${decision.needed === undefined ? '?' : write.count(decision.needed)} units`;
    case 'units_in_step':
      return `${write.count(decision.units ?? 0)} of ${decision.needed === undefined ? '?' : write.count(decision.needed)} units in this step, and the guardrails are not certain to be kept yet`;
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

export const GUARDRAIL_STATES: Readonly<Record<ExperimentEvaluation['guardrails'][number]['state'], string>> =
  {
    kept: 'kept',
    lost: 'lost',
    too_few_units: 'too few units',
    unknown: 'values do not vary',
  };

export type VersionState = 'live' | 'staged' | 'rolled_back' | 'earlier' | 'retired' | 'withdrawn';

/**
 * `staged`: newer than what is live; `rolled_back`: newer, and it was live; `earlier`: older; `withdrawn`: another owner's
 * adapter below it was retired.
 * @param live the name's live version; null = none.
 * @param wasLive by the name's history, where that was read.
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

/** @returns versions that were live once, by the changes of the name. */
export const liveOnce = (changes: readonly { from: number | null }[]): ReadonlySet<number> =>
  new Set(changes.flatMap(({ from }) => from ?? []));
