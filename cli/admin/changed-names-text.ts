import type { ChangedName } from '../../protocol/index.ts';

/** @returns such as `notes: versions 1 to 3, 3 live`. */
export function changedNameText({ name, whole, versions, live, alias }: ChangedName): string {
  if (alias !== null) return `${name}: alias of ${alias}`;
  if (!whole) return versions.map((version) => `${name}@${version}`).join(', ');
  if (versions.length === 1) return `${name}: version ${versions[0]}, ${live === null ? 'not live' : 'live'}`;
  return `${name}: versions ${ranges(versions)}, ${live === null ? 'none' : live} live`;
}

/** @param numbers in their order. @returns such as `1 to 3, 7`. */
function ranges(numbers: readonly number[]): string {
  const runs: [from: number, to: number][] = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] + 1 === number) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([from, to]) => (from === to ? String(from) : `${from} to ${to}`)).join(', ');
}
