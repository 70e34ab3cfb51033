import type { KeyLimitsView, KeyView } from '../../protocol/index.ts';
import { plainTable } from '../output.ts';

const count = (value: number): string => {
  if (value >= 1_000_000 && value % 100_000 === 0) return `${value / 1_000_000}M`;
  return value >= 1_000 && value % 100 === 0 ? `${value / 1_000}k` : String(value);
};

/** @returns such as `60 req/min, 100k tok/min, 4 at once`. */
export function limitsText(limits: KeyLimitsView | null): string {
  if (limits === null) return '-';
  const parts: [number | undefined, string][] = [
    [limits.requests_per_minute, ' req/min'],
    [limits.tokens_per_minute, ' tok/min'],
    [limits.concurrent, ' at once'],
    [limits.tokens_per_day, ' tok/day'],
    [limits.tokens_per_month, ' tok/month'],
  ];
  return parts.flatMap(([value, unit]) => (value === undefined ? [] : `${count(value)}${unit}`)).join(', ');
}

/** @returns `2026-01-31 07:30Z`. */
export const when = (ms: number): string => `${new Date(ms).toISOString().slice(0, 16).replace('T', ' ')}Z`;

export const isOver = ({ revoked_at, expires_at }: KeyView, now: number): boolean =>
  revoked_at !== null || (expires_at !== null && expires_at <= now);

/** @param now unix ms. @returns such as `until 2026-01-31 07:30Z, replaced by key_…`. */
export function keyState(key: KeyView, now: number): string {
  const replaced = key.replaced_by === null ? '' : `, replaced by ${key.replaced_by}`;
  if (key.revoked_at !== null) return `revoked${replaced}`;
  if (key.expires_at === null) return `good${replaced}`;
  if (key.expires_at <= now) return `expired${replaced}`;
  return `until ${when(key.expires_at)}${replaced}`;
}

/** @returns such as `medicine/** of clinic, lab of anybody`. */
export const scopesText = ({ scopes, scope_owners }: KeyView): string =>
  scopes.map((scope, i) => `${scope} of ${scope_owners[i] ?? 'anybody'}`).join(', ');

/** @returns `kept 24h`, `reads`, or `-`. */
export const promptsText = ({ keep_prompts: hours, prompts }: KeyView): string =>
  hours !== null ? `kept ${hours}h` : prompts ? 'reads' : '-';

/** Which keys have prompts kept, and which read them, is said where any does. */
export function keyTable(keys: readonly KeyView[], now: number): string {
  const prompts = keys.some((key) => promptsText(key) !== '-');
  return plainTable(
    ['ID', 'KIND', 'TENANT', 'SCOPES', 'LIMITS', ...(prompts ? ['PROMPTS'] : []), 'STATE', 'LABEL'],
    keys.map((key) => [
      key.id,
      key.kind,
      key.tenant,
      scopesText(key) || '-',
      limitsText(key.limits),
      ...(prompts ? [promptsText(key)] : []),
      keyState(key, now),
      key.label,
    ]),
  );
}
