import type { KeyLimits } from '../metering/ports.ts';

const COUNTS = [
  'requestsPerMinute',
  'tokensPerMinute',
  'concurrent',
  'tokensPerDay',
  'tokensPerMonth',
] as const satisfies readonly (keyof KeyLimits)[];

/** @returns a limit of `before` that `after` raises or lifts; null when each is at most as wide as it was. */
export function loosenedLimit(before: KeyLimits | null, after: KeyLimits | null): keyof KeyLimits | null {
  for (const field of COUNTS) {
    const was = before?.[field];
    if (was !== undefined && (after?.[field] ?? Infinity) > was) return field;
  }
  return before?.onOutage === 'refuse' && after?.onOutage !== 'refuse' ? 'onOutage' : null;
}
