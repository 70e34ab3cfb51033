import type { ArgsDef } from 'citty';
import {
  DegradePolicy,
  type ChangeKeyRequest,
  type KeyLimits,
  type KeyRights,
  type LimitsChange,
} from '../protocol/admin-api/keys.ts';
import type { RequestOf } from '../protocol/admin-api/operations.ts';
import { KeepHours, MAX_KEEP_HOURS } from '../protocol/admin-api/prompts.ts';
import { parseCount, parseDuration, usageError } from './flags.ts';

/** Limits that are counts, by their flags; `unit` follows the count where limits are listed. */
const LIMITS = {
  rpm: { field: 'requests_per_minute', description: 'Requests per minute', unit: ' req/min' },
  tpm: {
    field: 'tokens_per_minute',
    description: 'Tokens per minute, prompt and answer',
    unit: ' tok/min',
  },
  concurrent: { field: 'concurrent', description: 'Requests at the same time', unit: ' at once' },
  'tokens-per-day': { field: 'tokens_per_day', description: 'Token budget of a day, UTC', unit: ' tok/day' },
  'tokens-per-month': {
    field: 'tokens_per_month',
    description: 'Token budget of a month, UTC',
    unit: ' tok/month',
  },
} as const satisfies Record<string, { field: keyof KeyLimits; description: string; unit: string }>;

const counts = Object.fromEntries(
  Object.entries(LIMITS).map(([flag, { description }]) => [
    flag,
    { type: 'string', description, valueHint: 'count' },
  ]),
) as Record<keyof typeof LIMITS, { type: 'string'; description: string; valueHint: string }>;

/** Flags for the limits of a key or a tenant. */
export const limitFlags = {
  ...counts,
  'on-outage': {
    type: 'string',
    description: 'When limits cannot be checked: allow or refuse',
    valueHint: 'what',
  },
} as const satisfies ArgsDef;

/** A field as a flag: `strict_fields` is `--strict-fields`. */
type FlagOf<Field extends string> = Field extends `${infer Head}_${infer Rest}`
  ? `${Head}-${FlagOf<Rest>}`
  : Field;

/** Rights of a key, limits apart: each is given to a new key and changed by the same flag. */
const rightFlags = {
  strict: { type: 'boolean', description: 'Never answer with an ancestor of a missing name' },
  'strict-fields': {
    type: 'boolean',
    description: 'Refuse requests with unknown fields instead of dropping the fields',
  },
  download: {
    type: 'boolean',
    description:
      'May download the bytes of its tenant’s adapters: an admin key with graft download, an API key ' +
      'for pages (docs/guides/browser.md)',
  },
  publish: {
    type: 'boolean',
    description: 'An API key that lets pages publish staged versions (docs/guides/browser.md)',
  },
  train: {
    type: 'boolean',
    description:
      'May send files of rows and start fine-tuning jobs; an admin key does so in the console ' +
      '(docs/guides/fine-tuning.md)',
  },
  'keep-prompts': {
    type: 'string',
    description: `Keep its prompts and answers for this long, 1h to ${MAX_KEEP_HOURS / 24}d; default: not at all`,
    valueHint: 'time',
  },
  improve: {
    type: 'boolean',
    description: 'Decisions about its answers may make rows for graft improve (docs/guides/improve.md)',
  },
  prompts: {
    type: 'boolean',
    description: 'An admin key that may read its tenant’s kept prompts and answers (graft requests --show)',
  },
  'trust-trace': {
    type: 'boolean',
    description:
      'Let the traceparent of its requests decide whether they are traced, and pass on tracestate ' +
      '(docs/run/traces.md)',
  },
  degrade: {
    type: 'string',
    description: 'Fallback for an adapter that is unavailable: stale, ancestor, base or refuse',
    valueHint: 'what',
  },
} as const satisfies Record<FlagOf<Exclude<keyof KeyRights, 'limits'>>, ArgsDef[string]>;

/** Flags for creating a key. */
export const createFlags = {
  tenant: {
    type: 'string',
    description: 'Tenant of the key; default: your own',
    valueHint: 'tenant',
  },
  scopes: {
    type: 'string',
    description: 'Names of others that it may use: medicine/**,support/intent',
    valueHint: 'list',
  },
  label: { type: 'string', description: 'A note, such as "staging"', valueHint: 'text' },
  admin: { type: 'boolean', description: 'An admin key of the tenant instead of an API key' },
  ...limitFlags,
  ...rightFlags,
} as const satisfies ArgsDef;

const OUTAGE = ['allow', 'refuse'] as const;

/** Flags as citty parsed them. */
export type KeyArgs = Readonly<Record<string, unknown>>;

const text = (args: KeyArgs, flag: string): string | undefined => {
  const value = args[flag];
  return typeof value === 'string' && value !== '' ? value : undefined;
};

function oneOf<Word extends string>(args: KeyArgs, flag: string, known: readonly Word[]): Word | undefined {
  const value = text(args, flag);
  const word = known.find((one) => one === value);
  if (value === undefined || word !== undefined) return word;
  throw usageError(`--${flag} ${value} is not one of ${known.join(', ')}.`);
}

