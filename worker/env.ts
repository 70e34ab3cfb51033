import { z } from 'zod';
import { BaseId, Digest, nameProblem, Tenant } from '../protocol/identity.ts';
import { parseSigningKeys, type SigningKey } from '../protocol/signature.ts';
import { BOOTSTRAP_TENANT } from './access/ports.ts';
import { SignInLink } from './access/require-admin.ts';
import type { AnalyticsDataset } from './http/request.ts';
import { PriceList, withDefaultBase } from './metering/ports.ts';
import type { Origin } from './origins/routing.ts';
import { RECEIVER_VARIABLES, receiverOf, type SpanReceiver } from './tracing/send-spans.ts';
import type { SqlDatabase } from './platform/d1-database.ts';
import type { DurableNamespace, KvNamespace } from './platform/store-calls.ts';
import type { ObjectBucket } from './blobs/parts.ts';

/** Bindings from wrangler.toml and the secrets. */
export interface RawEnv {
  ADAPTERS: KvNamespace;
  DB: SqlDatabase;
  /** A database of its own, with the same schema, for usage and traffic; without it they lie in DB. */
  DB_USAGE?: SqlDatabase;
  /** Storage of adapters' bytes; without it they go to KV. Existing data in KV is still read from there. */
  BLOBS?: ObjectBucket;
  /** Writes names to KV, one change at a time (worker/registry/pointer-writer-object.ts). */
  POINTERS: DurableNamespace;
  /**
   * Counts the usage of keys with limits; without it limits are not enforced (or refuse, by the key's policy).
   */
  QUOTAS?: DurableNamespace;
  /** Counts the units of experiments (worker/experiments/tally-object.ts). */
  EXPERIMENTS: DurableNamespace;
  /** Counts judged pairs (worker/experiments/pairs/pairs-object.ts). */
  PAIRS: DurableNamespace;
  /** Keep what isolates have counted, and the list of requests (worker/gathering/gatherer-object.ts). */
  GATHERERS: DurableNamespace;
  /** Gets a data point a completion and a feedback; docs/run/alerts.md lists the columns. */
  ANALYTICS?: AnalyticsDataset;
  /** Reaches only public addresses, outside of Cloudflare; on Cloudflare `fetch` does. */
  CALL_OUT?: { fetch(url: string, init: RequestInit): Promise<Response> };
  /** The built console's files. */
  ASSETS?: { fetch(url: string): Promise<Response> };
  /** JSON `[{"id": "...", "url": "https://...", "base": "..."}]`; either all have a `base`, or none. */
  ORIGINS: string;
  /** Id of the base that `base` means; default: that of the first origin. Only if the origins name their base. */
  DEFAULT_BASE?: string;
  /** `kid:base64,…`; shared with the origins. */
  GRAFT_ORIGIN_KEYS: string;
  /** base64 of at least 32 random bytes; signs the values in KV. */
  GRAFT_MAC_KEY: string;
  /** `base64,…`: what is signed with these is good too, while GRAFT_MAC_KEY is rotated (docs/run/keys-and-limits.md). */
  GRAFT_ACCEPTED_MAC_KEYS?: string;
  /** sha256 of the first admin key, hex; without it only admin keys in D1 are valid. */
  GRAFT_ADMIN_KEY_SHA256?: string;
  /** `https://app.example.com,…` or `*`: pages that may call `/v1/*` from a browser; default: none. */
  CORS_ORIGINS?: string;
  /** Share of the requests that are logged, 0 to 1, default 0; failures always are. */
  LOG_SAMPLE?: string;
  /** Share of the completions and feedback that get a data point, 0 to 1, default 1; failures always do. */
  ANALYTICS_SAMPLE?: string;
  /** Share of the requests whose trace is recorded, 0 to 1, default 0; of keys with `trust_trace`, their clients say which. */
  TRACE_SAMPLE?: string;
  /** Where spans go, by OTLP over HTTP; `/v1/traces` is added. Without it, to Workers' own tracing where the runtime has it. */
  OTEL_EXPORTER_OTLP_ENDPOINT?: string;
  /** The same, used as it is. */
  OTEL_EXPORTER_OTLP_TRACES_ENDPOINT?: string;
  /** `key=value,…`, percent-encoded: such as a vendor's key. A secret. */
  OTEL_EXPORTER_OTLP_HEADERS?: string;
  /** Default `graft-edge`. */
  OTEL_SERVICE_NAME?: string;
  /** `on`: names and keys are read through the Cache API, which spares reads of KV. Default: off. */
  KV_CACHE?: string;
  /** JSON, {@link PriceList}: token prices for usage reports; default: no costs. */
  PRICES?: string;
  /** `on`: packed files in KV under `drop:<name>` are published. Default: off. */
  DROPS?: string;
  /** Owner of dropped files if no name above has one; default: the first admin key's tenant. */
  DROP_TENANT?: string;
  /** `on`: addresses given by tenants may be this machine itself, by plain http. `graft dev` sets it. */
  LOOPBACK_CALLBACKS?: string;
  /**
   * Longest time that an isolate buffers records before writing them, ms; default: each kind's own. Tests set
   * it.
   */
  FLUSH_MS?: string;
  /** JSON, {@link SignInLink}: signs in to the console by a link. Only `graft dev` sets it. */
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
  pointSample: number;
  traceShare: number;
  /** null = spans are not sent. */
  spanReceiver: SpanReceiver | null;
  /** Whether KV is read through the location's cache. */
  locationCache: boolean;
  /** null = usage reports have no costs. */
  prices: PriceList | null;
  /** Owner of dropped files if no name above has one; null = files are not accepted. */
  dropTenant: string | null;
  /** Whether addresses given by tenants may be this machine itself. */
  loopbackCallbacks: boolean;
  /** null = the console needs an admin key. */
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
      base: BaseId.refine((id) => nameProblem(id) === null, 'is a reserved name').optional(),
    }),
  )
  .min(1)
  .refine(
    (origins) => new Set(origins.map(({ id }) => id)).size === origins.length,
    'two origins share an id',
  )
  // An origin with an unknown base among others could be asked for what it does not serve.
  .refine(
    (origins) => new Set(origins.map(({ base }) => base === undefined)).size === 1,
    'either every origin names its base or none does',
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
    // Falls through: reported below, without the text, which is a secret.
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
    ANALYTICS_SAMPLE: share.optional(),
    TRACE_SAMPLE: share.optional(),
    ...RECEIVER_VARIABLES,
    KV_CACHE: z.enum(['on', 'off', ''], 'must be on or off').optional(),
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
    | 'ADAPTERS'
    | 'DB'
    | 'DB_USAGE'
    | 'POINTERS'
    | 'BLOBS'
    | 'QUOTAS'
    | 'EXPERIMENTS'
    | 'PAIRS'
    | 'GATHERERS'
    | 'ANALYTICS'
  >,
): Config {
  const parsed = Variables.safeParse(raw);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new Error(`The worker's configuration is invalid. ${problems.join('; ')}`);
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
    pointSample: parsed.data.ANALYTICS_SAMPLE ?? 1,
    traceShare: parsed.data.TRACE_SAMPLE ?? 0,
    spanReceiver: receiverOf(parsed.data),
    locationCache: parsed.data.KV_CACHE === 'on',
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
