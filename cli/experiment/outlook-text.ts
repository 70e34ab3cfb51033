/** What an experiment will be able to tell, and when, in words. */
import type { ExperimentFinding, ExperimentPlan, ExperimentProgress } from '../../protocol/index.ts';
import { facts } from '../adapter-files/module-table.ts';
import { shareText } from './experiment-numbers.ts';

/** @returns such as `3 days`, `5 h`, `half an hour`; days are whole, and rounded up. */
function daysText(days: number): string {
  if (days >= 1) return days < 1.05 ? '1 day' : `${Math.ceil(days)} days`;
  const hours = Math.ceil(days * 24);
  return hours <= 1 ? 'an hour' : `${hours} h`;
}

const countText = (count: number): string => String(Number(count.toPrecision(count < 100 ? 2 : 3)));

/** @returns such as `a 20 % lift: 3 days; 10 %: 11 days; 5 %: 41 days`. */
export function findsText(finds: readonly ExperimentFinding[], done = 'found by now'): string {
  const known = finds.filter(({ units }) => units !== null);
  if (known.length === 0) return 'no lift, however long it runs';
  const texts = known.map(({ lift, units, days }, i) => {
    const when = units === 0 ? done : days === null ? `${countText(units ?? 0)} units` : daysText(days);
    return `${i === 0 ? `a ${shareText(lift)} lift` : shareText(lift)}: ${when}`;
  });
  return texts.join('; ');
}

/** `graft experiment create`: what can be found, and what that rests on. */
export function outlookText(plan: ExperimentPlan): string {
  const { requests, units, values, baseline, finds } = plan;
  const traffic =
    requests.days === 0
      ? 'nobody has asked for it in the last week'
      : `${countText(requests.per_day)} requests a day in the last ${requests.days === 1 ? 'day' : `${requests.days} days`}`;
  const who = {
    expected: `${countText(units.per_day ?? 0)} units a day, as you expect`,
    experiment: `${countText(units.per_day ?? 0)} units a day, as in its last experiment`,
    unknown: 'how many users that is, nobody knows: --expect-units says it',
  }[units.from];
  const rated = {
    experiment: `${shareText(Number(values.share.toPrecision(2)))} of them rate, as in its last experiment`,
    edge: 'all of them have a value: the edge records it',
    assumed: `${shareText(values.share)} of them rate (assumed)`,
  }[values.from];
  const before =
    baseline === null
      ? 'unknown: after the first look, the status says what can be found'
      : `${Number(baseline.mean.toPrecision(3))}${baseline.from === 'assumed' ? ' (assumed)' : ''}`;
  return facts([
    ['traffic', `${traffic}; ${who}`],
    ['values', rated],
    ['mean', before],
    ['finds', baseline === null ? null : findsText(finds)],
  ]);
}

/** `graft experiment status`: what could be found by now, and how far it is to the rest. */
export function progressText({ lift_now: now, finds }: ExperimentProgress): string {
  const found =
    now === null ? 'nothing could be found by now' : `a ${liftSize(now)} lift could be found by now`;
  const ahead = finds.filter(({ units }) => units !== 0);
  return ahead.length === 0 ? found : `${found}; still to come for ${findsText(ahead)}`;
}

const liftSize = (lift: number): string => shareText(Number(lift.toPrecision(2)));
