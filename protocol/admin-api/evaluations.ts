/**
 * Kept evaluations: rows with expected answers, labels or a judge that belong to a name, and the scores of its versions on
 * them; requests and answers of the admin API.
 */
import { z } from 'zod';
import { BASE_JUDGE } from '../experiment.ts';
import { ClassLabel } from '../classes.ts';
import { ConfusionTable } from '../confusion.ts';
import { AdapterName, Digest, PinnedAdapter } from '../identity.ts';
import { checkLabelled, checkQuestion, labelledShape } from '../origin-wire.ts';
import type { AdminOperationTable } from './operation.ts';

/** Kept evaluations of one name. Each is a column of a table. */
export const MAX_KEPT_EVALUATIONS = 8;
/** Rows of a kept evaluation. Each publication may answer them all; 2,000 know a share to within 2 %. */
export const MAX_KEPT_ROWS = 2_000;
/** Rows of a kept evaluation as JSON, one a line. They arrive in one request. */
export const MAX_KEPT_EVALUATION_BYTES = 2 * 1024 * 1024;
/** One row of a kept evaluation as JSON. A backup's request holds it, encrypted. */
export const MAX_KEPT_ROW_BYTES = 256 * 1024;
/** Body of `POST /admin/evaluations`: the rows, and room for the rest. */
export const MAX_KEEP_BODY_BYTES = MAX_KEPT_EVALUATION_BYTES + 64 * 1024;
/** Rows that one request scores, unless they are long: an origin answers them within seconds. */
export const SCORED_ROWS = 16;
/** Rows that one request has judged: each takes a whole answer and a verdict. */
export const JUDGED_ROWS = 4;
/** Tokens of an answer that is judged; a longer one is cut off. */
export const MAX_JUDGED_TOKENS = 512;
/** Scores in one answer, those of the newest versions first. */
export const MAX_SCORES_SHOWN = 400;

/** Syntax of an evaluation's label. */
export const EvaluationLabel = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}$/, 'must be 1 to 32 of a-z, 0-9, "_" or "-", starting with a letter');

const expected = z.string('must be a text').min(1, 'must not be empty').optional();

/** A row whose answer is judged. `expected` is a good answer, shown to the judge. */
export const JudgedRow = z.strictObject({
  user: z.string('must be a text'),
  system: z.string('must be a text').optional(),
  expected,
});
export type JudgedRow = z.infer<typeof JudgedRow>;

const keptShape = {
  prompt: z.string().optional(),
  user: z.string().optional(),
  system: z.string().optional(),
  expected,
  ...labelledShape,
  label: ClassLabel.optional(),
};

/** A row of any kind: an `EvaluationRow`, a `LabelledRow` or a {@link JudgedRow}. */
export const KeptRow = z.strictObject(keptShape).superRefine((row, context) => {
  const others =
    row.label === undefined ? (['text', 'messages'] as const) : (['user', 'system', 'expected'] as const);
  const other = others.find((field) => row[field] !== undefined);
  if (other !== undefined)
    context.addIssue({
      code: 'custom',
      path: [other],
      message: row.label === undefined ? "needs a 'label'" : "cannot be combined with 'label'",
    });
  else if (row.label === undefined) checkQuestion(row, context);
  else checkLabelled(row, context);
});
export type KeptRow = z.infer<typeof KeptRow>;

const isJudge = (text: string): boolean =>
  text === BASE_JUDGE || [AdapterName, PinnedAdapter].some((one) => one.safeParse(text).success);

