import { CreateExperiment } from '../../protocol/admin-api/experiments.ts';
import { SegmentBy, BASE_JUDGE, contradictedGuardrail, Experiment } from '../../protocol/experiment.ts';
import { nameProblem } from '../../protocol/identity.ts';
import { MAX_MIN_DAYS } from '../../protocol/limits.ts';
import { parseDuration, usageError, parseCount } from '../flags.ts';
import { parseLoss, parseShare } from './experiment-words.ts';
import { lookUpVersions } from '../admin/admin-client.ts';
import type { ApiClient } from '../api-client.ts';
import { CliError, EXIT } from '../cli-error.ts';
import { readFile } from 'node:fs/promises';
import type { z } from 'zod';
import { parseReference } from '../admin/operation-command.ts';

const MINUTE_MS = 60_000;
/** Default of a ramp. */
export const DEFAULT_HOLD = '60m';
export const DEFAULT_MIN_UNITS = '200';
/** Default share of requests that are judged, unless `--shadow` sets one. */
export const DEFAULT_JUDGED = 0.2;

/** An experiment as flags. */
export interface DesignFlags extends JudgeFlags {
  readonly name: string;
  /** `key=name@version[:weight]`; `@version` means the name itself. The first is control. */
  readonly variants: readonly string[];
  /** `key:proportion|mean:up|down`; the first decides. */
  readonly metrics: readonly string[];
  /**
   * `metric:limits[:rollback|hold]`; limits are such as `+50%` (relative), `+0.02` (absolute), `-10%`; or
   * `none`.
   */
  readonly guardrails: readonly string[];
  readonly tenants: readonly string[];
  /** `unit=variant`. */
  readonly overrides: readonly string[];
  readonly ramp?: string | undefined;
  readonly hold?: string | undefined;
  readonly minUnits?: string | undefined;
  readonly minDays?: string | undefined;
  readonly atLeast?: string | undefined;
  /** Of the deciding metric: `p99`. */
  readonly cap?: string | undefined;
  readonly coverage?: string | undefined;
  /** `name@version:share`. */
  readonly shadow?: string | undefined;
  readonly shadowCompare?: boolean | undefined;
  readonly webhook?: string | undefined;
  /** `tenant`, `name`, `header:<name>`. */
  readonly segmentBy?: string | undefined;
  readonly seed?: string | undefined;
  readonly unit?: string | undefined;
}

type Variant = CreateExperiment['variants'][number];

/** @throws CliError (usage) that names the flag; `checkDesign` checks combinations. */
export function parseDesign(flags: DesignFlags): CreateExperiment {
  const { name, metrics, guardrails, tenants, overrides, coverage, shadow, seed, unit } = flags;
  if (flags.variants.length < 2)
    throw usageError(
      `Which version should be compared with the live one? \`graft experiment create ${name} @2\`. Or ` +
        `give both, control first: --variant control=${name}@3 --variant treatment=${name}@4.`,
    );
  const ramp = parseRamp(flags);
  if (flags.shadowCompare === true && shadow === undefined)
    throw usageError('--shadow-compare needs a shadow: --shadow support/intent@5:5%.');
  const judge = parseJudge(flags);
  if (flags.ramp !== undefined && coverage !== undefined)
    throw usageError('--ramp starts with its first step. Remove --coverage.');
  const variants = shareWeights(flags.variants.map((text) => parseVariant(text, name)));
  return {
    name,
    variants,
    ...(judge === undefined ? {} : { ...judgedAlone(variants, ramp), judge }),
    ...parseMetrics(metrics, flags),
    ...(guardrails.length === 0 ? {} : { guardrails: parseGuardrails(guardrails) }),
    ...(ramp === undefined ? {} : { ramp }),
    ...(flags.minDays === undefined ? {} : { min_days: parseDays(flags.minDays) }),
    ...(coverage === undefined || ramp !== undefined ? {} : { coverage: parseShare(coverage, '--coverage') }),
    ...(shadow === undefined ? {} : { shadow: parseShadow(shadow, flags.shadowCompare === true) }),
    ...(tenants.length === 0 ? {} : { targeting: { tenants: [...tenants] } }),
    ...(overrides.length === 0 ? {} : { overrides: overrides.map(parseOverride) }),
    ...(flags.webhook === undefined ? {} : { webhook: flags.webhook }),
    ...(flags.segmentBy === undefined ? {} : { segment_by: parseSegmentBy(flags.segmentBy) }),
    ...(seed === undefined ? {} : { seed }),
    ...(unit === undefined ? {} : { unit: oneOf(unit, ['user', 'key'], '--unit') }),
  };
}

