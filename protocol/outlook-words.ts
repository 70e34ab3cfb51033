/** What an experiment will be able to tell, and when, in the words of every client; numbers are written by who says them. */
import type { ExperimentFinding, ExperimentPlan, ExperimentProgress } from './experiment-plan.ts';
import type { NumberWords } from './state-words.ts';

type Write = Pick<NumberWords, 'count' | 'share'>;

/** @returns such as `3 days`, `5 h`, `an hour`; whole ones, rounded up. */
function daysWords(days: number, { count }: Write): string {
  if (days >= 1) return days < 1.05 ? '1 day' : `${count(Math.ceil(days))} days`;
  const hours = Math.ceil(days * 24);
  return hours <= 1 ? 'an hour' : `${hours} h`;
}

/** What is not sure to a digit is not said to one. */
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

/** What could be found by now, and how far it is to the rest. */
export function progressWords({ lift_now: now, finds }: ExperimentProgress, write: Write): string {
  const found =
    now === null
      ? 'no lift could be found by now'
      : `lifts from ${write.share(Number(now.toPrecision(2)))} up could be found by now`;
  const ahead = finds.filter(({ units }) => units !== 0);
  return ahead.length === 0 ? found : `${found}; still to come for ${findsWords(ahead, write)}`;
}

export interface PlanWords {
  traffic: string;
  values: string;
  mean: string;
  /** null: nobody knows. */
  finds: string | null;
}

/** @param ask how the client is told how many units come, where nobody knows. */
export function planWords(plan: ExperimentPlan, write: Write, ask: string): PlanWords {
  const { requests, units, values, baseline, finds } = plan;
  const traffic =
    requests.days === 0
      ? 'nobody has asked for it in the last week'
      : `${counted(requests.per_day, 'request', write)} a day in the last ${requests.days === 1 ? 'day' : `${requests.days} days`}`;
  const perDay = counted(units.per_day ?? 0, 'unit', write);
  const who = {
    expected: `${perDay} a day, as you expect`,
    experiment: `${perDay} a day, as in its last experiment`,
    unknown: `how many users that is, nobody knows: ${ask}`,
  }[units.from];
  const share = write.share(Number(values.share.toPrecision(2)));
  const rated = {
    experiment: `${share} of them rate, as in its last experiment`,
    edge: 'all of them have a value: the edge records it',
    assumed: `${share} of them rate (assumed)`,
  }[values.from];
  const mean =
    baseline === null
      ? 'unknown: after the first look, its status says what can be found'
      : `${Number(baseline.mean.toPrecision(3))}${baseline.from === 'assumed' ? ' (assumed)' : ''}`;
  return {
    traffic: `${traffic}; ${who}`,
    values: rated,
    mean,
    finds: baseline === null ? null : findsWords(finds, write),
  };
}
