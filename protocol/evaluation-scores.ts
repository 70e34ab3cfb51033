/** Which versions lack scores on kept evaluations, and how the variants of an experiment compare; for all clients. */
import type {
  EvaluationList,
  EvaluationScore,
  EvaluationView,
  ScoredEvaluation,
} from './admin-api/evaluations.ts';
import type { VersionList, VersionView } from './admin-api/versions.ts';
import type { Experiment } from './experiment.ts';

/** Versions whose scores help a decision: the live one and newer ones that can be served, newest first. */
export const versionsToScore = ({ version: live, versions }: VersionList): VersionView[] =>
  versions
    .filter((one) => one.retired_at === null && one.withdrawn_at === null && one.version >= (live ?? 0))
    .toSorted((a, b) => b.version - a.version);

/** Rows of an evaluation that a version has not answered yet. */
export interface MissingScore {
  label: string;
  rows: number;
  /** Rows that are scored already. */
  scored: number;
}

/** Evaluations on which a version has no complete score. */
export const missingScores = (
  { evaluations, scores }: Pick<EvaluationList, 'evaluations' | 'scores'>,
  version: number,
): MissingScore[] =>
  evaluations.flatMap(({ label, rows, sha256 }) => {
    const score = scores.find(
      (one) => one.version === version && one.label === label && one.sha256 === sha256,
    );
    const scored = score?.scored ?? 0;
    return scored < rows ? [{ label, rows, scored }] : [];
  });

/** @returns such as `46 of 50 (92 %)`: rows answered exactly, or accepted by the judge. */
export const shareWords = ({
  exact,
  scored,
  rows,
}: Pick<EvaluationScore, 'exact' | 'scored' | 'rows'>): string =>
  scored < rows
    ? `${scored} of ${rows} scored`
    : // Truncated: 799 of 1,000 are not 80 % if that was required.
      `${exact} of ${rows} (${Math.floor((100 * exact) / rows + 1e-9)} %)`;

/** @returns how rows were right: `answered exactly`, `classified right`, or such as `accepted by medicine@2`. */
export const rightWords = ({ judge, labelled }: Pick<EvaluationScore, 'judge' | 'labelled'>): string =>
  labelled ? 'classified right' : judge === null ? 'answered exactly' : `accepted by ${judge}`;

export interface VariantScore {
  /** Of the evaluation. */
  label: string;
  /** The evaluation's; null = answers must be exactly as expected, or classes as labelled. */
  judge: string | null;
  /** The evaluation's: rows have labels, which classifiers should give. */
  labelled: boolean;
  /** Its key. */
  variant: string;
  /** Rows answered exactly, classified as labelled, or accepted by the judge. */
  exact: number;
  rows: number;
  /** Null without labels. */
  macro_f1: number | null;
  /** Null without labels, and with more classes than anybody reads. */
  confusion: ScoredEvaluation['confusion'];
  /** It has fewer such rows than control. */
  worse: boolean;
  /** The same as a sentence, without a full stop. */
  text: string;
}

/**
 * How the variants did, evaluation by evaluation.
 * @param scores of the variants in their order, each on all evaluations in theirs.
 */
export function variantScores(
  variants: Pick<Experiment, 'variants'>['variants'],
  evaluations: readonly Pick<EvaluationView, 'label'>[],
  scores: readonly ScoredEvaluation[],
): VariantScore[] {
  return evaluations.flatMap(({ label }, i) => {
    const control = scores[i];
    return variants.flatMap(({ key, adapter }, at) => {
      const score = scores[at * evaluations.length + i];
      if (score === undefined || control === undefined) return [];
      const worse = score.exact < control.exact;
      const { exact, rows, judge, labelled, macro_f1, confusion } = score;
      const than = worse ? `, control ${control.exact}` : '';
      const share = shareWords(score);
      const right =
        judge === null && !labelled
          ? `answers ${share} of ${label} exactly`
          : `has ${share} of ${label} ${rightWords(score)}`;
      const text = `${key} (${adapter}) ${right}${than}`;
      return [{ label, judge, labelled, variant: key, exact, rows, macro_f1, confusion, worse, text }];
    });
  });
}
