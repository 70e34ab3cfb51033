import { constants, openSync } from 'node:fs';

/**
 * Opens a log for appending, for its owner alone.
 * @returns the file descriptor. @throws ELOOP when a link is in its place, which a checkout can bring: what would be
 * written behind it is not ours.
 */
export const openLog = (file: string): number =>
  openSync(
    file,
    // Windows has no such flag.
    constants.O_APPEND | constants.O_CREAT | constants.O_WRONLY | (constants.O_NOFOLLOW ?? 0),
    0o600,
  );