/** By default the last variant is judged, and nobody gets its answers. */
const judgedAlone = (
  variants: readonly Variant[],
  ramp: CreateExperiment['ramp'],
): Pick<CreateExperiment, 'shadow' | 'coverage'> => ({
  shadow: { adapter: variants.at(-1)!.adapter, sample: DEFAULT_JUDGED },
  ...(ramp === undefined ? { coverage: 0 } : {}),
});

function oneOf<const T extends string>(text: string, known: readonly T[], flag: string): T {
  const found = known.find((one) => one === text);
  if (found === undefined) throw usageError(`${flag}: '${text}' is not one of ${known.join(', ')}.`);
  return found;
}

function parsePinned(text: string, flag: string): string {
  const match = /^(.+)@([1-9]\d{0,8})$/.exec(text);
  const problem =
    match === null ? 'it must name a version, such as support/intent@3' : nameProblem(match[1]!);
  if (problem !== null) throw usageError(`${flag}: '${text}': ${problem}.`);
  return text;
}

/** Omitted weights are null. */
function parseVariant(text: string, name: string): Omit<Variant, 'weight'> & { weight: number | null } {
  const [, key, adapter, weight] = /^([^=]*)=([^:]*)(?::(.*))?$/.exec(text) ?? [];
  if (key === undefined || adapter === undefined)
    throw usageError(`--variant: '${text}' is not <key>=<name>@<version>, such as control=${name}@3.`);
  return {
    key,
    adapter: parsePinned(adapter.startsWith('@') ? name + adapter : adapter, '--variant'),
    weight: weight === undefined ? null : parseShare(weight, '--variant'),
  };
}

/** Variants without a weight share the rest equally. */
function shareWeights(variants: readonly ReturnType<typeof parseVariant>[]): Variant[] {
  const open = variants.filter(({ weight }) => weight === null).length;
  const given = variants.reduce((sum, { weight }) => sum + (weight ?? 0), 0);
  if (open > 0 && given >= 1)
    throw usageError('--variant: the given weights leave nothing for the other variants.');
  const part = Number(((1 - given) / open).toPrecision(12));
  return variants.map(({ weight, ...variant }) => ({ ...variant, weight: weight ?? part }));
}

/** The server's default metric. */
const THUMBS = 'thumbs:proportion:up';

function parseMetrics(
  texts: readonly string[],
  { atLeast, cap }: Pick<DesignFlags, 'atLeast' | 'cap'>,
): Pick<CreateExperiment, 'metrics'> {
  if (texts.length === 0 && atLeast === undefined && cap === undefined) return {};
  const [first, ...others] = (texts.length === 0 ? [THUMBS] : texts).map(parseMetric);
  const more = {
    ...(atLeast === undefined ? {} : { at_least: parseLoss(atLeast, '--at-least') }),
    ...(cap === undefined ? {} : { cap: oneOf(cap, ['p99'], '--cap') }),
  };
  if (cap !== undefined && first!.kind !== 'mean')
    throw usageError(`--cap: '${first!.key}' is a ${first!.kind}; only a mean can be capped.`);
  return { metrics: [{ ...first!, ...more }, ...others] };
}

function parseSegmentBy(text: string): string {
  const parsed = SegmentBy.safeParse(text);
  if (parsed.success) return parsed.data;
  throw usageError(`--segment-by: '${text}' ${parsed.error.issues[0]!.message}, such as header:x-plan.`);
}

function parseDays(text: string): number {
  const days = /^\d{1,3}$/.test(text) ? Number(text) : NaN;
  if (days <= MAX_MIN_DAYS) return days;
  throw usageError(`--min-days ${text} is not a number of days, 0 to ${MAX_MIN_DAYS}.`);
}

function parseMetric(text: string): NonNullable<CreateExperiment['metrics']>[number] {
  const [key = '', kind = '', better = '', ...rest] = text.split(':');
  if (key === '' || rest.length > 0)
    throw usageError(
      `--metric: '${text}' is not <key>:<proportion|mean>:<up|down>, such as thumbs:proportion:up.`,
    );
  return {
    key,
    kind: oneOf(kind, ['proportion', 'mean'], '--metric'),
    better: oneOf(better, ['up', 'down'], '--metric'),
  };
}

