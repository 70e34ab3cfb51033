/** Keys: requests and answers of the admin API. Never the hash, and the key itself only once. */
import { z } from 'zod';
import { Digest, Scope, Tenant } from '../identity.ts';
import {
  DEFAULT_KEY_GRACE_MS,
  MAX_KEY_GRACE_MS,
  MAX_KEY_LIFE_MS,
  MAX_KEYS_SHOWN,
  MAX_SCOPES,
  type AdminOperationTable,
} from './operation.ts';
import { KeepHours } from './prompts.ts';

/** A count that is limited. */
const limit = z.int().positive();

const LIMITS = {
  /** Per minute. */
  requests_per_minute: limit,
  /** Prompt and completion, per minute. */
  tokens_per_minute: limit,
  /** Requests in progress at the same time. */
  concurrent: limit,
  /** Budgets, by the calendar in UTC. */
  tokens_per_day: limit,
  tokens_per_month: limit,
  /** If the counter does not answer. */
  on_outage: z.enum(['allow', 'refuse']),
};

/** Limits of one key; absent ones do not apply. */
export const KeyLimitsView = z.object(LIMITS).partial().meta({ id: 'KeyLimits' });
/** The same as it is requested and stored: an unknown limit is an error. */
export const KeyLimits = KeyLimitsView.strict();
export type KeyLimits = z.infer<typeof KeyLimits>;

/**
 * Fallback for an unavailable adapter (KV does not answer, or no origin can load it): the last known version,
 * the nearest ancestor, the base model, or none.
 */
export const DegradePolicy = z.enum(['stale', 'ancestor', 'base', 'refuse']);
export type DegradePolicy = z.infer<typeof DegradePolicy>;

/**
 * What a key may do beside its scopes, and how much. A field here is a field of requests and views, of the record in KV
 * and of column `rights` in D1. A key without it has false or null.
 */
const RIGHTS = {
  limits: KeyLimitsView,
  /** Names never resolve to an ancestor. */
  strict: z.boolean(),
  /** Unknown fields are refused. */
  strict_fields: z.boolean(),
  degrade: DegradePolicy,
  /** May download the bytes of its tenant's adapters; with an API key, pages do so by tokens. */
  download: z.boolean(),
  /** An API key that makes tokens with which pages publish staged versions of its tenant's names. */
  publish: z.boolean(),
  /** May send files of rows and start fine-tuning jobs; an admin key does so in the console. */
  train: z.boolean(),
  /** Hours for which an API key's prompts and answers are kept; null = not kept. */
  keep_prompts: KeepHours,
  /** Users' decisions about an API key's answers may make rows that improve its tenant's adapters. */
  improve: z.boolean(),
  /** An admin key that may read its tenant's kept prompts and answers. */
  prompts: z.boolean(),
  /** `traceparent` of its requests decides whether they are traced, and `tracestate` goes on; an admin key may give it. */
  trust_trace: z.boolean(),
};

/** Which kind of key a right is for. */
export const KIND_OF_RIGHT = {
  limits: 'api',
  strict: 'api',
  strict_fields: 'api',
  degrade: 'api',
  download: 'both',
  publish: 'api',
  train: 'both',
  keep_prompts: 'api',
  improve: 'api',
  prompts: 'admin',
  trust_trace: 'both',
} as const satisfies Record<keyof typeof RIGHTS, 'api' | 'admin' | 'both'>;

/** Rights that differ from what a key has unless said: as they are requested, and as KV and D1 hold them. */
export const KeyRights = z.strictObject({ ...RIGHTS, limits: KeyLimits }).partial();
export type KeyRights = z.infer<typeof KeyRights>;

type Values = Record<string, z.ZodType>;
type Whole<Shape extends Values> = {
  [Field in keyof Shape]: Shape[Field] extends z.ZodBoolean ? z.ZodBoolean : z.ZodNullable<Shape[Field]>;
};
type Changed<Shape extends Values> = {
  [Field in keyof Shape]: z.ZodOptional<
    Shape[Field] extends z.ZodBoolean ? z.ZodBoolean : z.ZodNullable<Shape[Field]>
  >;
};

