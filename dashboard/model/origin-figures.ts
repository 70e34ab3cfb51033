/** What an origin did between two answers of it, and whose adapters its memory is full of. */
import type { NamedFile, OriginView } from '../../protocol/admin-api/origins.ts';
import type { OriginFigures } from '../../protocol/origin-wire.ts';

export interface OriginRates {
  /** Tokens a second, over all rows; null = there is no earlier answer: hours without a request say nothing of now. */
  readonly throughput: number | null;
  /** Means in ms; null = there was none. */
  readonly ttft: number | null;
  readonly perToken: number | null;
  /** Rows of a step that decodes, in the mean. */
  readonly batch: number | null;
  /** `start`: the means are those since the origin's start, as there is no earlier answer of this run of it. */
  readonly since: 'start' | 'earlier';
}

export interface Measured {
  /** Unix ms. */
  readonly at: number;
  readonly figures: OriginFigures;
}

/** @param earlier null = none; an answer from before a restart counts as none. */
export function originRates(earlier: Measured | null, now: Measured): OriginRates {
  const { figures } = now;
  const before =
    earlier !== null && earlier.at < now.at && earlier.figures.started_at === figures.started_at
      ? earlier
      : null;
  const grown = (read: (of: OriginFigures) => number): number =>
    read(figures) - (before === null ? 0 : read(before.figures));
  const mean = (sum: (of: OriginFigures) => number, count: (of: OriginFigures) => number): number | null =>
    grown(count) > 0 ? grown(sum) / grown(count) : null;
  const scaled = (value: number | null): number | null => (value === null ? null : 1000 * value);
  return {
    // A row's tokens are its first one and those after it.
    throughput:
      before === null
        ? null
        : (1000 * grown((of) => of.first_token.count + of.next_token.count)) / (now.at - before.at),
    ttft: scaled(
      mean(
        (of) => of.first_token.seconds,
        (of) => of.first_token.count,
      ),
    ),
    perToken: scaled(
      mean(
        (of) => of.next_token.seconds,
        (of) => of.next_token.count,
      ),
    ),
    batch: mean(
      (of) => of.decode.rows,
      (of) => of.decode.steps,
    ),
    since: before === null ? 'start' : 'earlier',
  };
}

export type Resident = NonNullable<OriginView['residents']>['adapters'][number];

interface Share {
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
