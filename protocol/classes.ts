/** Classes of an adapter's classification head: their names, and what kind of problem they are for. */
import { z } from 'zod';
import { MAX_CLASSES, MAX_LABEL_CHARACTERS } from './limits.ts';

/** transformers' `problem_type`. */
export const PROBLEM_TYPES = [
  'regression',
  'single_label_classification',
  'multi_label_classification',
] as const;
export type ProblemType = (typeof PROBLEM_TYPES)[number];

export const ClassLabel = z.string().min(1).max(MAX_LABEL_CHARACTERS);

/** By class. Two classes with one name could not be told apart in answers and metrics. */
export const ClassLabels = z
  .array(ClassLabel)
  .min(1)
  .max(MAX_CLASSES)
  .refine((labels) => new Set(labels).size === labels.length, 'two classes have the same label');

/** @param labels null = transformers' default. */
export const labelOf = (labels: readonly string[] | null, at: number): string =>
  labels?.[at] ?? `LABEL_${at}`;

/** Why a chain with two classification heads is refused. */
export const twoClassifiers = (adapter: string, parent: string): string =>
  `${adapter} has a classification head, and ${parent} has one, too; a chain has one at most. Train it on an ` +
  'adapter without a head.';
