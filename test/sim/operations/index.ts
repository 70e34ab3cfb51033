/** The operations of clients, and what their answers must be. */
import { COMPLETIONS } from './completions.ts';
import { COMPOSED } from './composed.ts';
import { EXAMS } from './exams.ts';
import { EXPERIMENTS } from './experiments.ts';
import { GRANTS } from './grants.ts';
import { GUARDED } from './guarded.ts';
import { KEYS } from './keys.ts';
import { NAMES } from './names.ts';
import type { Operation } from './operation.ts';
import { OTHER_APIS } from './other-apis.ts';
import { PREFERENCES } from './preferences.ts';
import { SHARED_TREES } from './shared-trees.ts';
import { TAMPERING } from './tampering.ts';
import { TRAINING } from './training.ts';
import { UPKEEP } from './upkeep.ts';

export const OPERATIONS = {
  ...COMPLETIONS,
  ...OTHER_APIS,
  ...COMPOSED,
  ...NAMES,
  ...KEYS,
  ...GRANTS,
  ...EXAMS,
  ...EXPERIMENTS,
  ...GUARDED,
  ...PREFERENCES,
  ...SHARED_TREES,
  ...TAMPERING,
  ...TRAINING,
  ...UPKEEP,
} as const satisfies Record<string, Operation>;

export type OperationName = keyof typeof OPERATIONS;
