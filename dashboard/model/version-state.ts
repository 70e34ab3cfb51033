import type { VersionList, VersionView } from '../../protocol/admin-api/versions.ts';

/** The names that a version is made of, root first, its own not among them; a scale is told where it is not 1. */
export const inheritedFrom = ({ chain }: VersionView): { name: string; scale: number }[] =>
  chain.slice(0, -1).map(({ name, scale }) => ({ name, scale }));

/** Those of `others` whose live version is made of an adapter of `name`. */
export const heirsOf = (name: string, others: readonly VersionList[]): string[] =>
  others
    .filter((other) =>
      other.versions.some(
        (version) => version.live && inheritedFrom(version).some((one) => one.name === name),
      ),
    )
    .map((other) => other.name);
