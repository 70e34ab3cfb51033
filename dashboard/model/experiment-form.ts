/** The form that creates an experiment, and its request. */
import { AUTOMATIC_METRICS, BASE_JUDGE } from '../../protocol/experiment.ts';
import { CreateExperiment, type PlanExperiment } from '../../protocol/admin-api/experiments.ts';
import { err, ok, type Result } from '../../protocol/api-error.ts';

export interface ExperimentFields {
  readonly name: string;
  /** Versions of the name, `3`, or `other/name@3`. */
  readonly control: string;
  readonly treatment: string;
  /** `thumbs`, a metric that the edge records, or another that the application reports. */
  readonly metric: string;
  readonly kind: 'proportion' | 'mean';
  readonly better: 'up' | 'down';
  /** Percent. */
  readonly coverage: string;
  /** The default guardrails; otherwise none. */
  readonly guarded: boolean;
  /** Units a day, if the edge does not know; for the plan only. */
  readonly expected: string;
  /** Start with few units and grow automatically. */
  readonly ramped: boolean;
  /** Empty, `base`, a name with or without a version, or the application's URL. */
  readonly judge: string;
  /** Values above control's p99 are capped there; not for proportions. */
  readonly capped: boolean;
  /** Empty, `tenant`, `name`, or `header:<name>`. */
  readonly segmentBy: string;
}

export const EMPTY_FIELDS: ExperimentFields = {
  name: '',
  control: '',
  treatment: '',
  metric: 'thumbs',
  kind: 'proportion',
  better: 'up',
  coverage: '100',
  guarded: true,
  expected: '',
  ramped: false,
  judge: '',
  capped: false,
  segmentBy: '',
};

/** Shares of the requested coverage. */
const RAMP_SHARES = [0.01, 0.05, 0.25, 1];
const RAMP = { hold_minutes: 60, min_units: 200 };

/** Share of the requests that are judged, as in the CLI. */
const JUDGED_SHARE = 0.2;
/** Placeholder for a judge's live version, until the edge is asked. */
const SOME_VERSION = 1;

/** @returns the name of a judge without a version; null = there is none. */
export const judgingName = (judge: string): string | null =>
  judge === '' || judge === BASE_JUDGE || judge.includes('@') || isUrl(judge) ? null : judge;

const isUrl = (text: string): boolean => /^https?:/i.test(text);

function judgeOf(judge: string, version: number | null): { url: string } | { model: string } {
  if (isUrl(judge)) return { url: judge };
  return { model: judgingName(judge) === null ? judge : `${judge}@${version ?? SOME_VERSION}` };
}

/** Field -> error. */
export type FieldProblems = Partial<Record<keyof ExperimentFields, string>>;

/** @param judgeVersion live version of a judge given by name; null = none, or not known yet. */
export function createRequest(
  fields: ExperimentFields,
  judgeVersion: number | null = SOME_VERSION,
): Result<CreateExperiment, FieldProblems> {
  const name = fields.name.trim();
  const coverage = Number(fields.coverage.replace(',', '.').trim()) / 100;
  const problems: FieldProblems = {};
  const isJudged = fields.judge !== '';
  const alone = isJudged && coverage === 0 && !fields.ramped;
  if (!(coverage > 0 && coverage <= 1) && !alone)
    problems.coverage =
      isJudged && !fields.ramped ? 'A number from 0 to 100.' : 'A number above 0, up to 100.';
  if (judgingName(fields.judge) !== null && judgeVersion === null)
    problems.judge = 'This name has no live version. Choose another name, or enter a version.';
  const adapters = { control: pinned(name, fields.control), treatment: pinned(name, fields.treatment) };
  for (const side of ['control', 'treatment'] as const)
    if (fields[side].trim() === '') problems[side] = 'A version of the name, such as 3.';
  if (adapters.control === adapters.treatment && fields.control !== '')
    problems.treatment = "Choose another version than control's.";
  const share = (part: number): number => Number((coverage * part).toPrecision(6));
  const metric = fields.metric.trim();
  const known = AUTOMATIC_METRICS.find(({ key }) => key === metric);
  const kind = known?.kind ?? fields.kind;
  const cap = fields.capped && kind === 'mean' ? { cap: 'p99' as const } : {};
  const request = {
    name,
    variants: [
      { key: 'control', adapter: adapters.control, weight: 0.5 },
      { key: 'treatment', adapter: adapters.treatment, weight: 0.5 },
    ],
    metrics: [{ key: metric, kind, better: fields.better, ...cap }],
    ...(isJudged
      ? {
          shadow: { adapter: adapters.treatment, sample: JUDGED_SHARE },
          judge: judgeOf(fields.judge, judgeVersion),
        }
      : {}),
    ...(fields.segmentBy === '' ? {} : { segment_by: fields.segmentBy }),
    coverage: fields.ramped ? share(RAMP_SHARES[0]!) : coverage,
    ...(fields.guarded ? {} : { guardrails: [] }),
    ...(fields.ramped ? { ramp: { steps: RAMP_SHARES.map(share), ...RAMP } } : {}),
  };
  const parsed = CreateExperiment.safeParse(request);
  if (!parsed.success)
    for (const { path, message } of parsed.error.issues) {
      const field = fieldAt(path);
      problems[field] ??= `${message.charAt(0).toUpperCase()}${message.slice(1)}.`;
    }
  return Object.keys(problems).length > 0 ? err(problems) : ok(request);
}

/** The request of a plan; null while the form is incomplete. */
export function planRequest(fields: ExperimentFields): PlanExperiment | null {
  const request = createRequest(fields);
  if (!request.ok) return null;
  const expected = Number(fields.expected.trim());
  return { ...request.value, ...(expected > 0 && expected <= 1e9 ? { expect_units: expected } : {}) };
}

/** `3` -> `name@3`; texts with an `@` stay. */
const pinned = (name: string, text: string): string => {
  const trimmed = text.trim();
  return trimmed.includes('@') ? trimmed : `${name}@${trimmed}`;
};

/** The form field of a path in the request; also for the edge's `param`. */
export function fieldAt(path: readonly PropertyKey[]): keyof ExperimentFields {
  const [head, index] = path.map(String);
  if (head === 'variants') return index === '1' ? 'treatment' : 'control';
  if (head === 'metrics') return 'metric';
  if (head === 'guardrails') return 'guarded';
  if (head === 'judge' || head === 'shadow') return 'judge';
  if (head === 'segment_by') return 'segmentBy';
  if (head === 'ramp' || head === 'coverage') return head === 'ramp' ? 'ramped' : 'coverage';
  return 'name';
}