const whole = <Shape extends Values>(shape: Shape): Whole<Shape> =>
  Object.fromEntries(
    Object.entries(shape).map(([field, value]) => [
      field,
      value instanceof z.ZodBoolean ? value : value.nullable(),
    ]),
  ) as Whole<Shape>;

/** What is not given stays; null takes a value away. */
const changed = <Shape extends Values>(shape: Shape): Changed<Shape> =>
  Object.fromEntries(
    Object.entries(whole(shape)).map(([field, value]) => [field, (value as z.ZodType).optional()]),
  ) as Changed<Shape>;

const AllRights = z.object(whole(RIGHTS));
/** All of them, given or not. */
export type AllRights = z.infer<typeof AllRights>;

/** What a key has unless said. */
export const NO_RIGHTS = Object.fromEntries(
  Object.entries(RIGHTS).map(([field, value]) => [field, value instanceof z.ZodBoolean ? false : null]),
) as AllRights;

/** `POST /admin/keys/change`, and one of `GET /admin/keys`. */
export const KeyView = z
  .object({
    id: z.string(),
    kind: z.enum(['api', 'admin']),
    tenant: z.string(),
    /** Names of others that it may use. */
    scopes: z.array(z.string()),
    /** Owner of what each scope opens, in the same order; null = any owner, which only `**` has. */
    scope_owners: z.array(z.string().nullable()),
    label: z.string(),
    /** Unix ms, like the others. */
    created_at: z.int(),
    /** Id of the key that created it. */
    created_by: z.string(),
    revoked_at: z.int().nullable(),
    /** null = never. */
    expires_at: z.int().nullable(),
    ...AllRights.shape,
    /** Id of the key that replaced it, the last one if several did. */
    replaced_by: z.string().nullable(),
    /** Id of the key that it replaced. */
    replaces: z.string().nullable(),
  })
  .meta({ id: 'KeyView' });
export type KeyView = z.infer<typeof KeyView>;

/** `GET /admin/keys?cursor=&limit=`: a page, newest first. */
export const KeyList = z
  .object({ keys: z.array(KeyView), cursor: z.string().nullable() })
  .meta({ id: 'KeyList' });
export type KeyList = z.infer<typeof KeyList>;

/** `POST /admin/keys`: includes the key itself, which is shown only this once, unless the caller sent a hash. */
export const NewKey = KeyView.extend({ key: z.string().optional() }).meta({ id: 'NewKey' });
export type NewKey = z.infer<typeof NewKey>;

/** `POST /admin/keys/rotate`: the new key, and when the replaced one ends. */
export const RotatedKey = KeyView.extend({
  key: z.string(),
  replaces: z.string(),
  old_expires_at: z.int(),
}).meta({ id: 'RotatedKey' });
export type RotatedKey = z.infer<typeof RotatedKey>;

/** `DELETE /admin/keys/<id>?report=true`: the revoked keys, ordered by id, a page at a time. */
export const RevocationView = z
  .object({
    /** The key in the request. */
    id: z.string(),
    /** It and the keys that replaced it; with `made=true` also the keys that they created. */
    revoked: z.array(KeyView),
    /** Valid keys that they created; at most 100. */
    made: z.array(KeyView),
    /** There are more of those. */
    more_made: z.boolean(),
    /** Cursor of the next page; null at the end. */
    cursor: z.string().nullable(),
  })
  .meta({ id: 'RevocationView' });
export type RevocationView = z.infer<typeof RevocationView>;

const Label = z
  .string()
  .max(128)
  .regex(/^[\x20-\x7e]*$/, 'must be printable ASCII');

const Scopes = z.array(Scope).max(MAX_SCOPES);
/** Lifetime, ms: only the server's clock decides. */
const Life = z.int().positive().max(MAX_KEY_LIFE_MS);

/** `POST /admin/keys`. */
export const KeyRequest = z
  .strictObject({
    kind: z.enum(['api', 'admin']).default('api'),
    tenant: Tenant.optional(),
    scopes: Scopes.default([]),
    label: Label.default(''),
    /** sha256 of a key that the caller created and keeps. */
    hash: Digest.optional(),
    expires_in: Life.optional(),
    ...KeyRights.shape,
  })
  .meta({ id: 'KeyRequest' });
