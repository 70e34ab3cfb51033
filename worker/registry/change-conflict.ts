import type { ApiError } from '../../protocol/index.ts';
import { conflict } from '../errors.ts';
import type { NameRow } from './ports.ts';

/** Somebody else changed the name, or the caller knows an older state of it. */
export const changed = (name: string, now: NameRow | null): ApiError =>
  conflict(
    `'${name}' has changed: its live version is ${now?.version ?? 'none'}, its newest ${now?.latest ?? 'none'}. Look at it and try again.`,
  );
