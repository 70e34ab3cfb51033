/** Keys as text. */
import type { KeyLimits, KeyRights, KeyView } from '../../protocol/admin-api/keys.ts';
import { number } from './words.ts';

/** Limits of a key, with their labels in the form and the table. */
export const LIMITS = [
  ['requests_per_minute', 'Requests a minute', 'requests/min'],
  ['tokens_per_minute', 'Tokens a minute', 'tokens/min'],
  ['concurrent', 'Requests at the same time', 'at once'],
  ['tokens_per_day', 'Tokens a day', 'tokens/day'],
  ['tokens_per_month', 'Tokens a month', 'tokens/month'],
] as const satisfies readonly (readonly [keyof KeyLimits, string, string])[];

/** Rights that are on or off, with the kind of key that the form offers them to. */
const RIGHTS = [
  ['strict', 'api', 'Strict: a name that is missing is an error, and no ancestor answers for it'],
  ['download', 'admin', 'It may download the tenant’s adapters'],
  ['publish', 'api', 'It may let web pages publish staged versions of the tenant’s names'],
  ['train', 'both', 'It may send files of rows and start fine-tuning jobs'],
  ['improve', 'api', 'What users prefer of its answers may improve the tenant’s adapters'],
  ['trust_trace', 'api', 'Its callers decide which of its requests are traced'],
  ['prompts', 'admin', 'It may read the prompts and answers that the tenant’s keys have kept'],
] as const satisfies readonly (readonly [keyof KeyRights, KeyView['kind'] | 'both', string])[];
export type OfferedRight = (typeof RIGHTS)[number][0];

/** @returns fields and labels. */
export const offeredRights = (kind: KeyView['kind']): (readonly [OfferedRight, string])[] =>
  RIGHTS.flatMap(([field, of, label]) => (of === kind || of === 'both' ? [[field, label] as const] : []));

/** @returns such as `60 requests/min, 4 at once`; null = there are none. */
export function limitsWords(limits: KeyLimits | null): string | null {
  const parts = LIMITS.flatMap(([field, , unit]) => {
    const value = limits?.[field];
    return value === undefined ? [] : [`${number(value)} ${unit}`];
  });
  return parts.length === 0 ? null : parts.join(', ');
}

/** Offered times for keeping prompts and answers: label and hours; null = not kept. */
export const KEEPS: readonly (readonly [string, number | null])[] = [
  ['Not at all', null],
  ['An hour', 1],
  ['A day', 24],
  ['A week', 168],
  ['30 days', 720],
];

/** @returns such as `7 days`, `36 hours`. */
export function hoursWords(hours: number): string {
  if (hours % 24 === 0) return hours === 24 ? '1 day' : `${hours / 24} days`;
  return hours === 1 ? '1 hour' : `${hours} hours`;
}

export type KeyState = 'good' | 'ending' | 'expired' | 'revoked';

/** @param now unix ms. `ending`: it was replaced, but is valid for a while. */
export function keyState(
  { revoked_at: revoked, expires_at: expires, replaced_by: by }: KeyView,
  now: number,
): KeyState {
  if (revoked !== null) return 'revoked';
  if (expires !== null && expires <= now) return 'expired';
  return by === null ? 'good' : 'ending';
}

/** Offered lifetimes of a key: label and ms; null = no end. */
export const LIVES: readonly (readonly [string, number | null])[] = [
  ['No end', null],
  ['A day', 86_400_000],
  ['A week', 7 * 86_400_000],
  ['30 days', 30 * 86_400_000],
  ['90 days', 90 * 86_400_000],
  ['A year', 365 * 86_400_000],
];