export type KeyRequest = z.infer<typeof KeyRequest>;

/** `POST /admin/keys/rotate`. */
export const RotateKeyRequest = z
  .strictObject({
    id: z.string().max(64),
    /** How long the old key stays valid, ms. */
    grace: z.int().min(0).max(MAX_KEY_GRACE_MS).default(DEFAULT_KEY_GRACE_MS),
    /** Lifetime of the new key; default: that of the old one. */
    expires_in: Life.optional(),
  })
  .meta({ id: 'RotateKeyRequest' });

/** Omitted fields stay; null removes a limit. */
export const LimitsChange = z.strictObject(changed(LIMITS));
export type LimitsChange = z.infer<typeof LimitsChange>;

/** `POST /admin/keys/change`: omitted fields stay; null removes a limit, all limits, or the policy. */
export const ChangeKeyRequest = z
  .strictObject({
    id: z.string().max(64),
    scopes: Scopes.optional(),
    label: Label.optional(),
    ...changed(RIGHTS),
    limits: LimitsChange.nullish(),
  })
  .meta({ id: 'ChangeKeyRequest' });
export type ChangeKeyRequest = z.infer<typeof ChangeKeyRequest>;

const flag = z.enum(['true', 'false']);
/** Characters of a time, a key's id and what is between them. */
const MAX_KEY_CURSOR = 96;

export const KEY_OPERATIONS = {
  'POST /admin/keys': {
    id: 'createKey',
    tag: 'keys',
    rights: 'admin',
    summary: 'Creates a key, or registers one by its hash.',
    query: null,
    request: KeyRequest,
    answers: {
      200: { description: 'The key with this hash, which existed already.', schema: KeyView },
      201: {
        description:
          'The new key. `key`, the secret itself, is shown only this once, and not at all if a hash ' +
          'was sent.',
        schema: NewKey,
      },
    },
  },
  'POST /admin/keys/rotate': {
    id: 'rotateKey',
    tag: 'keys',
    rights: 'admin',
    summary: 'Creates a key that replaces another, which ends after `grace` ms.',
    query: null,
    request: RotateKeyRequest,
    answers: {
      201: {
        description: 'The new key. `key`, the secret itself, is shown only this once.',
        schema: RotatedKey,
      },
    },
  },
  'POST /admin/keys/change': {
    id: 'changeKey',
    tag: 'keys',
    rights: 'admin',
    summary: 'Changes what a key may do; omitted fields stay as they are.',
    query: null,
    request: ChangeKeyRequest,
    answers: { 200: { description: 'The key after the change.', schema: KeyView } },
  },
  'GET /admin/keys': {
    id: 'listKeys',
    tag: 'keys',
    rights: 'admin',
    summary: "Lists the tenant's keys, newest first.",
    query: z.strictObject({
      /** Of the previous answer. */
      cursor: z.string().max(MAX_KEY_CURSOR).nullable().default(null),
      limit: z
        .string()
        .regex(/^[1-9]\d{0,3}$/, 'must be a positive whole number')
        .transform(Number)
        .pipe(z.int().max(MAX_KEYS_SHOWN))
        .default(MAX_KEYS_SHOWN),
    }),
    request: null,
    answers: { 200: { description: 'A page of keys.', schema: KeyList } },
  },
  'DELETE /admin/keys/:id': {
    id: 'revokeKey',
    tag: 'keys',
    rights: 'admin',
    summary: 'Revokes a key and the keys that replaced it.',
    query: z.strictObject({
      /** `true`: 200 with the revoked keys, instead of 204. */
      report: flag.default('false'),
      /** `false`: this key alone; the keys that replaced it stay valid. */
      successors: flag.default('true'),
      /** `true`: also the keys that these created. */
      made: flag.default('false'),
      /** `true`: delete their kept prompts and answers now, instead of when they expire. */
      forget_prompts: flag.default('false'),
      /** Cursor of the previous answer. */
      cursor: z.string().max(64).nullable().default(null),
    }),
    request: null,
    answers: {
      200: { description: 'What was revoked, with `report=true`.', schema: RevocationView },
      204: { description: 'The keys are revoked.', schema: null },
    },
  },
} as const satisfies AdminOperationTable;
