/** How much refused work somebody may cause: what is answered does not count, so that it limits no one who is served. Pure. */

import { refilled, untilToken } from './request-gate.ts';

export interface RefusalBudget {
  /** @returns when `who` may ask again, ms; null = now. */
  waitMs(who: string): number | null;
  spend(who: string, cost: number): void;
  /** Those it remembers. */
  readonly size: number;
}

interface Account {
  /** Left, at most `burst`; below zero after something dear. */
  left: number;
  /** When that was so, unix ms. */
  at: number;
}

/** A body of so many bytes, read and parsed for nothing, costs one more. */
const BYTES_A_UNIT = 64 * 1024;
/** A name that is not there is looked for in KV and in the system of record. */
const NAME_UNITS = 2;

/**
 * What a refusal cost: 1 for any, more for a large body, and for each name that was looked up in vain.
 * @param refused.names that the request asked for.
 * @param refused.bytes of its body; 0 where they are not known.
 */
export function refusalCost(refused: { status: number; names: number; bytes: number }): number {
  const { status, names, bytes } = refused;
  // Faults of ours are nobody's budget.
  if (status < 400 || status >= 500) return 0;
  return 1 + bytes / BYTES_A_UNIT + (status === 404 ? names * NAME_UNITS : 0);
}

/**
 * A token bucket for each asker, from which refusals are taken when they have happened.
 * @param params.maxEntries askers remembered; who is forgotten begins anew.
 */
export function createRefusalBudget(params: {
  perSecond: number;
  burst: number;
  maxEntries: number;
  now: () => number;
}): RefusalBudget {
  const { perSecond, burst, maxEntries, now } = params;
  /** Only of those who have spent something; the one that did so last is the last. */
  const accounts = new Map<string, Account>();

  const leftOf = ({ left, at }: Account, time: number): number => refilled(left, time - at, params);

  return {
    get size() {
      return accounts.size;
    },
    waitMs(who) {
      const account = accounts.get(who);
      const left = account === undefined ? burst : leftOf(account, now());
      return left >= 1 ? null : untilToken(left, perSecond);
    },
    spend(who, cost) {
      if (cost <= 0) return;
      const time = now();
      const account = accounts.get(who) ?? { left: burst, at: time };
      accounts.delete(who);
      // A pause of twice the burst's time makes good for anything.
      accounts.set(who, { left: Math.max(-burst, leftOf(account, time) - cost), at: time });
      if (accounts.size > maxEntries) accounts.delete(accounts.keys().next().value!);
    },
  };
}
