import { z } from 'zod';
import { KeptPair, PAIR_FAILURES } from '../../../protocol/index.ts';
import { askObject, type DurableNamespace } from '../../platform/ask-object.ts';
import type { PairTallies } from './ports.ts';

const at = z.number();
const count = z.int().min(0);
const failure = z.enum(PAIR_FAILURES);
const Outcome = z.union([
  z.strictObject({
    result: z.enum(['win', 'tie', 'loss']),
    same: z.boolean(),
    choices: count,
    first: count,
    agreed: z.boolean().nullable(),
  }),
  z.strictObject({ failure }),
]);

/** Edges from before do not say. */
const user = z.string().nullable().default(null);

/** What the Durable Object is asked. */
export const PairCall = z.discriminatedUnion('call', [
  z.strictObject({
    call: z.literal('mayBegin'),
    at,
    tokensPerDay: z.number(),
    seed: z.string().default(''),
    user,
  }),
  z.strictObject({
    ...{ call: z.literal('record'), seed: z.string(), at, tokens: z.number(), outcome: Outcome, keep: count },
    ...{ pair: KeptPair.nullable(), user },
  }),
  z.strictObject({ call: z.literal('snapshot'), seed: z.string(), at }),
  z.strictObject({ call: z.literal('kept'), at, keep: count }),
  z.strictObject({ call: z.literal('forget') }),
  z.strictObject({ call: z.literal('erase') }),
]);
export type PairCall = z.infer<typeof PairCall>;

const Tally = z.object({
  ...{ wins: count, ties: count, losses: count, same: count },
  ...{ choices: count, first: count, asked: count, agreed: count },
  failures: z.partialRecord(failure, count),
  tokensToday: z.number(),
});

/** Pairs in a Durable Object (`PairTally`), one an experiment: a pair takes seconds, so that one is enough. */
export function createDoPairs(params: { namespace: DurableNamespace; timeoutMs: number }): PairTallies {
  const ask = <T>(name: string, call: PairCall, schema: z.ZodType<T>): Promise<T> =>
    askObject({ ...params, name, what: 'pair tally', call, parse: (answer) => schema.parse(answer) });
  return {
    mayBegin: (experiment, asked) => ask(experiment, { call: 'mayBegin', ...asked }, z.boolean()),
    async record(experiment, asked) {
      await ask(experiment, { call: 'record', ...asked }, z.null());
    },
    snapshot: (experiment, asked) => ask(experiment, { call: 'snapshot', ...asked }, Tally),
    kept: (experiment, asked) => ask(experiment, { call: 'kept', ...asked }, z.array(KeptPair)),
    async erase(experiment) {
      await ask(experiment, { call: 'erase' }, z.null());
    },
    async forget(experiment) {
      await ask(experiment, { call: 'forget' }, z.null());
    },
  };
}
