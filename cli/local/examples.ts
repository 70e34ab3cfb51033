import path from 'node:path';
import { ROOT } from './origin-process.ts';

/** One name that `graft dev` publishes; `folders` are its versions, oldest first. */
export interface Example {
  name: string;
  parent: string | null;
  folders: readonly string[];
}

const folder = (name: string): string => path.join(ROOT, 'examples/adapters', name);

/** Parents first. The first three are a tree; `support/intent` has a weak first version and a better second one. */
export const EXAMPLES: readonly Example[] = [
  { name: 'medicine', parent: null, folders: [folder('medicine')] },
  { name: 'medicine/cardiology', parent: 'medicine', folders: [folder('cardiology')] },
  { name: 'medicine/cardiology/dr-lee', parent: 'medicine/cardiology', folders: [folder('dr-lee')] },
  { name: 'support/intent', parent: null, folders: [folder('intent-v1'), folder('intent-v2')] },
];
