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

  /** @returns what to remove to get `bytes` back, oldest first; less than enough when the rest is in use. */
  victims(bytes: number, isInUse: (digest: string) => boolean): string[] {
    const out: string[] = [];
    let excess = bytes;
    for (const [digest, held] of this.entries) {
      if (excess <= 0) break;
      if (isInUse(digest)) continue;
      out.push(digest);
      excess -= held;
    }
    return out;
  }
}
