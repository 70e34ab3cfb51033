import {
  closeSync,
  constants,
  existsSync,
  fchmodSync,
  fstatSync,
  openSync,
  renameSync,
  writeSync,
} from 'node:fs';

/** Bytes of one file: days of ordinary work, and looked through in a moment. Two files at most. */
export const MAX_LOG_BYTES = 10_000_000;
/** UTF-16 units of one line: a stack with its source's names fits, a request's head of 64 KB need not. */
export const MAX_LINE = 8_192;

export interface DevLog {
  /** Appends a line with the time before it; a longer one is cut. A line that cannot be written is lost. */
  write(part: string, line: string): void;
  close(): void;
}

/**
 * The log of `graft dev`, for its owner alone. When it is full it is renamed to `<file>.1`, over the one before: whoever
 * can make a part log cannot fill the disk.
 * @throws ELOOP as {@link openLog}.
 */
export function openDevLog(file: string, maxBytes = MAX_LOG_BYTES): DevLog {
  let fd: number | null = null;
  let bytes = 0;
  const open = (): number => {
    fd = openLog(file);
    // It may be of before, with wider rights.
    fchmodSync(fd, 0o600);
    bytes = fstatSync(fd).size;
    return fd;
  };
  const close = (): void => {
    if (fd !== null) closeSync(fd);
    fd = null;
  };
  open();
  return {
    write(part, line) {
      const cut = line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)} …` : line;
      const text = Buffer.from(`${new Date().toISOString()} ${part} ${cut}\n`);
      try {
        if (bytes > 0 && bytes + text.length > maxBytes) {
          close();
          if (existsSync(file)) renameSync(file, `${file}.1`);
        }
        // Written at once: lines that wait in memory have no bound either.
        bytes += writeSync(fd ?? open(), text);
      } catch {
        // A full disk, or a link in the log's place: the stack goes on without it.
      }
    },
    close,
  };
}

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