/** `none` alone disables guardrails; an empty list would mean the defaults. */
function parseGuardrails(texts: readonly string[]): NonNullable<CreateExperiment['guardrails']> {
  if (texts.length === 1 && texts[0] === 'none') return [];
  return texts.map(parseGuardrail);
}

function parseGuardrail(text: string): NonNullable<CreateExperiment['guardrails']>[number] {
  const [metric = '', limits = '', action = 'rollback', ...rest] = text.split(':');
  if (metric === '' || rest.length > 0)
    throw usageError(
      `--guardrail: '${text}' is not <metric>:<limits>[:<rollback|hold>], such as "error_rate:+50%|+0.02:rollback", or none.`,
    );
  const found: Partial<Record<GuardrailField, number>> = {};
  for (const limit of limits.split('|')) {
    const [, sign, digits, percent] = /^([+-])(\d{1,9}(?:\.\d{1,9})?)(%?)$/.exec(limit) ?? [];
    const field: GuardrailField = `max_${percent === '%' ? 'relative' : 'absolute'}_${sign === '-' ? 'decrease' : 'increase'}`;
    if (digits === undefined || found[field] !== undefined)
      throw usageError(
        `--guardrail: '${limits}' does not say how much worse than control is allowed. Use +50% (of ` +
          "control's), +0.02 (in the metric's unit), -10% if higher is better, or two separated by |.",
      );
    found[field] = percent === '%' ? Number((Number(digits) / 100).toPrecision(12)) : Number(digits);
  }
  return { metric, ...found, action: oneOf(action, ['rollback', 'hold'], '--guardrail') };
}

type GuardrailField = `max_${'relative' | 'absolute'}_${'increase' | 'decrease'}`;

/** `--min-units` alone is a ramp of one step, because the document has no other place for it. */
function parseRamp({ ramp, coverage, hold, minUnits }: DesignFlags): CreateExperiment['ramp'] {
  if (ramp === undefined && hold !== undefined)
    throw usageError('--hold needs a ramp: --ramp 1%,5%,25%,100%.');
  if (ramp === undefined && minUnits === undefined) return undefined;
  const ms = parseDuration(hold ?? DEFAULT_HOLD, '--hold');
  if (ms % MINUTE_MS !== 0) throw usageError(`--hold ${hold} must be whole minutes.`);
  const units = minUnits ?? DEFAULT_MIN_UNITS;
  if (!/^\d{1,9}$/.test(units)) throw usageError(`--min-units ${units} is not a whole number.`);
  return {
    steps:
      ramp === undefined
        ? [parseShare(coverage ?? '100%', '--coverage')]
        : ramp.split(',').map((step) => parseShare(step.trim(), '--ramp')),
    hold_minutes: ms / MINUTE_MS,
    min_units: Number(units),
  };
}

function parseShadow(text: string, compare: boolean): NonNullable<CreateExperiment['shadow']> {
  const [, adapter, sample] = /^([^:]+):(.+)$/.exec(text) ?? [];
  if (adapter === undefined || sample === undefined)
    throw usageError(`--shadow: '${text}' is not <name>@<version>:<share>, such as support/intent@5:5%.`);
  return {
    adapter: parsePinned(adapter, '--shadow'),
    sample: parseShare(sample, '--shadow'),
    ...(compare ? { compare } : {}),
  };
}

/** Units may contain any text, keys of variants no "=". */
function parseOverride(text: string): NonNullable<CreateExperiment['overrides']>[number] {
  const at = text.lastIndexOf('=');
  if (at < 1 || at === text.length - 1)
    throw usageError(`--override: '${text}' is not <unit>=<variant>, such as acme/user/alice=treatment.`);
  return { unit: text.slice(0, at), variant: text.slice(at + 1) };
}

interface JudgeFlags {
  /** `base`, a name with or without a version, or the application's URL. */
  readonly judge?: string | undefined;
  /** Tokens a day. */
  readonly judgeTokens?: string | undefined;
  readonly keepPairs?: string | undefined;
}

type Judge = NonNullable<CreateExperiment['judge']>;

/** Placeholder for the live version, until the server is asked. */
const SOME_VERSION = 1;

