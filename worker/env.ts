import { z } from 'zod';
import { BaseId, Digest, nameProblem, Tenant } from '../protocol/identity.ts';
import { parseSigningKeys, type SigningKey } from '../protocol/signature.ts';
import { BOOTSTRAP_TENANT } from './access/ports.ts';
import { SignInLink } from './access/require-admin.ts';
import type { AnalyticsDataset } from './http/request.ts';
import { PriceList, withDefaultBase } from './metering/ports.ts';
import type { Origin } from './origins/routing.ts';
import type { SqlDatabase } from './platform/d1-database.ts';
import type { DurableNamespace, KvNamespace } from './platform/store-calls.ts';
import type { ObjectBucket } from './blobs/parts.ts';

/** Bindings as wrangler.toml and the secrets give them. */
export interface RawEnv {
  ADAPTERS: KvNamespace;
  DB: SqlDatabase;
  /** Where adapters' bytes go; without it they go to KV. What lies in KV already is read from there. */
  BLOBS?: ObjectBucket;
  /** Writes the names in KV, one change after the other (worker/registry/pointer-writer-object.ts). */
  POINTERS: DurableNamespace;
  /** Counts what keys with limits use; without it their limits are not kept (or refuse, as the key says). */
  QUOTAS?: DurableNamespace;
  /** Counts the units of experiments (worker/experiments/tally-object.ts). */
  EXPERIMENTS: DurableNamespace;
  /** Counts judged pairs (worker/experiments/pairs/pairs-object.ts). */
  PAIRS: DurableNamespace;
  /** Adds up traffic of all isolates (worker/traffic/traffic-gatherer-object.ts); without it each writes its own to D1. */
  TRAFFIC?: DurableNamespace;
  /** Gets a data point a completion and a feedback; docs/operations.md lists the columns. */
  ANALYTICS?: AnalyticsDataset;
  /** Reaches public addresses alone, outside of Cloudflare; on Cloudflare `fetch` does. */
  CALL_OUT?: { fetch(url: string, init: RequestInit): Promise<Response> };
  /** The built dashboard's files. */
  ASSETS?: { fetch(url: string): Promise<Response> };
  /** JSON `[{"id": "...", "url": "https://...", "base": "..."}]`; all have a `base`, or none has. */
  ORIGINS: string;
  /** Id of the base that `base` means; that of the first origin unless given. Only where the origins say their base. */
  DEFAULT_BASE?: string;
  /** `kid:base64,…`; shared with the origins. */
  GRAFT_ORIGIN_KEYS: string;
  /** base64 of at least 32 random bytes; signs what KV holds. */
  GRAFT_MAC_KEY: string;
  /** `base64,…`: what is signed with these is good too, while GRAFT_MAC_KEY is rotated (docs/operations.md). */
  GRAFT_ACCEPTED_MAC_KEYS?: string;
  /** sha256 of the first admin key, hex; without it only admin keys in D1 are good. */
  GRAFT_ADMIN_KEY_SHA256?: string;
  /** `https://app.example.com,…` or `*`: pages that may call `/v1/*` from a browser; none unless given. */
  CORS_ORIGINS?: string;
  /** Share of the requests that are logged, 0 to 1; failures always are. 0 unless given. */
  LOG_SAMPLE?: string;
  /** JSON, {@link PriceList}: what tokens cost, for the reports of usage; no costs unless given. */
  PRICES?: string;
  /** `on`: packed files that lie in KV under `drop:<name>` are published. Off unless given. */
  DROPS?: string;
  /** Tenant that owns what is dropped where no name above has an owner; that of the first admin key unless given. */
  DROP_TENANT?: string;
  /** `on`: what the edge calls because a tenant says so may be this machine itself, by plain http. `graft dev` sets it. */
  LOOPBACK_CALLBACKS?: string;
  /** Longest that what an isolate noted waits before it is written, ms; each kind's own time unless given. Tests set it. */
  FLUSH_MS?: string;
  /** JSON, {@link SignInLink}: signs the dashboard in by a link. `graft dev` alone sets it. */
  SIGN_IN?: string;
}

export interface Config {
  origins: Origin[];
  /** null = the first origin's. */
  defaultBase: string | null;
  originKeys: SigningKey[];
  macKey: Uint8Array<ArrayBuffer>;
  acceptedMacKeys: Uint8Array<ArrayBuffer>[];
  adminKeyHash: string | null;
  /** Origins of pages, in the browser's sense. */
  corsOrigins: readonly string[];
  logSample: number;
  /** null = reports of usage have no costs. */
  prices: PriceList | null;
  /** Owner of dropped files where no name above has one; null = files are not taken in. */
  dropTenant: string | null;
  /** Whether what tenants have called may be this machine itself. */
  loopbackCallbacks: boolean;
  /** null = the dashboard is signed in with an admin key alone. */
  signInLink: SignInLink | null;
}

const MIN_SECRET_BYTES = 32;

const isPlain = (url: URL): boolean => url.username + url.password + url.search + url.hash === '';

