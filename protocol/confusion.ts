/** Which classes a classifier confuses: counts of rows by their label and by the class that they got. */
import { z } from 'zod';

/** How many rows with a label got a class. */
export const ConfusionCount = z.tuple([z.string(), z.string(), z.int().positive()]);
export type ConfusionCount = z.infer<typeof ConfusionCount>;

/** Classes of a table that people still read. */
export const MAX_CONFUSION_CLASSES = 12;

export const ConfusionTable = z
  .object({
    labels: z.array(z.string()).max(MAX_CONFUSION_CLASSES),
    /** Rows by label, in each the rows by class, both in the order of `labels`. */
    counts: z.array(z.array(z.int().min(0))),
  })
  .meta({ id: 'ConfusionTable' });
export type ConfusionTable = z.infer<typeof ConfusionTable>;

/** @returns `counts` and these rows. */
export function addToConfusion(
  counts: readonly ConfusionCount[],
  rows: readonly (readonly [label: string, got: string])[],
): ConfusionCount[] {
  const all = new Map(counts.map((one) => [JSON.stringify(one.slice(0, 2)), one]));
  for (const [label, got] of rows) {
    const key = JSON.stringify([label, got]);
    all.set(key, [label, got, (all.get(key)?.[2] ?? 0) + 1]);
  }
  return [...all.values()];
}

const labelsIn = (counts: readonly ConfusionCount[]): string[] =>
  [...new Set(counts.flatMap(([label, got]) => [label, got]))].sort();

/**
 * The mean of the classes' F1, each counting alike, over those that a row has or got: scikit-learn's
 * `f1_score(average="macro")`. @returns null without rows.
 */
export function macroF1(counts: readonly ConfusionCount[]): number | null {
  const labels = labelsIn(counts);
  if (labels.length === 0) return null;
  const f1 = new Map(labels.map((label) => [label, { right: 0, all: 0 }]));
  for (const [label, got, rows] of counts) {
    const [own, other] = [f1.get(label)!, f1.get(got)!];
    own.all += rows;
    other.all += rows;
    if (label === got) own.right += rows;
  }
  return [...f1.values()].reduce((sum, { right, all }) => sum + (2 * right) / all, 0) / labels.length;
}

/** @returns null if it has more classes than anybody reads, or no rows. */
export function confusionTable(counts: readonly ConfusionCount[]): ConfusionTable | null {
  const labels = labelsIn(counts);
  if (labels.length === 0 || labels.length > MAX_CONFUSION_CLASSES) return null;
  const rowsOf = (label: string, got: string): number =>
    counts.find(([one, other]) => one === label && other === got)?.[2] ?? 0;
  return { labels, counts: labels.map((label) => labels.map((got) => rowsOf(label, got))) };
}
