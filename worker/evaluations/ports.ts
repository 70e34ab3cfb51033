/** Kept evaluations: their rows, encrypted, and how chains of adapters did on them. */

import type { ConfusionCount } from '../../protocol/confusion.ts';

/** Whose rows. */
export interface EvaluationPlace {
  name: string;
  label: string;
}

export interface KeptEvaluation extends EvaluationPlace {
  /** Owner of the name; the rows are encrypted for it. */
  tenant: string;
  rows: number;
  /** Of the rows as JSON, one a line. */
  bytes: number;
  /** Of the same, and of the judge if there is one. */
  sha256: string;
  /** null = answers must be exactly as expected, or classes as labelled. */
  judge: EvaluationJudge | null;
  /** Rows have labels, which classifiers should give. */
  labelled: boolean;
  /** Unix ms. */
  createdAt: number;
  /** Id of the key. */
  createdBy: string;
}

/** The model that judges. */
export interface EvaluationJudge {
  /** `name@version`, or `base`. */
  model: string;
  chainId: string;
}

/** Rows that are stored together. */
export interface EvaluationPart {
  /** How many rows stand before it. */
  first: number;
  sealed: string;
}

/** A part for itself. */
export interface PlacedPart extends EvaluationPlace, EvaluationPart {
  tenant: string;
  sha256: string;
}

/** What is scored of a chain. */
export interface ChainScore {
  /** For each row, in order: `1` = exact, as labelled or accepted, `0` = not, `?` = the judge gave no clear verdict. */
  exact: string;
  /** Of all expected tokens or labels so far, and how many those are. */
  nats: number;
  tokens: number;
  /** Of all rows so far; null without labels. */
  macroF1: number | null;
  /** Unix ms. */
  at: number;
}

/** The same with which classes were confused, which is longer than the rest. */
export interface WholeScore extends ChainScore {
  /** Of all rows so far; null without labels. */
  confusion: readonly ConfusionCount[] | null;
}

/** Of a chain on an evaluation of a name. */
export interface NamedScore extends ChainScore {
  label: string;
  sha256: string;
  judge: EvaluationJudge | null;
  labelled: boolean;
  rows: number;
  chainId: string;
}

/** D1's record. Throws StoreUnavailable. */
export interface Evaluations {
  /**
   * Instead of those with the same label.
   * @param kept.secret id of the secret that sealed the parts.
   * @returns false if the name or the tenant has no room for it, the name has gone, or the key has ended.
   */
  keep(kept: {
    evaluation: KeptEvaluation;
    parts: readonly EvaluationPart[];
    secret: string;
  }): Promise<boolean>;
  get(of: EvaluationPlace): Promise<KeptEvaluation | null>;
  /** Ordered by label. */
  list(name: string): Promise<KeptEvaluation[]>;
  /** With its scores. @returns false if there is none. */
  remove(of: EvaluationPlace): Promise<boolean>;
  /** @returns the part that begins with this row; null if there is none. */
  part(of: EvaluationPlace & { first: number }): Promise<(EvaluationPart & { next: number | null }) | null>;
  score(of: { name: string; sha256: string; chainId: string }): Promise<WholeScore | null>;
  /**
   * Adds rows to a score.
   * @param rows.after how many were scored before. @param rows.added `exact`, `nats` and `tokens` of these rows alone.
   * @returns false if somebody else has scored them, or the evaluation is another one now.
   */
  addScore(rows: {
    evaluation: KeptEvaluation;
    chainId: string;
    /** Of the chain's last file. */
    digest: string;
    after: number;
    added: WholeScore;
  }): Promise<boolean>;
  forgetScore(of: { name: string; sha256: string; chainId: string }): Promise<void>;
  /** Of the name's versions that were not removed, newest first. */
  scoresOfVersions(of: { name: string; limit: number }): Promise<(NamedScore & { version: number })[]>;
  scoresOfChains(of: { name: string; chainIds: readonly string[] }): Promise<NamedScore[]>;
  /** Parts that one of these secrets has sealed. */
  sealedBy(of: { secrets: readonly string[]; limit: number }): Promise<PlacedPart[]>;
  /** Unless it has been replaced. @param part.was how it was sealed. */
  reseal(part: PlacedPart & { was: string; secret: string }): Promise<void>;
}
