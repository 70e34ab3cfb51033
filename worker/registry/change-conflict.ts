import type { ApiError } from '../../protocol/index.ts';
import type { NameRow } from './ports.ts';

/** Somebody else changed the name, or the caller knows an older state of it. */
export const changed = (name: string, now: NameRow | null): ApiError => ({
  code: 'version_conflict',
  message: `'${name}' has changed: its live version is ${now?.version ?? 'none'}, its newest ${now?.latest ?? 'none'}. Look at it and try again.`,
});

/** The change is not possible in the state that the name is in. */
export const refused = (message: string): ApiError => ({ code: 'version_conflict', message });
