import { z } from 'zod';
import { PAIR_FAILURES } from '../../../protocol/experiment.ts';
import { askObject, type DurableNamespace } from '../../platform/store-calls.ts';
import { MAX_PAIRS_OF_USER, PAIR_CLEAN_MS, PAIR_KEPT_MS, PAIR_TALLY_KEPT_MS } from '../limits.ts';
import { type PairTallies, type PairOutcome, type PairTally as Tally, StoredPair } from './ports.ts';

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

const user = z.string().nullable();

/** What the Durable Object is asked. */
const PairCall = z.discriminatedUnion('call', [
  z.strictObject({
    call: z.literal('mayBegin'),
    at,
    tokensPerDay: z.number(),
    seed: z.string(),
    user,
  }),
  z.strictObject({
    ...{ call: z.literal('record'), seed: z.string(), at, tokens: z.number(), outcome: Outcome, keep: count },
    ...{ pair: StoredPair.nullable(), user },
  }),
  z.strictObject({ call: z.literal('snapshot'), seed: z.string(), at }),
  z.strictObject({ call: z.literal('kept'), at, keep: count }),
  z.strictObject({ call: z.literal('forget') }),
  z.strictObject({ call: z.literal('erase') }),
]);
type PairCall = z.infer<typeof PairCall>;

const SaidTally = z.object({
  ...{ wins: count, ties: count, losses: count, same: count },
  ...{ choices: count, first: count, asked: count, agreed: count },
  failures: z.partialRecord(failure, count),
  tokensToday: z.number(),
});

/** Pairs in a Durable Object (`PairTally`), one an experiment: a pair takes seconds, so one object is enough. */
export function createDoPairs(params: { namespace: DurableNamespace; timeoutMs: number }): PairTallies {
  const ask = <T>(name: string, call: PairCall, schema: z.ZodType<T>): Promise<T> =>
    askObject({ ...params, name, what: 'pair tally', call, parse: (answer) => schema.parse(answer) });
  return {
    mayBegin: (experiment, asked) => ask(experiment, { call: 'mayBegin', ...asked }, z.boolean()),
    async record(experiment, asked) {
      await ask(experiment, { call: 'record', ...asked }, z.null());
    },
    snapshot: (experiment, asked) => ask(experiment, { call: 'snapshot', ...asked }, SaidTally),
    kept: (experiment, asked) => ask(experiment, { call: 'kept', ...asked }, z.array(StoredPair)),
    async erase(experiment) {
      await ask(experiment, { call: 'erase' }, z.null());
    },
    async forget(experiment) {
      await ask(experiment, { call: 'forget' }, z.null());
    },
  };
}

const DAY_MS = 86_400_000;
/** Days of UTC since 1970. */
const dayOf = (at: number): number => Math.floor(at / DAY_MS);

type PairCounts = Omit<Tally, 'tokensToday'>;

const NO_PAIRS: PairCounts = {
  ...{ wins: 0, ties: 0, losses: 0, same: 0, choices: 0, first: 0, asked: 0, agreed: 0 },
  failures: {},
};

function withPair(counts: PairCounts, outcome: PairOutcome): PairCounts {
  if ('failure' in outcome) {
    const { failure } = outcome;
    const { failures } = counts;
    return { ...counts, failures: { ...failures, [failure]: (failures[failure] ?? 0) + 1 } };
  }
  const { result, same, choices, first, agreed } = outcome;
  return {
    ...counts,
    wins: counts.wins + Number(result === 'win'),
    ties: counts.ties + Number(result === 'tie'),
    losses: counts.losses + Number(result === 'loss'),
    same: counts.same + Number(same),
    choices: counts.choices + choices,
    first: counts.first + first,
    asked: counts.asked + Number(agreed !== null),
    agreed: counts.agreed + Number(agreed === true),
  };
}

/** Tokens of one day, whatever the seed. */
interface Spent {
  day: number;
  tokens: number;
}

const spentOn = (spent: Spent | null, at: number): number => (spent?.day === dayOf(at) ? spent.tokens : 0);

const withTokens = (spent: Spent | null, at: number, tokens: number): Spent => ({
  day: dayOf(at),
  tokens: spentOn(spent, at) + tokens,
});

/** The part of a Durable Object's storage that pairs use. */
export interface PairStorage {
  get<T>(key: string): Promise<T | undefined>;
  put(key: string, value: unknown): Promise<void>;
  delete(keys: string[]): Promise<unknown>;
  list<T>(options: { prefix: string; reverse?: boolean; limit?: number }): Promise<Map<string, T>>;
  getAlarm(): Promise<number | null>;
  setAlarm(at: number): Promise<void>;
  deleteAll(): Promise<void>;
}

const COUNTS = 'counts:';
const SPENT = 'spent';
const WRITTEN = 'written';
const ERASED = 'erased';
const FORGOTTEN = 'forgotten';
const PAIR = 'pair:';
const userKey = (seed: string, user: string): string => `user:${user}:${seed}`;
const NEXT = 'next';
/** Digits of a pair's number, so that their order is that of the text. */
const DIGITS = 12;
/** Keys of one deletion (Durable Objects' limit). */
const DELETED_AT_ONCE = 128;

