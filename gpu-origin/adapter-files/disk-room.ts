import { statfs } from 'node:fs/promises';
import type { ApiError } from '../../protocol/api-error.ts';

/** Figures of the disk for the operator. */
export interface DiskState {
  /** Of complete files, bytes. */
  readonly usedBytes: number;
  readonly budgetBytes: number;
  /** The last write failed. */
  readonly refusing: boolean;
  /** Writes that the disk refused since the start. */
  readonly refusals: number;
}

/** Files on the disk, least recently used first, and which of them to evict. Pure. */
export class DiskIndex {
  /** A Map keeps insertion order: touching is deleting and inserting again. */
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

  /** @returns the least recently used one; null = all must stay. */
  first(mustStay: (digest: string) => boolean): string | null {
    for (const digest of this.entries.keys()) if (!mustStay(digest)) return digest;
    return null;
  }
}

/** Left free for logs and other writers, bytes. */
const SPARE_BYTES = 64 * 1024 ** 2;

export interface DiskRefusal {
  /** The file system's: ENOSPC, EDQUOT, EROFS … */
  readonly code: string;
  readonly freeBytes: number;
  /** Of complete adapter files. */
  readonly usedBytes: number;
}

/** @returns what an ordinary user may still write to the file system of `folder`, bytes. */
export async function freeBytesOf(folder: string): Promise<number> {
  const { bavail, bsize } = await statfs(folder);
  return bavail * bsize;
}

/**
 * Disk space for files: within the budget, and within what is really free, which others may fill. Unused files
 * are evicted, least recently used first.
 */
export class DiskRoom {
  #refusing = false;
  #refusals = 0;
  /** Total of evicted files. */
  #removedBytes = 0;
  /** How often each file is held. */
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
   * @param reserved bytes promised to uploads; asked again after each eviction.
   * @param toWriteBytes bytes still to be written.
   * @param received a file that has just arrived, before its request: it stays.
   */
  async make(reserved: () => number, toWriteBytes: number, received: string | null = null): Promise<void> {
    const { index, budgetBytes, isInUse, freeBytes, remove } = this.options;
    const lacking = toWriteBytes === 0 ? 0 : toWriteBytes + SPARE_BYTES - (await freeBytes());
    const until = this.#removedBytes + lacking;
    while (index.usedBytes + reserved() > budgetBytes || this.#removedBytes < until) {
      // One at a time: during an eviction another file may come into use.
      const digest = index.first((one) => one === received || this.#kept.has(one) || isInUse(one));
      if (digest === null) return;
      this.#removedBytes += index.bytesOf(digest);
      await remove(digest);
    }
  }

  /** Counts as a use of them, and protects them until the returned function is called. */
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

  /** A complete file was written. */
  written(): void {
    this.#refusing = false;
  }

  /** @returns the error for the sender. @throws `error` when it is not the file system's. */
  async refused(error: unknown): Promise<ApiError> {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    this.#refusing = true;
    this.#refusals += 1;
    const freeBytes = await this.options.freeBytes().catch(() => 0);
    this.options.onRefusal({ code, freeBytes, usedBytes: this.options.index.usedBytes });
    return {
      code: 'adapter_unavailable',
      message: `The origin's disk cannot store the adapter (${code}).`,
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
