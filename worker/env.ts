import { z } from 'zod';
import { Digest, parseSigningKeys, type SigningKey } from '../protocol/index.ts';
import type { Origin } from './policy/choose-origin.ts';
import type { SqlDatabase } from './stores/d1-database.ts';
import type { KvNamespace } from './stores/kv-namespace.ts';

/** Bindings as wrangler.toml and the secrets give them. */
export interface RawEnv {
  ADAPTERS: KvNamespace;
  DB: SqlDatabase;
  /** JSON `[{"id": "...", "url": "https://..."}]`. */
  ORIGINS: string;
  /** `kid:base64,…`; shared with the origins. */
  GRAFT_ORIGIN_KEYS: string;
  /** base64 of at least 32 random bytes; signs what KV holds. */
  GRAFT_MAC_KEY: string;
  /** sha256 of the first admin key, hex; without it only admin keys in D1 are good. */
  GRAFT_ADMIN_KEY_SHA256?: string;
}

export interface Config {
  origins: Origin[];
  originKeys: SigningKey[];
  macKey: Uint8Array<ArrayBuffer>;
  adminKeyHash: string | null;
}

const MIN_SECRET_BYTES = 32;

const Origins = z
  .array(
    z.strictObject({
      id: z.string().regex(/^[A-Za-z0-9._-]{1,64}$/),
      url: z.url({ protocol: /^https?$/ }).transform((url) => url.replace(/\/+$/, '')),
    }),
  )
  .min(1)
  .refine(
    (origins) => new Set(origins.map(({ id }) => id)).size === origins.length,
    'two origins share an id',
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

const Variables = z.object({
  ORIGINS: json.pipe(Origins),
  GRAFT_ORIGIN_KEYS: signingKeys,
  GRAFT_MAC_KEY: secret,
  GRAFT_ADMIN_KEY_SHA256: z.union([Digest, z.literal('')]).optional(),
});

/** @throws Error that names what is wrong, never a secret. */
export function parseEnv(raw: Omit<RawEnv, 'ADAPTERS' | 'DB'>): Config {
  const parsed = Variables.safeParse(raw);
  if (!parsed.success) {
    const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`);
    throw new Error(`The worker's configuration is wrong. ${problems.join('; ')}`);
  }
  return {
    origins: parsed.data.ORIGINS,
    originKeys: parsed.data.GRAFT_ORIGIN_KEYS,
    macKey: parsed.data.GRAFT_MAC_KEY,
    adminKeyHash: parsed.data.GRAFT_ADMIN_KEY_SHA256 || null,
  };
}