/**
 * Counts the pairs of one experiment, and keeps the last ones if requested. One call runs at a time: between
 * the reads and writes of one, the object accepts no other.
 */
export class PairTally {
  readonly #storage: PairStorage;
  readonly #now: () => number;

  /** @param parts given by tests. */
  constructor(context: { storage: PairStorage }, _env?: unknown, parts?: { now: () => number }) {
    this.#storage = context.storage;
    this.#now = parts?.now ?? Date.now;
  }

  async fetch(request: Request): Promise<Response> {
    return Response.json(await this.#answer(PairCall.parse(await request.json())));
  }

  async alarm(): Promise<void> {
    const now = this.#now();
    const written = (await this.#storage.get<number>(WRITTEN)) ?? 0;
    if (now - written > PAIR_TALLY_KEPT_MS || (await this.#isErased())) {
      await this.#storage.deleteAll();
      return;
    }
    const pairs = await this.#storage.list<StoredPair>({ prefix: PAIR });
    await this.#delete([...pairs].filter(([, { at }]) => isOld(at, now)).map(([key]) => key));
    await this.#storage.setAlarm(now + PAIR_CLEAN_MS);
  }

  async #answer(call: PairCall): Promise<unknown> {
    switch (call.call) {
      case 'mayBegin':
        return (
          spentOn(await this.#spent(), call.at) < call.tokensPerDay &&
          (await this.#judgedOf(call)) < MAX_PAIRS_OF_USER
        );
      case 'record':
        return this.#record(call);
      case 'snapshot': {
        const counts = await this.#counts(call.seed);
        return { ...counts, tokensToday: spentOn(await this.#spent(), call.at) } satisfies Tally;
      }
      case 'kept': {
        const pairs = await this.#storage.list<StoredPair>({ prefix: PAIR, reverse: true });
        return [...pairs.values()].filter(({ at }) => !isOld(at, call.at)).slice(0, call.keep);
      }
      case 'forget':
        // An erasure that overtook the archiving has deleted everything, and leaves nothing behind.
        if (await this.#isErased()) return null;
        await this.#storage.put(FORGOTTEN, true);
        await this.#keepLast(0);
        await this.#setAlarm();
        return null;
      case 'erase':
        await this.#storage.deleteAll();
        await this.#storage.put(ERASED, true);
        await this.#storage.setAlarm(this.#now() + PAIR_CLEAN_MS);
        return null;
    }
  }

  /** Pairs being judged are discarded. */
  async #isErased(): Promise<boolean> {
    return (await this.#storage.get<boolean>(ERASED)) === true;
  }

  async #record({ seed, user, at, tokens, outcome, ...kept }: PairCall & { call: 'record' }): Promise<null> {
    if (await this.#isErased()) return null;
    const [counts, spent] = [await this.#counts(seed), await this.#spent()];
    const judged = await this.#judgedOf({ seed, user });
    // Several may have started at once.
    const counted = judged < MAX_PAIRS_OF_USER;
    // A pair still being judged during the deletion counts, and its texts are deleted too.
    const forgotten = (await this.#storage.get<boolean>(FORGOTTEN)) === true;
    const keep = forgotten ? 0 : kept.keep;
    const pair = counted && !forgotten ? kept.pair : null;
    if (counted) await this.#storage.put(COUNTS + seed, withPair(counts, outcome));
    if (counted && user !== null && !('failure' in outcome))
      await this.#storage.put(userKey(seed, user), judged + 1);
    await this.#storage.put(SPENT, withTokens(spent, at, tokens));
    await this.#storage.put(WRITTEN, this.#now());
    if (pair !== null) {
      const next = (await this.#storage.get<number>(NEXT)) ?? 0;
      await this.#storage.put(NEXT, next + 1);
      await this.#storage.put(PAIR + String(next).padStart(DIGITS, '0'), pair);
    }
    await this.#keepLast(keep);
    await this.#setAlarm();
    return null;
  }

  async #setAlarm(): Promise<void> {
    if ((await this.#storage.getAlarm()) === null) await this.#storage.setAlarm(this.#now() + PAIR_CLEAN_MS);
  }

  async #keepLast(keep: number): Promise<void> {
    const keys = [...(await this.#storage.list({ prefix: PAIR, reverse: true })).keys()];
    await this.#delete(keys.slice(keep));
  }

  async #delete(keys: string[]): Promise<void> {
    for (let from = 0; from < keys.length; from += DELETED_AT_ONCE)
      await this.#storage.delete(keys.slice(from, from + DELETED_AT_ONCE));
  }

  async #counts(seed: string): Promise<PairCounts> {
    return (await this.#storage.get<PairCounts>(COUNTS + seed)) ?? NO_PAIRS;
  }

  /** There is none without a user. */
  async #judgedOf({ seed, user }: { seed: string; user: string | null }): Promise<number> {
    return user === null ? 0 : ((await this.#storage.get<number>(userKey(seed, user))) ?? 0);
  }

  async #spent(): Promise<Spent | null> {
    return (await this.#storage.get<Spent>(SPENT)) ?? null;
  }
}

const isOld = (at: number, now: number): boolean => now - at > PAIR_KEPT_MS;
