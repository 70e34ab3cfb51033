import { z } from 'zod';
import { fnv1a } from '../../protocol/index.ts';
import { askObject, type DurableNamespace } from '../platform/ask-object.ts';
import { joinShards, ShardTally } from './join-shards.ts';
import type { ExperimentTallies } from './ports.ts';

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
        marks: z.array(z.enum(['answered', 'nameless', 'cold'])).default([]),
        segment: z.string().optional(),
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
  z.strictObject({ call: z.literal('refused'), at, seed: z.string(), metric: z.string() }),
  z.strictObject({ call: z.literal('snapshot'), seed: z.string() }),
  z.strictObject({ call: z.literal('erase') }),
]);
export type TallyCall = z.infer<typeof TallyCall>;

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
      for (const { seed, variant, unit, values, shadow, marks = [], segment } of batch.events) {
        const shard = tallyShardOf(unit);
        const call = shards.get(shard) ?? { call: 'add', id: batch.id, at: batch.at, events: [] };
        shards.set(shard, call);
        const more = segment === undefined ? {} : { segment };
        call.events.push({ seed, variant, unit, values: { ...values }, shadow, marks: [...marks], ...more });
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
    async refused(experiment, { at: asked, seed, unit, metric }) {
      const call: TallyCall = { call: 'refused', at: asked, seed, metric };
      await ask(experiment, tallyShardOf(unit), call, z.null());
    },
    async erase(experiment) {
      const shards = Array.from({ length: TALLY_SHARDS }, (_, shard) => shard);
      await allOf(shards.map((shard) => ask(experiment, shard, { call: 'erase' }, z.null())));
    },
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
