/** Whose adapters an origin's memory is full of. */
import type { NamedFile, OriginView } from '../../protocol/admin-api/origins.ts';

export type Resident = NonNullable<OriginView['residents']>['adapters'][number];

export interface Share {
  /** Tenant; null = of no version that the registry knows. */
  readonly owner: string | null;
  readonly adapters: number;
  readonly bytes: number;
}

export const filesByDigest = (names: readonly NamedFile[]): ReadonlyMap<string, NamedFile[]> => {
  const files = new Map<string, NamedFile[]>();
  for (const file of names) files.set(file.digest, [...(files.get(file.digest) ?? []), file]);
  return files;
};

/** @returns the largest first. A file of several tenants counts for the first by name. */
export function sharesOf(
  residents: readonly Resident[],
  files: ReadonlyMap<string, readonly NamedFile[]>,
): Share[] {
  const shares = new Map<string | null, { adapters: number; bytes: number }>();
  for (const { digest, bytes } of residents) {
    const owner = files.get(digest)?.[0]?.owner ?? null;
    const share = shares.get(owner) ?? { adapters: 0, bytes: 0 };
    shares.set(owner, { adapters: share.adapters + 1, bytes: share.bytes + bytes });
  }
  return [...shares].map(([owner, share]) => ({ owner, ...share })).sort((a, b) => b.bytes - a.bytes);
}