/** `POST /admin/evaluations`. */
export const KeepEvaluation = z
  .strictObject({
    name: AdapterName,
    label: EvaluationLabel,
    /** With a judge, each needs `user`, and `expected` is optional. All have a label, or none. */
    rows: z.array(KeptRow).min(1).max(MAX_KEPT_ROWS),
    /** A model that judges the answers: `base`, `<name>@<version>`, or a name, for its live version. */
    judge: z.string().refine(isJudge, 'must be "base", "<name>" or "<name>@<version>"').nullish(),
  })
  .superRefine(({ rows, judge }, context) => {
    for (const [i, row] of rows.entries()) {
      if ((row.label === undefined) !== (rows[0]?.label === undefined))
        context.addIssue({
          code: 'custom',
          path: ['rows', i, 'label'],
          message: 'must be in all rows or in none',
        });
      else if (row.label !== undefined && judge != null)
        context.addIssue({ code: 'custom', path: ['judge'], message: 'rows with labels need no judge' });
      if (judge == null && row.expected === undefined && row.label === undefined)
        context.addIssue({
          code: 'custom',
          path: ['rows', i, 'expected'],
          message: 'must be a text, unless the row has a label or the evaluation a judge',
        });
      if (judge != null && row.user === undefined && row.label === undefined)
        context.addIssue({
          code: 'custom',
          path: ['rows', i, 'user'],
          message: 'must be a text: a judge needs the question',
        });
    }
  })
  .meta({ id: 'KeepEvaluation' });

export const EvaluationView = z
  .object({
    label: z.string(),
    rows: z.int().positive(),
    /** Of the rows as JSON, one a line. */
    bytes: z.int().positive(),
    /** Of the same, and of the judge if there is one. A score belongs to it, so changed rows have none. */
    sha256: Digest,
    /** `<name>@<version>` or `base`; null = answers must be exactly as expected, or classes as labelled. */
    judge: z.string().nullable(),
    /** Rows have labels, which classifiers should give. */
    labelled: z.boolean(),
    /** Unix ms. */
    created_at: z.int(),
    /** Id of the key. */
    created_by: z.string(),
  })
  .meta({ id: 'EvaluationView' });
export type EvaluationView = z.infer<typeof EvaluationView>;

/** How a chain of adapters did on an evaluation. */
export const EvaluationScore = z
  .object({
    label: z.string(),
    /** Of the evaluation. */
    sha256: Digest,
    /** The evaluation's. */
    judge: z.string().nullable(),
    labelled: z.boolean(),
    rows: z.int().positive(),
    /** Rows that are scored; the score is complete when these are all. */
    scored: z.int().min(0),
    /** Of those, answered exactly as expected; with labels, classified so; with a judge, accepted by it. */
    exact: z.int().min(0),
    /** Of the others, those without a clear verdict of the judge: no yes or no, or too long for it to read. */
    unclear: z.int().min(0),
    /** Mean over the expected tokens or labels, nats; null while no row is scored, and with a judge. */
    mean_nll: z.number().nullable(),
    /**
     * The mean of the classes' F1, over those that a scored row has or got; null while no row is scored, and without
     * labels.
     */
    macro_f1: z.number().nullable(),
    /** Rows that were not answered exactly, classified as labelled or accepted, by their number from 1: the first few. */
    missed: z.array(z.int().positive()),
    /** When a row was last scored, unix ms; null = never. */
    at: z.int().nullable(),
  })
  .meta({ id: 'EvaluationScore' });
export type EvaluationScore = z.infer<typeof EvaluationScore>;

/** The same, as scoring answers it. */
export const ScoredEvaluation = EvaluationScore.extend({
  /** Of the rows that are scored; null without labels, and with more classes than anybody reads. */
  confusion: ConfusionTable.nullable(),
}).meta({ id: 'ScoredEvaluation' });
export type ScoredEvaluation = z.infer<typeof ScoredEvaluation>;

/** Rows that a version alone answers exactly or acceptably, and rows that the live version alone does. */
export const LiveComparison = z.object({ better: z.int().min(0), worse: z.int().min(0) });

export const VersionScore = EvaluationScore.extend({
  version: z.int().positive(),
  /** Against the live version on the same rows; null unless both are complete. */
  against_live: LiveComparison.nullable(),
}).meta({ id: 'VersionScore' });
export type VersionScore = z.infer<typeof VersionScore>;

/** `GET /admin/evaluations?name=`. */
export const EvaluationList = z
  .object({
    name: z.string(),
    /** Live version; null = none. */
    live: z.int().nullable(),
    /** Ordered by label. */
    evaluations: z.array(EvaluationView),
    /** Versions that have been scored, newest first; a version has one for each evaluation at most. */
    scores: z.array(VersionScore),
  })
  .meta({ id: 'EvaluationList' });
