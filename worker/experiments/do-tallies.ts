import { z } from 'zod';
import { fnv1a } from '../../protocol/index.ts';
import { askObject, type DurableNamespace } from '../platform/ask-object.ts';
import type { ExperimentTallies, TallyMoments, TallySnapshot } from './ports.ts';

const at = z.number();
const value = z.number();
/** What the Durable Object is asked. */
export const TallyCall = z.discriminatedUnion('call', [
  z.strictObject({
    call: z.literal('add'),
    id: z.string(),
    at,
    events: z.array(
      z.strictObject({
        seed: z.string(),
        variant: z.string(),
        unit: z.string(),
        values: z.record(z.string(), value),
        shadow: z.boolean(),
      }),
    ),
  }),
  z.strictObject({
    call: z.literal('feedback'),
    at,
    token: z.string(),
    expiresAt: at,
    seed: z.string(),
    variant: z.string(),
    unit: z.string(),
    metric: z.string(),
    value,
    before: value.nullable(),
  }),
  z.strictObject({ call: z.literal('snapshot'), seed: z.string() }),
]);
export type TallyCall = z.infer<typeof TallyCall>;

const Sums = z.object({
  n: z.number(),
  sum: z.number(),
  sumSquares: z.number(),
  /** Units that have a value from before; the sums after it are theirs alone. */
  paired: z.number(),
  pairedSum: z.number(),
  preSum: z.number(),
  preSumSquares: z.number(),
  products: z.number(),
});
type Sums = z.infer<typeof Sums>;
/** What one shard has of one seed. */
export const ShardTally = z.object({
  units: z.record(z.string(), z.number()),
  metrics: z.record(z.string(), z.record(z.string(), Sums)),
  shadow: z.record(z.string(), Sums),
});
export type ShardTally = z.infer<typeof ShardTally>;
const Fed = z.enum(['counted', 'repeated']);

/** Objects that share an experiment's units among them; each writes some 500 events a second. */
export const TALLY_SHARDS = 8;

/** A unit's shard must never change while its experiment lasts. */
export const tallyShardOf = (unit: string): number => fnv1a(unit) % TALLY_SHARDS;

/**
 * Tallies in Durable Objects (`ExperimentTally`), {@link TALLY_SHARDS} an experiment. A batch goes to
 * the shards of its units under its one id: when one of them did not take it, the whole may be sent again.
 */
export function createDoTallies(params: {
  namespace: DurableNamespace;
  timeoutMs: number;
}): ExperimentTallies {
  const { namespace, timeoutMs } = params;

  const ask = <T>(experiment: string, shard: number, call: TallyCall, schema: z.ZodType<T>): Promise<T> =>
    askObject({
      ...{ namespace, name: `${experiment}/${shard}`, what: 'tally', call, timeoutMs },
      parse: (answer) => schema.parse(answer),
    });

  return {
    async add(experiment, batch) {
      const shards = new Map<number, Extract<TallyCall, { call: 'add' }>>();
      for (const { seed, variant, unit, values, shadow } of batch.events) {
        const shard = tallyShardOf(unit);
        const call = shards.get(shard) ?? { call: 'add', id: batch.id, at: batch.at, events: [] };
        shards.set(shard, call);
        call.events.push({ seed, variant, unit, values: { ...values }, shadow });
      }
      await allOf([...shards].map(([shard, call]) => ask(experiment, shard, call, z.null())));
    },
    feedback: (
      experiment,
      { at: asked, token, expiresAt, seed, variant, unit, metric, value: told, before },
    ) =>
      ask(
        experiment,
        tallyShardOf(unit),
        { call: 'feedback', at: asked, token, expiresAt, seed, variant, unit, metric, value: told, before },
        Fed,
      ),
    async snapshot(experiment, seed) {
      const shards = Array.from({ length: TALLY_SHARDS }, (_, shard) => shard);
      return joinShards(
        await allOf(shards.map((shard) => ask(experiment, shard, { call: 'snapshot', seed }, ShardTally))),
      );
    },
  };
}

/** Waits for all of them, also when one fails: none is left behind that nobody waits for. */
async function allOf<T>(work: readonly Promise<T>[]): Promise<T[]> {
  const settled = await Promise.allSettled(work);
  return settled.map((one) => {
    if (one.status === 'rejected') throw one.reason;
    return one.value;
  });
}

const plus = (a: Sums | undefined, b: Sums): Sums =>
  a === undefined
    ? b
    : {
        n: a.n + b.n,
        sum: a.sum + b.sum,
        sumSquares: a.sumSquares + b.sumSquares,
        paired: a.paired + b.paired,
        pairedSum: a.pairedSum + b.pairedSum,
        preSum: a.preSum + b.preSum,
        preSumSquares: a.preSumSquares + b.preSumSquares,
        products: a.products + b.products,
      };

function shown({ n, sum, sumSquares, ...pre }: Sums): TallyMoments {
  return pre.paired > 0 ? { n, sum, sumSquares, ...pre } : { n, sum, sumSquares };
}

const showAll = (sums: Record<string, Sums>): Record<string, TallyMoments> =>
  Object.fromEntries(Object.entries(sums).map(([key, one]) => [key, shown(one)]));

function joinShards(shards: readonly ShardTally[]): TallySnapshot {
  const units: Record<string, number> = {};
  const metrics: Record<string, Record<string, Sums>> = {};
  const shadow: Record<string, Sums> = {};
  for (const shard of shards) {
    for (const [variant, n] of Object.entries(shard.units)) units[variant] = (units[variant] ?? 0) + n;
    for (const [metric, variants] of Object.entries(shard.metrics)) {
      const joined = (metrics[metric] ??= {});
      for (const [variant, sums] of Object.entries(variants)) joined[variant] = plus(joined[variant], sums);
    }
    for (const [metric, sums] of Object.entries(shard.shadow)) shadow[metric] = plus(shadow[metric], sums);
  }
  return {
    units,
    metrics: Object.fromEntries(Object.entries(metrics).map(([metric, sums]) => [metric, showAll(sums)])),
    shadow: showAll(shadow),
  };
}
