import { z } from 'zod';
import { BaseId } from '../../protocol/index.ts';

/** Of a million tokens, in the list's currency. */
const price = z.number().min(0).max(1e6);
const Prices = z.strictObject({ prompt: price, completion: price });

/** Variable `PRICES`: what tokens cost, for the reports of usage alone; nothing is charged by it. */
export const PriceList = Prices.extend({
  /** ISO 4217, such as `USD`. */
  currency: z.string().regex(/^[A-Z]{3}$/, 'must be three capital letters, USD'),
  /** Of these bases; of all others what stands above. */
  bases: z.record(BaseId, Prices).default({}),
});
export type PriceList = z.infer<typeof PriceList>;

/** @param defaultBase what `base` means in usage; null = unknown. @returns the list that has a price for that word. */
export function withDefaultBase(prices: PriceList, defaultBase: string | null): PriceList {
  const own = defaultBase === null ? undefined : prices.bases[defaultBase];
  return own === undefined ? prices : { ...prices, bases: { ...prices.bases, base: own } };
}