export type EvaluationList = z.infer<typeof EvaluationList>;

/** `GET /admin/evaluations/rows`. */
export const KeptRows = z
  .object({
    /** As they were sent. */
    rows: z.array(z.object(keptShape)),
    /** Of the next page; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'KeptRows' });
export type KeptRows = z.infer<typeof KeptRows>;

/** `POST /admin/evaluations/score`. */
export const ScoreEvaluation = z
  .strictObject({
    /** Whose evaluation. */
    name: AdapterName,
    label: EvaluationLabel,
    /** What is scored, `<name>@<version>`; default: the name's live version. */
    adapter: PinnedAdapter.nullish(),
    /** Instead: an uploaded file … */
    digest: Digest.nullish(),
    /** … and the adapter that it was trained on. */
    parent: AdapterName.nullish(),
    /** Forget what is scored, and begin with the first row. */
    again: z.boolean().nullish(),
  })
  .refine(({ adapter, digest }) => adapter == null || digest == null, {
    message: 'give either an adapter or a digest',
    path: ['digest'],
  })
  .refine(({ digest, parent }) => parent == null || digest != null, {
    message: 'needs a digest',
    path: ['parent'],
  })
  .meta({ id: 'ScoreEvaluation' });
export type ScoreEvaluation = z.infer<typeof ScoreEvaluation>;

export const EVALUATION_OPERATIONS = {
  'POST /admin/evaluations': {
    id: 'keepEvaluation',
    tag: 'adapters',
    rights: 'admin',
    summary:
      'Keeps rows with expected answers, labels or a judge for a name, instead of those with the same label.',
    description:
      'The rows are stored encrypted, until they are removed or the name is erased. Only admin keys of ' +
      "the name's owner can read them. The key must be allowed to use the judge.",
    maxBytes: MAX_KEEP_BODY_BYTES,
    query: null,
    request: KeepEvaluation,
    answers: {
      200: { description: 'The evaluation, which had these rows already.', schema: EvaluationView },
      201: { description: 'The evaluation.', schema: EvaluationView },
    },
  },
  'GET /admin/evaluations': {
    id: 'listEvaluations',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Lists the kept evaluations of a name, and the scores of its versions.',
    query: z.strictObject({ name: AdapterName }),
    request: null,
    answers: { 200: { description: 'Evaluations and scores.', schema: EvaluationList } },
  },
  'DELETE /admin/evaluations': {
    id: 'removeEvaluation',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Removes a kept evaluation with its scores.',
    query: z.strictObject({ name: AdapterName, label: EvaluationLabel }),
    request: null,
    answers: { 204: { description: 'It is removed.', schema: null } },
  },
  'GET /admin/evaluations/rows': {
    id: 'readEvaluationRows',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Reads the rows of a kept evaluation, page by page.',
    description: "Only for keys of the name's owner: the bootstrap key reads those of its own tenant only.",
    query: z.strictObject({
      name: AdapterName,
      label: EvaluationLabel,
      cursor: z
        .string()
        .regex(/^\d{1,6}$/, 'is not a cursor from an earlier response')
        .optional(),
    }),
    request: null,
    answers: { 200: { description: 'Some rows; pass `cursor` to continue.', schema: KeptRows } },
  },
  'POST /admin/evaluations/score': {
    id: 'scoreEvaluation',
    tag: 'adapters',
    rights: 'admin',
    summary: 'Scores the next rows of a kept evaluation.',
    description:
      'An origin answers some rows. Repeat the request until `scored` is `rows`: what is scored is kept, so ' +
      'an interrupted scoring continues. A complete score is returned without asking an origin. The key must ' +
      'be allowed to use the judge, if there is one.',
    query: null,
    request: ScoreEvaluation,
    answers: { 200: { description: 'The score so far.', schema: ScoredEvaluation } },
  },
} as const satisfies AdminOperationTable;