const switched = (args: KeyArgs, flag: string): boolean | undefined => {
  const value = args[flag];
  return typeof value === 'boolean' ? value : undefined;
};

const HOUR_MS = 3_600_000;

function keepHours(args: KeyArgs): number | undefined {
  const value = text(args, 'keep-prompts');
  if (value === undefined) return undefined;
  const hours = KeepHours.safeParse(parseDuration(value, '--keep-prompts') / HOUR_MS);
  if (hours.success) return hours.data;
  throw usageError(`--keep-prompts ${value} is not whole hours from 1h to ${MAX_KEEP_HOURS / 24}d.`);
}

const scopesOf = (args: KeyArgs): string[] | undefined =>
  text(args, 'scopes')
    ?.split(',')
    .map((scope) => scope.trim())
    .filter((scope) => scope !== '');

/** Those that can be changed later. */
export const CHANGE_FLAGS = Object.keys(createFlags).filter((flag) => flag !== 'tenant' && flag !== 'admin');
/** Removes a limit or the policy of an existing key. */
const NONE = 'none';

/** Values of {@link rightFlags} that are no booleans. */
const VALUES: Readonly<Record<string, (args: KeyArgs) => unknown>> = {
  'keep-prompts': keepHours,
  degrade: (args) => oneOf(args, 'degrade', DegradePolicy.options),
};

/** @param read a flag's value; undefined = it is not given. @returns the rights by their fields. */
const rightsBy = (read: (flag: string) => unknown): Record<string, unknown> =>
  Object.fromEntries(Object.keys(rightFlags).map((flag) => [flag.replaceAll('-', '_'), read(flag)]));
const rightOf = (args: KeyArgs, flag: string): unknown => VALUES[flag]?.(args) ?? switched(args, flag);

/** @returns limits to change, null for those to remove; undefined when none is given. @throws CliError */
export function limitsChange(args: KeyArgs): LimitsChange | undefined {
  const taken = (flag: string): boolean => args[flag] === NONE;
  const limits: LimitsChange = {};
  for (const [flag, { field }] of Object.entries(LIMITS)) {
    const value = text(args, flag);
    if (value !== undefined) limits[field] = taken(flag) ? null : parseCount(value, `--${flag}`);
  }
  const outage = taken('on-outage') ? null : oneOf(args, 'on-outage', OUTAGE);
  if (outage !== undefined) limits.on_outage = outage;
  return Object.keys(limits).length === 0 ? undefined : limits;
}

/** @returns the body of `POST /admin/keys/change`. @throws CliError for an invalid flag, or without flags. */
export function changeRequest(id: string, args: KeyArgs): ChangeKeyRequest {
  const taken = (flag: string): boolean => args[flag] === NONE;
  const change = {
    scopes: taken('scopes') ? [] : scopesOf(args),
    label: taken('label') ? '' : text(args, 'label'),
    limits: limitsChange(args),
    ...rightsBy((flag) => (taken(flag) ? null : rightOf(args, flag))),
  };
  if (Object.values(change).every((value) => value === undefined))
    throw usageError('What should change? For example --rpm 100, --scopes "a/**,b", --tpm none.');
  return { id, ...change };
}

/** @returns the body of `POST /admin/keys`. @throws CliError for an invalid flag. */
export function keyRequest(args: KeyArgs): RequestOf<'POST /admin/keys'> {
  const limits: KeyLimits = {};
  for (const [flag, { field }] of Object.entries(LIMITS)) {
    const value = text(args, flag);
    if (value !== undefined) limits[field] = parseCount(value, `--${flag}`);
  }
  const outage = oneOf(args, 'on-outage', OUTAGE);
  if (outage !== undefined && Object.keys(limits).length === 0)
    throw usageError('--on-outage needs a limit, and none is given.');
  const life = text(args, 'expires');
  return {
    ...(args['admin'] === true ? { kind: 'admin' } : {}),
    tenant: text(args, 'tenant'),
    scopes: scopesOf(args),
    label: text(args, 'label'),
    expires_in: life === undefined ? undefined : parseDuration(life, '--expires'),
    limits:
      Object.keys(limits).length === 0
        ? undefined
        : { ...limits, ...(outage === undefined ? {} : { on_outage: outage }) },
    ...rightsBy((flag) => rightOf(args, flag) || undefined),
  };
}

const count = (value: number): string => {
  if (value >= 1_000_000 && value % 100_000 === 0) return `${value / 1_000_000}M`;
  return value >= 1_000 && value % 100 === 0 ? `${value / 1_000}k` : String(value);
};

/** @returns such as `60 req/min, 100k tok/min, 4 at once`. */
export function limitsText(limits: KeyLimits | null): string {
  if (limits === null) return '-';
  return Object.values(LIMITS)
    .flatMap(({ field, unit }) => {
      const value = limits[field];
      return value === undefined ? [] : `${count(value)}${unit}`;
    })
    .join(', ');
}