const Origins = z
  .array(
    z.strictObject({
      id: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
      url: z
        .url({ protocol: /^https?$/ })
        // A password would be in every log line about a failed request; requests are signed.
        .refine((url) => isPlain(new URL(url)), 'must have no name, password, query or fragment')
        .transform((url) => url.replace(/\/+$/, '')),
      base: BaseId.refine((id) => nameProblem(id) === null, 'names nothing: it is reserved').optional(),
    }),
  )
  .min(1)
  .refine(
    (origins) => new Set(origins.map(({ id }) => id)).size === origins.length,
    'two origins share an id',
  )
  // An origin of an unknown base beside others could be asked for what it does not serve.
  .refine(
    (origins) => new Set(origins.map(({ base }) => base === undefined)).size === 1,
    'either every origin says its base or none does',
  );

const json = z.string().transform((text, context) => {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    context.addIssue({ code: 'custom', message: 'is not JSON' });
    return z.NEVER;
  }
});

const secret = z.string().transform((text, context) => {
  try {
    const bytes = Uint8Array.from(atob(text.trim()), (character) => character.charCodeAt(0));
    if (bytes.length >= MIN_SECRET_BYTES) return bytes;
  } catch {
    // Falls through: said below, without the text, which is a secret.
  }
  context.addIssue({ code: 'custom', message: `is not base64 of at least ${MIN_SECRET_BYTES} bytes` });
  return z.NEVER;
});

const signingKeys = z.string().transform((text, context) => {
  try {
    return parseSigningKeys(text);
  } catch (error) {
    context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : 'is malformed' });
    return z.NEVER;
  }
});

function isPageOrigin(text: string): boolean {
  try {
    return new URL(text).origin === text;
  } catch {
    return false;
  }
}

const corsOrigins = z
  .string()
  .transform((text) => text.split(',').flatMap((entry) => entry.trim() || []))
  .refine(
    (entries) => entries.every((entry) => entry === '*' || isPageOrigin(entry)),
    'must be origins such as https://app.example.com, separated by commas, or *',
  );

const share = z
  .string()
  .regex(/^(0|1|0?\.\d+|1\.0+)$/, 'must be a number from 0 to 1')
  .transform(Number);

const Variables = z
  .object({
    ORIGINS: json.pipe(Origins),
    DEFAULT_BASE: BaseId.or(z.literal('')).optional(),
    GRAFT_ORIGIN_KEYS: signingKeys,
    GRAFT_MAC_KEY: secret,
    GRAFT_ACCEPTED_MAC_KEYS: z
      .string()
      .transform((text) => text.split(',').flatMap((entry) => entry.trim() || []))
      .pipe(z.array(secret))
      .optional(),
    GRAFT_ADMIN_KEY_SHA256: z.union([Digest, z.literal('')]).optional(),
    CORS_ORIGINS: corsOrigins.optional(),
    LOG_SAMPLE: share.optional(),
    PRICES: z.literal('').or(json.pipe(PriceList)).optional(),
    DROPS: z.enum(['on', 'off', ''], 'must be on or off').optional(),
    DROP_TENANT: Tenant.or(z.literal('')).optional(),
    LOOPBACK_CALLBACKS: z.enum(['on', 'off', ''], 'must be on or off').optional(),
    SIGN_IN: json.pipe(SignInLink).optional(),
  })
  .refine(({ ORIGINS, DEFAULT_BASE }) => !DEFAULT_BASE || ORIGINS.some(({ base }) => base === DEFAULT_BASE), {
    path: ['DEFAULT_BASE'],
    message: 'must be the base of one of ORIGINS',
  });

/** @throws Error that names what is wrong, never a secret. */
export function parseEnv(
  raw: Omit<
    RawEnv,
    'ADAPTERS' | 'DB' | 'POINTERS' | 'BLOBS' | 'QUOTAS' | 'EXPERIMENTS' | 'PAIRS' | 'TRAFFIC' | 'ANALYTICS'
  >,
): Config {
  const parsed = Variables.safeParse(raw);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new Error(`The worker's configuration is wrong. ${problems.join('; ')}`);
  }
  return {
    origins: parsed.data.ORIGINS,
    defaultBase: parsed.data.DEFAULT_BASE || null,
    originKeys: parsed.data.GRAFT_ORIGIN_KEYS,
    macKey: parsed.data.GRAFT_MAC_KEY,
    acceptedMacKeys: parsed.data.GRAFT_ACCEPTED_MAC_KEYS ?? [],
    adminKeyHash: parsed.data.GRAFT_ADMIN_KEY_SHA256 || null,
    corsOrigins: parsed.data.CORS_ORIGINS ?? [],
    logSample: parsed.data.LOG_SAMPLE ?? 0,
    prices: parsed.data.PRICES
      ? withDefaultBase(
          parsed.data.PRICES,
          parsed.data.DEFAULT_BASE || (parsed.data.ORIGINS[0]?.base ?? null),
        )
      : null,
    loopbackCallbacks: parsed.data.LOOPBACK_CALLBACKS === 'on',
    signInLink: parsed.data.SIGN_IN ?? null,
    dropTenant: parsed.data.DROPS === 'on' ? parsed.data.DROP_TENANT || BOOTSTRAP_TENANT : null,
  };
}
