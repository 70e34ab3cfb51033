import { statfs } from 'node:fs/promises';
import type { ApiError } from '../../protocol/api-error.ts';

/** What an operator asks of the disk under the adapters' files. */
export interface DiskState {
  /** Of whole files, bytes. */
  readonly usedBytes: number;
  readonly budgetBytes: number;
  /** The last file could not be written, and none has been since. */
  readonly refusing: boolean;
  /** Writes that the disk refused since the start. */
  readonly refusals: number;
}

/** Which files are on the disk, least recently used first, and which of them must go to make room. Pure. */
export class DiskIndex {
  /** A Map keeps its order of insertion: touching is deleting and inserting again. */
  private readonly entries = new Map<string, number>();
  private used = 0;

  get usedBytes(): number {
    return this.used;
  }

  has(digest: string): boolean {
    return this.entries.has(digest);
  }

  bytesOf(digest: string): number {
    return this.entries.get(digest) ?? 0;
  }

  digests(): string[] {
    return [...this.entries.keys()];
  }

  add(digest: string, bytes: number): void {
    this.delete(digest);
    this.entries.set(digest, bytes);
    this.used += bytes;
  }

  touch(digest: string): void {
    const bytes = this.entries.get(digest);
    if (bytes === undefined) return;
    this.entries.delete(digest);
    this.entries.set(digest, bytes);
  }

  delete(digest: string): boolean {
    const bytes = this.entries.get(digest);
    if (bytes === undefined) return false;
    this.entries.delete(digest);
    this.used -= bytes;
    return true;
  }

  /** @returns the one that was not used for the longest time; null = each of them must stay. */
  first(mustStay: (digest: string) => boolean): string | null {
    for (const digest of this.entries.keys()) if (!mustStay(digest)) return digest;
    return null;
  }
}

/** Left free for logs and for whatever else writes to the disk, bytes. */
const SPARE_BYTES = 64 * 1024 ** 2;

export interface DiskRefusal {
  /** The file system's: ENOSPC, EDQUOT, EROFS … */
  readonly code: string;
  readonly freeBytes: number;
  /** Of whole adapter files. */
  readonly usedBytes: number;
}

/** @returns what an ordinary user may still write to the file system of `folder`, bytes. */
export async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/**
 * Room for files: within the budget, and within what the disk really has, which others may fill. Files that nobody uses
 * make room, the longest unused first.
 */
export class DiskRoom {
  #refusing = false;
  #refusals = 0;
  /** Of all files that have made room. */
  #removedBytes = 0;
  /** How often each file is kept. */
  readonly #kept = new Map<string, number>();

  constructor(
    private readonly options: {
      index: DiskIndex;
      budgetBytes: number;
      isInUse: (digest: string) => boolean;
      freeBytes: () => Promise<number>;
      remove: (digest: string) => Promise<void>;
      /** Hears of a write that the disk refused. */
      onRefusal: (refusal: DiskRefusal) => void;
    },
  ) {}

  /**
   * @param reserved bytes promised to files that are being received; asked again after each file that goes.
   * @param toWriteBytes what is still to be written.
   * @param received a file that is here since just now, and whose request has yet to come: it stays.
   */
  async make(reserved: () => number, toWriteBytes: number, received: string | null = null): Promise<void> {
    const { index, budgetBytes, isInUse, freeBytes, remove } = this.options;
    const lacking = toWriteBytes === 0 ? 0 : toWriteBytes + SPARE_BYTES - (await freeBytes());
    const until = this.#removedBytes + lacking;
    while (index.usedBytes + reserved() > budgetBytes || this.#removedBytes < until) {
      // One after the other: while a file is removed another one may come into use.
      const digest = index.first((one) => one === received || this.#kept.has(one) || isInUse(one));
      if (digest === null) return;
      this.#removedBytes += index.bytesOf(digest);
      await remove(digest);
    }
  }

  /** Counts as a use of them, and they make no room until the function that is returned is called. */
  keep(digests: Iterable<string>): () => void {
    const all = new Set(digests);
    for (const digest of all) {
      this.options.index.touch(digest);
      this.#kept.set(digest, (this.#kept.get(digest) ?? 0) + 1);
    }
    return () => {
      for (const digest of all) {
        const left = this.#kept.get(digest)! - 1;
        if (left === 0) this.#kept.delete(digest);
        else this.#kept.set(digest, left);
      }
      all.clear();
    };
  }

  /** A file was written whole. */
  written(): void {
    this.#refusing = false;
  }

  /** @returns what to tell whoever sent the file. @throws `error` when it is not the file system's. */
  async refused(error: unknown): Promise<ApiError> {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    this.#refusing = true;
    this.#refusals += 1;
    const freeBytes = await this.options.freeBytes().catch(() => 0);
    this.options.onRefusal({ code, freeBytes, usedBytes: this.options.index.usedBytes });
    return {
      code: 'adapter_unavailable',
      message: `The origin's disk refused the adapter (${code}).`,
      retryAfterMs: 10_000,
    };
  }

  state(): DiskState {
    const { index, budgetBytes } = this.options;
    return {
      usedBytes: index.usedBytes,
      budgetBytes,
      refusing: this.#refusing,
      refusals: this.#refusals,
    };
  }
}
