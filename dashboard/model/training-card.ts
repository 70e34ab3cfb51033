/** A training card as figures, and its loss curve as columns for the chart. */
import type { TrainingCard, TrainingCurve } from '../../protocol/training.ts';
import { duration, moment, number, whole } from './words.ts';

export interface LossColumns {
  /** Growing. */
  readonly steps: readonly number[];
  /** One per step, like the other; null = not measured then. */
  readonly training: readonly (number | null)[];
  readonly heldOut: readonly (number | null)[];
}

/** Points in the order of their steps, each step once: a publisher may send them in any order. */
export function curveColumns(curve: TrainingCurve): LossColumns {
  const points = [...new Map(curve.map((point) => [point[0], point])).values()].sort(([a], [b]) => a - b);
  return {
    steps: points.map(([step]) => step),
    training: points.map(([, loss]) => loss),
    heldOut: points.map(([, , loss]) => loss),
  };
}

/** @returns lower and upper end of the axis of losses: from 0, unless a loss is below it. */
export function lossRange({ training, heldOut }: LossColumns): [number, number] {
  const all = [...training, ...heldOut].filter((loss) => loss !== null);
  const [low, high] = [Math.min(0, ...all), Math.max(0, ...all)];
  return high > low ? [low, high] : [low, low + 1];
}

/** Three digits that count; losses of a training that went wrong may be of any size. */
export const lossText = (loss: number): string => String(Number(loss.toPrecision(3)));

interface Fact {
  readonly name: string;
  readonly value: string;
  /** What `value` is short for. */
  readonly whole?: string;
}

/** @param members the version's chain, whose names stand for digests. */
export function trainingFacts(
  card: TrainingCard,
  members: readonly { readonly digest: string; readonly name: string }[],
): Fact[] {
  const names = new Map(members.map(({ digest, name }) => [digest, name]));
  const { rows, base, chain, settings, steps, tokens, scores, seconds, finished_at: finishedAt } = card;
  const { continued, prompts } = card;
  const { method, rank, alpha, targets, rate, batch, epochs, seed, beta } = settings;
  const others = [
    ...(rows.held_out === 0 ? [] : [`${whole(rows.held_out)} held out`]),
    ...(rows.left_out === 0 ? [] : [`${whole(rows.left_out)} too long`]),
  ];
  return [
    { name: 'Rows', value: [`${whole(rows.trained)} trained on`, ...others].join(', ') },
    ...(prompts === undefined
      ? []
      : [
          {
            name: 'Made from prompts',
            value: `of ${whole(prompts.users)} users; ${whole(prompts.by_users)} rows decided by users, ${whole(prompts.by_judges)} by judges`,
          },
        ]),
    { name: 'sha256 of the rows', value: rows.sha256.slice(0, 12), whole: rows.sha256 },
    { name: 'Base', value: `${base.id}, ${base.weights}`, whole: base.digest },
    {
      name: 'On top of',
      value:
        chain.length === 0
          ? 'the base'
          : chain
              .map(
                ({ digest, scale }) =>
                  `${names.get(digest) ?? digest.slice(0, 8)}${scale === 1 ? '' : ` × ${scale}`}`,
              )
              .join(' + '),
      ...(chain.length === 0 ? {} : { whole: chain.map(({ digest }) => digest).join(' ') }),
    },
    ...(continued === undefined
      ? []
      : [
          {
            name: 'Continued',
            value:
              `rank ${continued.rank} of ${continued.sum_rank}` +
              (continued.relative_error === 0
                ? ''
                : `, ${Number((100 * continued.relative_error).toPrecision(2))} % of the norm cut off`),
          },
        ]),
    { name: 'Method', value: method === 'dpo' ? `DPO, beta ${beta}` : 'SFT' },
    { name: 'Rank', value: `${rank}, alpha ${number(alpha)}` },
    { name: 'Targets', value: targets.join(', ') },
    { name: 'Learning rate', value: String(rate) },
    { name: 'Epochs', value: `${number(epochs)}, ${whole(steps)} steps of ${batch} rows` },
    { name: 'Seed', value: String(seed) },
    { name: 'Labelled tokens', value: whole(tokens) },
    ...(scores === null
      ? []
      : [
          ...(scores.exact === null
            ? []
            : [{ name: 'Held out, exact', value: `${whole(scores.exact)} of ${whole(scores.rows)}` }]),
          { name: 'Held out, loss', value: `${lossText(scores.loss_before)} → ${lossText(scores.loss)}` },
        ]),
    { name: 'Took', value: duration(1000 * seconds) },
    // A time that no calendar has is left out.
    ...(Math.abs(finishedAt) <= 8.64e15 ? [{ name: 'Finished', value: moment(finishedAt) }] : []),
  ];
}