/** @throws CliError (usage) */
function parseJudge({ judge, judgeTokens, keepPairs }: JudgeFlags): Judge | undefined {
  if (judge === undefined) {
    const stray =
      judgeTokens !== undefined ? '--judge-tokens' : keepPairs !== undefined ? '--keep-pairs' : null;
    if (stray !== null) throw usageError(`${stray} needs a judge: --judge base.`);
    return undefined;
  }
  if (keepPairs !== undefined && !/^\d{1,3}$/.test(keepPairs))
    throw usageError(`--keep-pairs ${keepPairs} is not a number of pairs, such as 50.`);
  return {
    ...judgeOf(judge),
    ...(judgeTokens === undefined ? {} : { tokens_per_day: parseCount(judgeTokens, '--judge-tokens') }),
    ...(keepPairs === undefined ? {} : { keep_pairs: Number(keepPairs) }),
  };
}

function judgeOf(text: string): Judge {
  if (/^https?:\/\//i.test(text)) return { url: text };
  if (text === BASE_JUDGE) return { model: text };
  const { name, version } = parseReference(text);
  return { model: `${name}@${version ?? SOME_VERSION}` };
}

/** A judging name stands for its live version, from now on. @throws CliError when it has none. */
export async function pinJudge(
  client: ApiClient,
  design: CreateExperiment,
  text: string | undefined,
): Promise<CreateExperiment> {
  const { judge } = design;
  if (judge?.model === undefined || text === undefined || text === BASE_JUDGE || text.includes('@'))
    return design;
  const live = (await lookUpVersions(client, text))?.versions.find((version) => version.live);
  if (live !== undefined) return { ...design, judge: { ...judge, model: `${text}@${live.version}` } };
  throw new CliError({
    message: `The judge ${text} has no live version.`,
    exitCode: EXIT.notFound,
    code: 'model_not_found',
    next: `graft versions ${text}`,
  });
}

/** @returns the JSON object in `file`. @throws CliError when it cannot be read or holds none. */
export async function readDesignFile(file: string): Promise<Record<string, unknown>> {
  const text = await readFile(file, 'utf8').catch((error: NodeJS.ErrnoException) => {
    throw new CliError({
      message: `${file} cannot be read (${error.code ?? error.message}).`,
      exitCode: EXIT.usage,
      code: 'file_unreadable',
    });
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = null;
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Record<string, unknown>;
  throw new CliError({
    message: `${file} does not contain a JSON object. Print one with \`graft experiment show <name>\`.`,
    exitCode: EXIT.usage,
    code: 'file_invalid',
  });
}

/** Fields that the server sets itself; `graft experiment show` prints them, a new document has none. */
const SERVERS_OWN = ['version', 'status', 'winner', 'dropped'];

/** Placeholders for the server's choices, so that the rest can be checked first. */
const STAND_IN = { seed: 'stand-in', unit: 'user', coverage: 1, version: 1, status: 'draft' };

/**
 * @param design the request; a whole document works too. @returns the request.
 * @throws CliError (usage) for what the server would refuse, as far as it can be known here.
 */
export function checkDesign(design: Record<string, unknown>): CreateExperiment {
  const request = Object.fromEntries(
    Object.entries(design).filter(([field]) => !SERVERS_OWN.includes(field)),
  );
  refuse(CreateExperiment.safeParse(request));
  const { why: _, ...document } = request;
  // Without metrics the server's defaults apply, and it checks what refers to them.
  if (document['metrics'] !== undefined) checkDocument({ ...STAND_IN, ...document });
  return request as CreateExperiment;
}

/** Checks an edited document. @throws CliError (usage) */
export function checkDocument(document: Record<string, unknown>): Experiment {
  const parsed = Experiment.safeParse(document);
  refuse(parsed);
  const experiment = parsed.data as Experiment;
  const contradicted = contradictedGuardrail(experiment);
  if (contradicted !== null) throw usageError(`'guardrails.${contradicted.index}': ${contradicted.message}.`);
  return experiment;
}

function refuse({ error }: z.ZodSafeParseResult<unknown>): void {
  const issue = error?.issues[0];
  if (issue === undefined) return;
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  const where = [...issue.path, ...unknown].join('.');
  throw usageError(`${where === '' ? 'the experiment' : `'${where}'`}: ${issue.message}.`);
}
