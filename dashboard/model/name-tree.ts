import type { NameView } from '../../protocol/admin-api/names.ts';
import { byName } from './find-names.ts';

export interface NameNode {
  /** Last segment of `path`. */
  readonly segment: string;
  readonly path: string;
  /** null = nothing is published under this very path. */
  readonly entry: NameView | null;
  readonly children: readonly NameNode[];
}

interface Growing {
  segment: string;
  path: string;
  entry: NameView | null;
  children: Map<string, Growing>;
}

/** @param entries in any order. @returns the topmost segments, each level in its natural order. */
export function nameTree(entries: readonly NameView[]): NameNode[] {
  const root: Growing = { segment: '', path: '', entry: null, children: new Map() };
  for (const entry of entries) {
    let node = root;
    for (const segment of entry.name.split('/')) {
      let child = node.children.get(segment);
      if (child === undefined) {
        const path = node.path === '' ? segment : `${node.path}/${segment}`;
        child = { segment, path, entry: null, children: new Map() };
        node.children.set(segment, child);
      }
      node = child;
    }
    node.entry = entry;
  }
  return finished(root);
}

const finished = ({ children }: Growing): NameNode[] =>
  [...children.values()]
    .sort((a, b) => byName(a.segment, b.segment))
    .map((child) => ({ ...child, children: finished(child) }));

/** Names at and below the node. */
export const countNames = ({ entry, children }: NameNode): number =>
  (entry === null ? 0 : 1) + children.reduce((sum, child) => sum + countNames(child), 0);
